//! What each hook counted by itself: the packets it passed without a room, by reason, and the events it lost. The map HOOKS is
//! one value for all CPUs, too large for a stack; so it is read by a bare system call.

use super::KernelError;
use aya::maps::{Map, MapData};
use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};
use voice_common::{
    Hook, HookCounts, Reason,
    abi::{CpuHooks, MAX_CPUS},
};

/// linux/bpf.h
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;

/// The map `HOOKS`.
#[derive(Debug)]
pub struct Hooks(MapData);

/// (hook, reason, packets).
pub(super) type ByReason = Vec<(String, String, u64)>;

/// `bpf_attr` of a lookup (linux/bpf.h).
#[repr(C)]
struct Lookup {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Hooks {
    /// Its shape has been checked.
    pub(super) fn new(map: Map) -> Result<Hooks, KernelError> {
        match map {
            Map::Array(data) => Ok(Hooks(data)),
            other => Err(KernelError::Map {
                map: "HOOKS",
                problem: format!("it is no array: {other:?}"),
            }),
        }
    }

    /// What each hook counted, over all CPUs, in the order of [`Hook::ALL`].
    pub fn counts(&self) -> Result<[HookCounts; 3], KernelError> {
        let cpus = self.read().map_err(|e| KernelError::Map {
            map: "HOOKS",
            problem: format!("cannot be read: {e}"),
        })?;
        let mut sums = [HookCounts::ZERO; 3];
        for cpu in &cpus {
            for (sum, one) in sums.iter_mut().zip(cpu) {
                for (total, packets) in sum.reasons.iter_mut().zip(one.reasons) {
                    *total += packets;
                }
                sum.lost_events += one.lost_events;
            }
        }
        Ok(sums)
    }

    /// Packets by hook and reason, those that were not zero, and the lost events.
    pub(super) fn by_reason(&self) -> Result<(ByReason, u64), KernelError> {
        let counts = self.counts()?;
        let mut packets = Vec::new();
        for (hook, counts) in Hook::ALL.iter().zip(&counts) {
            for (reason, count) in Reason::ALL.iter().zip(counts.reasons) {
                if count > 0 {
                    packets.push((hook.name().to_owned(), reason.name().to_owned(), count));
                }
            }
        }
        Ok((packets, counts.iter().map(|hook| hook.lost_events).sum()))
    }

    fn read(&self) -> io::Result<Vec<CpuHooks>> {
        let mut cpus = vec![[HookCounts::ZERO; 3]; MAX_CPUS];
        let key = 0_u32;
        let mut attr = Lookup {
            map_fd: self.0.fd().as_fd().as_raw_fd().cast_unsigned(),
            padding: 0,
            key: std::ptr::from_ref(&key) as u64,
            value: cpus.as_mut_ptr() as u64,
            flags: 0,
        };
        let attr = std::ptr::from_mut(&mut attr);
        // SAFETY: a prefix of the command's bpf_attr, passed with its size. The key outlives the call, and the value has as
        // many bytes as the map's, whose shape was checked; any bit pattern is one of its integers.
        let answer = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_ELEM, attr, size_of::<Lookup>()) };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(cpus)
    }
}
