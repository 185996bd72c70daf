//! Which TC programs an interface runs, in order. aya's own query also opens each program, which takes CAP_SYS_ADMIN; the
//! agent has given that up.

use std::io;

/// linux/bpf.h
const BPF_PROG_QUERY: libc::c_int = 16;
/// linux/bpf.h
pub(super) const BPF_TCX_INGRESS: u32 = 46;
/// linux/bpf.h
pub(super) const BPF_TCX_EGRESS: u32 = 47;
/// The kernel allows no more on one hook (BPF_MPROG_MAX).
const MOST: usize = 64;

/// `bpf_attr` of BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    _pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The ids of the programs on one side of an interface, in the order they run. Needs CAP_NET_ADMIN and Linux 6.6.
pub(super) fn programs(index: u32, ingress: bool) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MOST];
    let mut query = Query {
        target_ifindex: index,
        attach_type: if ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS },
        prog_ids: ids.as_mut_ptr() as u64,
        count: MOST as u32,
        ..Query::default()
    };
    // SAFETY: `query` is the command's bpf_attr, passed with its size; `prog_ids` and `count` describe `ids`, which outlives
    // the call, and the other pointers are null.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            std::ptr::from_mut(&mut query),
            size_of::<Query>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ids.iter().take(query.count as usize).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_does_not_exist_is_an_error() {
        let e = programs(u32::from(u16::MAX), true).unwrap_err();
        assert!(
            matches!(e.raw_os_error(), Some(libc::ENODEV | libc::EPERM | libc::EINVAL)),
            "{e}"
        );
    }
}
