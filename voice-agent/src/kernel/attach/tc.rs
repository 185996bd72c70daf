//! TC: TCX links that are pinned, or on kernels before 6.6 filters on clsact with a fixed handle.

use super::{Attacher, Interface, Report, pin_path, program, remove};
use crate::kernel::{
    error::{chain, errno},
    load,
    object::{self, Link},
    tcx,
};
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
};
use std::path::Path;
use voice_common::ABI_VERSION;

/// Where a program goes, its name, and the name of its pin.
pub(super) struct Side {
    attach: TcAttachType,
    program: &'static str,
    hook: &'static str,
}

pub(super) const SIDES: [Side; 2] = [
    Side {
        attach: TcAttachType::Ingress,
        program: load::TC_INGRESS,
        hook: "tc-ingress",
    },
    Side {
        attach: TcAttachType::Egress,
        program: load::TC_EGRESS,
        hook: "tc-egress",
    },
];

/// clsact: our filters run first.
const PRIORITY: u16 = 1;

/// Marks a filter as ours; not a handle that tc hands out. Each ABI version has its own, so that a start does not replace the
/// filter of another before it has armed that one's cuts.
const fn handle(abi_version: u32) -> TcHandle {
    TcHandle::new(0, 0x7600 | (abi_version & 0xff) as u16)
}

impl Attacher {
    /// Attaches both sides where they are missing.
    pub(super) fn check_tc(&mut self, index: u32, interface: &mut Interface, report: &mut Report) {
        for (side, state) in SIDES.iter().zip(&mut interface.tc) {
            let was_attached = state.is_ok();
            let now = if self.features.tcx {
                self.check_tcx(side, index, &interface.name, was_attached, report)
            } else {
                self.clsact(side, index, &interface.name)
            };
            if now != *state {
                let name = &interface.name;
                match &now {
                    Ok(how) => report.news(format!("{} on {name}: {how}", side.hook)),
                    Err(why) => report.wrong(format!("{} on {name} is not attached: {why}", side.hook)),
                }
            }
            *state = now;
        }
    }

    /// Looks whether our link is there and first in line.
    fn check_tcx(
        &mut self,
        side: &Side,
        index: u32,
        name: &str,
        was_attached: bool,
        report: &mut Report,
    ) -> Result<String, String> {
        let ours = self.program_id(side)?;
        if !was_attached || !position(index, side)?.contains(&ours) {
            let taken_over = self.tcx(side, index, name)?;
            if was_attached {
                report.repair(format!(
                    "{} on {name} was detached by somebody; attached again",
                    side.hook
                ));
            } else if taken_over {
                report.news(format!("{} on {name}: link taken over from the pin", side.hook));
            }
        }
        match position(index, side)?.first() {
            Some(first) if *first != ours => Ok(format!("tcx, behind {}", program(*first))),
            _ => Ok("tcx".to_owned()),
        }
    }

    fn program_id(&mut self, side: &Side) -> Result<u32, String> {
        let program = load::tc(&mut self.ebpf, side.program).map_err(|e| e.to_string())?;
        program.info().map(|info| info.id()).map_err(|e| chain(&e))
    }

    /// Takes over the pinned link by an atomic replacement of its program, or makes a new one. True: taken over.
    fn tcx(&mut self, side: &Side, index: u32, name: &str) -> Result<bool, String> {
        let pin = pin_path(&self.pin_dir, &format!("link-{}", side.hook), index);
        let ours = load::tc(&mut self.ebpf, side.program).map_err(|e| e.to_string())?;
        let attach = match side.attach {
            TcAttachType::Ingress => tcx::BPF_TCX_INGRESS,
            _ => tcx::BPF_TCX_EGRESS,
        };
        if object::check_link(&pin, Link::tcx(index, attach))?.is_some() {
            if take_over(ours, &pin)? {
                return Ok(true);
            }
            remove(&pin).map_err(|e| e.to_string())?;
        }
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = ours
            .attach_with_options(name, side.attach, first)
            .map_err(|e| chain(&e))?;
        let link = ours.take_link(id).map_err(|e| chain(&e))?;
        let link = FdLink::try_from(link).map_err(|e| chain(&e))?;
        link.pin(&pin)
            .map_err(|e| format!("pinning {}: {}", pin.display(), chain(&e)))?;
        Ok(false)
    }

    /// Replaces our filter, or makes it. The program's pin tells `kernel detach` where a filter of ours is.
    fn clsact(&mut self, side: &Side, index: u32, name: &str) -> Result<String, String> {
        let pin = pin_path(&self.pin_dir, &format!("clsact-{}", side.hook), index);
        let ours = load::tc(&mut self.ebpf, side.program).map_err(|e| e.to_string())?;
        if let Err(e) = tc::qdisc_add_clsact(name)
            && netlink_errno(&e) != Some(libc::EEXIST)
        {
            return Err(format!("adding the clsact qdisc: {}", chain(&e)));
        }
        let old = filter(name, side.attach, ABI_VERSION)?;
        let id = match ours.attach_to_link(old) {
            Ok(id) => id,
            Err(ProgramError::TcError(e)) if netlink_errno(&e) != Some(libc::ENOENT) => {
                return Err(format!("replacing our filter: {}", chain(&e)));
            }
            Err(_) => ours
                .attach_with_options(
                    name,
                    side.attach,
                    TcAttachOptions::Netlink(NlOptions {
                        priority: PRIORITY,
                        handle: handle(ABI_VERSION),
                        ..NlOptions::default()
                    }),
                )
                .map_err(|e| chain(&e))?,
        };
        let link = ours.take_link(id).map_err(|e| chain(&e))?;
        // Dropping it would remove the filter, which has to outlive the agent.
        std::mem::forget(link);
        remove(&pin).map_err(|e| e.to_string())?;
        ours.pin(&pin)
            .map_err(|e| format!("pinning {}: {}", pin.display(), chain(&e)))?;
        Ok("clsact".to_owned())
    }
}

/// False: the link is dead, its device is gone.
fn take_over(ours: &mut SchedClassifier, pin: &Path) -> Result<bool, String> {
    let failed =
        |e: &(dyn std::error::Error + 'static)| format!("taking over {}: {}", pin.display(), chain(e));
    let pinned = PinnedLink::from_pin(pin).map_err(|e| failed(&e))?;
    let link = SchedClassifierLink::try_from(FdLink::from(pinned)).map_err(|e| failed(&e))?;
    match ours.attach_to_link(link) {
        // The pin keeps the link; this handle of it is not needed.
        Ok(id) => ours
            .take_link(id)
            .map(drop)
            .map(|()| true)
            .map_err(|e| failed(&e)),
        Err(e) if errno(&e) == Some(libc::ENOLINK) => Ok(false),
        Err(e) => Err(failed(&e)),
    }
}

/// The ids of the programs on this side, in order.
fn position(index: u32, side: &Side) -> Result<Vec<u32>, String> {
    let asked = tcx::programs(index, side.hook == "tc-ingress");
    asked.map_err(|e| format!("asking for the order of programs: {e}"))
}

fn netlink_errno(e: &TcError) -> Option<i32> {
    match e {
        TcError::NetlinkError(e) => e.raw_os_error(),
        _ => None,
    }
}

fn filter(name: &str, attach: TcAttachType, abi_version: u32) -> Result<SchedClassifierLink, String> {
    SchedClassifierLink::attached(name, attach, PRIORITY, handle(abi_version), None)
        .map_err(|e| e.to_string())
}

/// Removes the clsact filter that an agent of this ABI version made, if the pin kind `kind` stands for one.
pub(in crate::kernel) fn remove_filter(name: &str, kind: &str, abi_version: u32) -> Result<(), String> {
    for side in &SIDES {
        if kind == format!("clsact-{}", side.hook) {
            // Detaches what it stands for when dropped; an error here means that there is none.
            drop(filter(name, side.attach, abi_version)?);
        }
    }
    Ok(())
}
