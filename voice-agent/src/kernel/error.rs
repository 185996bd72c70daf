//! What can go wrong on the kernel side. Each message says what was tried, on what, and what to do.

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use std::{io, path::PathBuf};
use voice_room::{Incarnation, RoomId};

/// Why the kernel side could not do something. Nothing changed then, unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The pin directory would not be on a bpf filesystem.
    #[error(
        "pin directory {}: {} is not on a bpf filesystem; mount one with `mount -t bpf bpf /sys/fs/bpf`, \
         or set paths.bpffs to one", .dir.display(), .found.display()
    )]
    NotBpffs {
        /// The wanted directory.
        dir: PathBuf,
        /// Its nearest existing parent.
        found: PathBuf,
    },
    /// A pinned map is not what this build expects.
    #[error(
        "pin {} is {found}, expected {expected}; it is left as it is. If its blocks may go, remove the pins with \
         `voice-agent kernel detach` and start again", .pin.display()
    )]
    PinShape {
        /// The pin.
        pin: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// An agent with a newer map layout left its programs attached.
    #[error(
        "{} has the programs of a newer voice-agent attached (map layout {newer}, this one has {ours}), whose cuts this one \
         cannot tell; they stay in force. Start that version again, or end its cuts with `voice-agent kernel detach` and \
         start this one", .dir.display()
    )]
    NewerLayout {
        /// Its pin directory.
        dir: PathBuf,
        /// Its ABI version.
        newer: u32,
        /// This build's.
        ours: u32,
    },
    /// Something stands where the pins' directory should be.
    #[error(
        "pin directory {}: {} is {found}, not a directory; it is left as it is. Remove it, or set paths.bpffs or instance \
         to another place", .dir.display(), .at.display()
    )]
    NoPinDirectory {
        /// The wanted directory.
        dir: PathBuf,
        /// It, or one of its parents.
        at: PathBuf,
        /// What that is.
        found: String,
    },
    /// The permissions of a pin, or of a directory above it, keep us out.
    #[error(
        "pin {}: not permitted: {} belongs to uid {owner} with mode {mode:04o}, and this process is uid {me} and may not \
         pass over that (CAP_DAC_OVERRIDE is given up); run it as uid {owner}, or `chown -R {me}` the pin directory",
        .path.display(), .at.display()
    )]
    PinOwner {
        /// What was to be opened.
        path: PathBuf,
        /// What is in the way: it, or a directory above it.
        at: PathBuf,
        /// Whose that is.
        owner: u32,
        /// Its permissions.
        mode: u32,
        /// Who asked.
        me: u32,
    },
    /// There are no pins: no agent of this ABI version ever ran here.
    #[error("no pins in {}: no agent has run with this bpffs path and ABI version since boot", .dir.display())]
    NoPins {
        /// Where they were looked for.
        dir: PathBuf,
    },
    /// Not allowed.
    #[error(
        "{what}: not permitted; the agent needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (before Linux 5.8: \
         CAP_SYS_ADMIN), and before Linux 5.11 a raised memlock limit (`ulimit -l unlimited`)"
    )]
    Permission {
        /// What was tried.
        what: String,
    },
    /// The kernel did not take the programs or maps.
    #[error("{what}: {problem}")]
    Load {
        /// What was tried.
        what: String,
        /// What the kernel said.
        problem: String,
    },
    /// A file operation on the pins failed.
    #[error("{what} {}: {source}", .path.display())]
    Pin {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error("map {map}: {problem}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        problem: String,
    },
    /// `kernel.interfaces` names one that does not exist.
    #[error("kernel.interfaces: there is no interface {name:?} here; there are: {present}")]
    NoInterface {
        /// The name.
        name: String,
        /// Those that exist.
        present: String,
    },
    /// Nothing could be attached anywhere.
    #[error("no interface has our TC programs, so no room could be cut: {problems}")]
    NothingAttached {
        /// By interface.
        problems: String,
    },
    /// The interfaces, or the sockets, could not be listed.
    #[error("cannot list {what}: {source}")]
    List {
        /// What.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Every slot is taken.
    #[error("room {room} gets no slot: all {max} are in use (kernel.max_slots)")]
    SlotsFull {
        /// The room that came too late.
        room: RoomId,
        /// How many there are.
        max: u32,
    },
    /// The flows or SSRCs of shared ports do not fit. The room is bound without any of its own.
    #[error(
        "room {room}: its flows and SSRCs on shared ports are not bound: the map {map} would hold {wanted} of at most \
         {max}; spread the rooms over more ports or nodes"
    )]
    MarksFull {
        /// The room that came too late.
        room: RoomId,
        /// Which map.
        map: &'static str,
        /// What would be in it.
        wanted: usize,
        /// What may be.
        max: u32,
    },
    /// A port outside the media range.
    #[error("room {room}: port {port} is outside the media range {first}-{last} (kernel.ports)")]
    PortOutsideRange {
        /// The room.
        room: RoomId,
        /// The port.
        port: u16,
        /// The range.
        first: u16,
        /// The range, included.
        last: u16,
    },
    /// The room's slot belongs to another of its lives.
    #[error("room {room}: its slot is bound for incarnation {bound}, not {asked}")]
    OtherLife {
        /// The room.
        room: RoomId,
        /// The life it is bound for.
        bound: Incarnation,
        /// The life meant.
        asked: Incarnation,
    },
    /// A bad setting that only the kernel side can judge.
    #[error("kernel.max_slots: {asked} is not possible; allowed are 1 to {max}")]
    MaxSlots {
        /// What was set.
        asked: u32,
        /// The most.
        max: u32,
    },
}

impl KernelError {
    /// A map's failure.
    pub(super) fn map(map: &'static str, problem: &MapError) -> Self {
        KernelError::Map {
            map,
            problem: chain(problem),
        }
    }

    /// A failed load, told apart from a missing permission.
    pub(super) fn load(what: impl Into<String>, problem: &(dyn std::error::Error + 'static)) -> Self {
        let what = what.into();
        if errno(problem) == Some(libc::EPERM) {
            return KernelError::Permission { what };
        }
        let problem = chain(problem);
        KernelError::Load { what, problem }
    }
}

impl From<EbpfError> for KernelError {
    fn from(e: EbpfError) -> Self {
        KernelError::load("loading the maps of the kernel programs", &e)
    }
}

/// The errno behind an error of aya, wherever in the chain it is.
pub(super) fn errno(e: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut e = Some(e);
    while let Some(this) = e {
        if let Some(io) = this.downcast_ref::<io::Error>()
            && let Some(code) = io.raw_os_error()
        {
            return Some(code);
        }
        // Transparent variants hide the inner error from the chain of sources.
        if let Some(ProgramError::SyscallError(call)) = this.downcast_ref::<ProgramError>() {
            return call.io_error.raw_os_error();
        }
        e = this.source();
    }
    None
}

/// An error with everything behind it, in one line.
pub(super) fn chain(e: &(dyn std::error::Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
