//! What `doctor` asks about the kernel side. Reads only; needs no agent.

pub use super::netlink::{Route, UdpSocket};
use super::{Features, KernelError, attach, ethtool, interfaces, netlink::Netlink, tcx};
use aya::programs::links::{FdLink, PinnedLink};
use std::{io, path::Path};

/// One interface.
#[derive(Debug, Clone, Default)]
pub struct InterfaceFacts {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively.
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
    /// By ethtool, where the interface has it.
    pub driver: Option<String>,
    /// The XDP program on it.
    pub xdp: Option<Program>,
    /// The TC programs of ingress and egress, in the order they run.
    pub tc: [Vec<Program>; 2],
    /// Why the TC programs cannot be told.
    pub tc_untold: Option<String>,
}

/// A program on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// `NAME (id N)`
    pub words: String,
    /// Pinned by this instance.
    pub ours: bool,
}

/// The interfaces that the configuration chooses and that exist: index and name.
pub fn chosen(wanted: &[String]) -> Result<Vec<(u32, String)>, KernelError> {
    Ok(interfaces::present(wanted)?.into_iter().collect())
}

/// The name of an interface.
pub fn name(index: u32) -> String {
    interfaces::name(index).unwrap_or_else(|| format!("index {index}"))
}

/// One interface, as the kernel tells it. `pin_dir` tells which programs are ours.
pub fn interface(index: u32, name: &str, pin_dir: &Path) -> io::Result<InterfaceFacts> {
    let ours = ours(index, pin_dir);
    let program = |id: u32| Program {
        words: attach::program(id),
        ours: ours.contains(&id),
    };
    let link = Netlink::route()?.link(index)?;
    let side = |ingress| tcx::programs(index, ingress).map(|ids| ids.into_iter().map(program).collect());
    let (tc, tc_untold) = if Features::detect().tcx {
        match (side(true), side(false)) {
            (Ok(ingress), Ok(egress)) => ([ingress, egress], None),
            (Err(e), _) | (_, Err(e)) => (Default::default(), Some(e.to_string())),
        }
    } else {
        let why = "this kernel has no TCX (needs 6.6); clsact does not tell".to_owned();
        (Default::default(), Some(why))
    };
    Ok(InterfaceFacts {
        index,
        name: name.to_owned(),
        up: link.up,
        mtu: link.mtu,
        driver: ethtool::driver(name).ok(),
        xdp: link.xdp.map(program),
        tc,
        tc_untold,
    })
}

/// Every UDP socket of this network namespace.
pub fn udp_sockets() -> io::Result<Vec<UdpSocket>> {
    Netlink::sock_diag()?.udp_sockets()
}

/// Every way out of this network namespace.
pub fn routes() -> io::Result<Vec<Route>> {
    Netlink::route()?.routes()
}

/// The programs of this instance on an interface, by its pinned links. What cannot be read is not ours.
fn ours(index: u32, pin_dir: &Path) -> Vec<u32> {
    let pins = attach::link_pins(pin_dir).unwrap_or_default();
    let links = pins
        .iter()
        .filter(|pin| pin.index == index && pin.kind.starts_with("link-"));
    let id = |path: &Path| {
        Some(
            FdLink::from(PinnedLink::from_pin(path).ok()?)
                .info()
                .ok()?
                .program_id(),
        )
    };
    links.filter_map(|pin| id(&pin.path)).collect()
}
