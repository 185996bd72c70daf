//! Which interfaces we attach to.

use super::KernelError;
use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nameindex, if_nametoindex},
    sys::socket::SockaddrLike as _,
};
use std::{collections::BTreeMap, io};

/// Name by index. Of `wanted` those that exist; with none wanted, every interface that is up, is not loopback and has
/// an address (IPv6 link-local ones, which every interface gets by itself, do not count).
pub(super) fn present(wanted: &[String]) -> Result<BTreeMap<u32, String>, KernelError> {
    let names = if wanted.is_empty() {
        with_address()?
    } else {
        wanted.to_vec()
    };
    let by_index = |name: String| Some((if_nametoindex(name.as_str()).ok()?, name));
    Ok(names.into_iter().filter_map(by_index).collect())
}

/// The name of an interface, up or down; `None`: there is none of this index. Not by if_indextoname: nix 0.31 takes
/// its NULL for success.
pub(super) fn name(index: u32) -> Option<String> {
    let all = if_nameindex().ok()?;
    let mut named = all.iter().filter(|i| i.index() == index);
    named.next().map(|i| i.name().to_string_lossy().into_owned())
}

/// At start, a configured interface that does not exist is a mistake.
pub(super) fn check(wanted: &[String]) -> Result<(), KernelError> {
    for name in wanted {
        if if_nametoindex(name.as_str()).is_err() {
            let all = if_nameindex().map_err(|e| list(e.into()))?;
            let present: Vec<_> = all.iter().map(|i| i.name().to_string_lossy()).collect();
            return Err(KernelError::NoInterface {
                name: name.clone(),
                present: present.join(", "),
            });
        }
    }
    Ok(())
}

fn with_address() -> Result<Vec<String>, KernelError> {
    let mut names = Vec::new();
    for entry in getifaddrs().map_err(|e| list(e.into()))? {
        let flags = entry.flags;
        let usable = flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let global = entry
            .address
            .as_ref()
            .is_some_and(|address| match address.family() {
                Some(nix::sys::socket::AddressFamily::Inet) => true,
                Some(nix::sys::socket::AddressFamily::Inet6) => address
                    .as_sockaddr_in6()
                    .is_some_and(|a| !a.ip().is_unicast_link_local()),
                _ => false,
            });
        if usable && global && !names.contains(&entry.interface_name) {
            names.push(entry.interface_name);
        }
    }
    Ok(names)
}

fn list(source: io::Error) -> KernelError {
    KernelError::List {
        what: "network interfaces",
        source,
    }
}
