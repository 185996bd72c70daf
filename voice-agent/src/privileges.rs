//! Least privilege: the agent keeps three capabilities and gives the rest up for good. Capabilities belong to threads, and
//! new threads inherit them, so this comes before the first thread is made.

use std::io;

/// linux/capability.h
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;
const KEPT: u64 = 1 << CAP_NET_ADMIN | 1 << CAP_PERFMON | 1 << CAP_BPF;
/// Two words for each set.
const VERSION_3: u32 = 0x2008_0522;

/// What could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("giving up privileges: {what}: {source}")]
pub struct PrivilegeError {
    what: &'static str,
    source: io::Error,
}

/// What is held afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Of CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON those that were there.
    Three,
    /// Linux before 5.8 knows no CAP_BPF: everything stays, since CAP_SYS_ADMIN is needed.
    Everything,
}

/// Keeps CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, as far as they are held, in the permitted, effective and bounding sets,
/// and nothing in the others; no program started from here gets more (no_new_privs). Call it on the only thread.
///
/// # Errors
/// What the kernel refused. Then the agent must not go on as if it held less.
pub fn drop_all_but_needed() -> Result<Kept, PrivilegeError> {
    prctl("no_new_privs", libc::PR_SET_NO_NEW_PRIVS, 1)?;
    // Before Linux 5.8 the highest capability is below CAP_BPF, and to ask for it is an error.
    if in_bounds(CAP_BPF).is_none() {
        return Ok(Kept::Everything);
    }
    prctl(
        "the ambient set",
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned().into(),
    )?;
    for cap in (0..64).filter(|cap| KEPT & (1 << cap) == 0) {
        match in_bounds(cap) {
            None => break,
            Some(false) => {}
            // Without CAP_SETPCAP the bounding set stays; it is a bound only, and no_new_privs closes it as well.
            Some(true) => match prctl("the bounding set", libc::PR_CAPBSET_DROP, cap.into()) {
                Err(e) if e.source.raw_os_error() == Some(libc::EPERM) => break,
                dropped => dropped?,
            },
        }
    }
    let held = held()?;
    let keep = held & KEPT;
    if held & (1 << CAP_SYS_ADMIN) != 0 && keep != KEPT {
        // Given CAP_SYS_ADMIN in place of the others: without it the agent could not work.
        return Ok(Kept::Everything);
    }
    set(keep)?;
    Ok(Kept::Three)
}

/// Whether a capability is in the bounding set; `None`: this kernel does not know it.
fn in_bounds(cap: u32) -> Option<bool> {
    // SAFETY: reads a number; takes no pointer.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(cap), 0, 0, 0) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn prctl(what: &'static str, option: i32, value: libc::c_ulong) -> Result<(), PrivilegeError> {
    // SAFETY: these options take numbers and no pointer.
    match unsafe { libc::prctl(option, value, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(last(what)),
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The permitted set of this thread.
fn held() -> Result<u64, PrivilegeError> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut words = [Words::default(); 2];
    // SAFETY: the header says version 3, for which the kernel writes two sets of words.
    let read = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) };
    match read {
        0 => Ok(u64::from(words[0].permitted) | u64::from(words[1].permitted) << 32),
        _ => Err(last("reading the capabilities")),
    }
}

/// Makes `keep` the permitted and effective set, and the inheritable one empty.
fn set(keep: u64) -> Result<(), PrivilegeError> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let word = |bits: u64| {
        let bits = (bits & u64::from(u32::MAX)) as u32;
        Words {
            effective: bits,
            permitted: bits,
            inheritable: 0,
        }
    };
    let words = [word(keep), word(keep >> 32)];
    // SAFETY: the header says version 3, for which the kernel reads two sets of words.
    match unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) } {
        0 => Ok(()),
        _ => Err(last("setting the capabilities")),
    }
}

fn last(what: &'static str) -> PrivilegeError {
    let source = io::Error::last_os_error();
    PrivilegeError { what, source }
}
