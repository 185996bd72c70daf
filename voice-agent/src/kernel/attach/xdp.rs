//! XDP: in the driver or not at all, pinned, and never in place of another's program.

use super::{Attacher, Interface, Report, pin_path, program, remove};
use crate::{
    config::XdpPolicy,
    kernel::{
        error::{chain, errno},
        load,
        object::{self, Link},
    },
};
use aya::programs::{
    Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use std::path::Path;

/// XDP on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum XdpState {
    /// Not asked for yet, or gone.
    Detached,
    /// Ours, in the driver.
    Native,
    /// Another's program is there. It stays; TC does the work.
    Occupied(String),
    /// It cannot be, and trying again would only disturb the NIC.
    Impossible(String),
}

impl XdpState {
    pub(super) fn words(&self, policy: XdpPolicy) -> String {
        match (self, policy) {
            (XdpState::Native, _) => "native".into(),
            (_, XdpPolicy::Off) => "off".into(),
            (XdpState::Detached, _) => "on-trip (not yet)".into(),
            (XdpState::Occupied(by), _) => format!("occupied by {by}"),
            (XdpState::Impossible(why), _) => why.clone(),
        }
    }
}

impl Attacher {
    /// Takes over a pinned link whatever the policy says but `off`; attaches anew when XDP is wanted.
    pub(super) fn check_xdp(&mut self, index: u32, interface: &mut Interface, report: &mut Report) {
        let was = interface.xdp.clone();
        let now = self.next_xdp(index, &was);
        if now != was {
            let words = now.words(self.policy);
            let line = format!("xdp on {}: {words}", interface.name);
            if was == XdpState::Native {
                report.repair(format!("{line} (ours was detached by somebody)"));
            } else if matches!(now, XdpState::Native | XdpState::Detached) {
                report.news(line);
            } else {
                report.wrong(line);
            }
        }
        interface.xdp = now;
    }

    fn next_xdp(&mut self, index: u32, was: &XdpState) -> XdpState {
        let pin = pin_path(&self.pin_dir, "link-xdp", index);
        let attached = self.netlink.xdp_program(index).unwrap_or_default();
        match was {
            XdpState::Impossible(_) => return was.clone(),
            XdpState::Native if attached.is_some() && attached == self.xdp_id() => return XdpState::Native,
            _ => {}
        }
        let pinned = match object::check_link(&pin, Link::xdp(index)) {
            Ok(pinned) => pinned.is_some(),
            Err(problem) => return XdpState::Impossible(problem),
        };
        if pinned {
            if self.policy == XdpPolicy::Off {
                return self.let_go(&pin);
            }
            match self.take_over(&pin) {
                Ok(true) => return XdpState::Native,
                Ok(false) => drop(self.let_go(&pin)),
                Err(problem) => return XdpState::Impossible(problem),
            }
        }
        match attached {
            _ if !self.xdp => XdpState::Detached,
            Some(id) => XdpState::Occupied(program(id)),
            None => self.attach(index, &pin),
        }
    }

    fn xdp_id(&mut self) -> Option<u32> {
        let ours = load::xdp(&mut self.ebpf, self.features.xdp()).ok()?;
        ours.info().ok().map(|info| info.id())
    }

    /// Removes the pin, and with it the link.
    fn let_go(&self, pin: &Path) -> XdpState {
        match remove(pin) {
            Ok(()) => XdpState::Detached,
            Err(e) => XdpState::Impossible(e.to_string()),
        }
    }

    /// Replaces the program of a pinned link atomically. False: the link is dead, its device is gone.
    fn take_over(&mut self, pin: &Path) -> Result<bool, String> {
        let failed =
            |e: &(dyn std::error::Error + 'static)| format!("taking over {}: {}", pin.display(), chain(e));
        let ours = self.xdp_program()?;
        let pinned = PinnedLink::from_pin(pin).map_err(|e| failed(&e))?;
        let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|e| failed(&e))?;
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

    fn attach(&mut self, index: u32, pin: &Path) -> XdpState {
        let attached = self.xdp_program().map(|ours| attach_new(ours, index, pin));
        match attached {
            Ok(Ok(())) => XdpState::Native,
            Ok(Err((Some(libc::EBUSY | libc::EEXIST), _))) => {
                let by = self.netlink.xdp_program(index).ok().flatten();
                XdpState::Occupied(by.map_or("a program that has just gone".into(), program))
            }
            Ok(Err((Some(libc::EOPNOTSUPP), _))) => {
                XdpState::Impossible("not supported by the driver; TC does the work".into())
            }
            Ok(Err((Some(libc::ERANGE), _))) => XdpState::Impossible(
                "not possible at this MTU with this driver and kernel; TC does the work".into(),
            ),
            Ok(Err((_, problem))) | Err(problem) => {
                XdpState::Impossible(format!("attach failed: {problem}; TC does the work"))
            }
        }
    }

    fn xdp_program(&mut self) -> Result<&mut Xdp, String> {
        load::xdp(&mut self.ebpf, self.features.xdp()).map_err(|e| e.to_string())
    }
}

/// Attaches in the driver and pins the link.
fn attach_new(ours: &mut Xdp, index: u32, pin: &Path) -> Result<(), (Option<i32>, String)> {
    let id = ours
        .attach_to_if_index(index, XdpMode::Driver)
        .map_err(|e| (errno(&e), chain(&e)))?;
    let link = ours.take_link(id).map_err(|e| (None, chain(&e)))?;
    let link =
        FdLink::try_from(link).map_err(|_| (None, "this kernel has no XDP links (needs 5.9)".to_owned()))?;
    link.pin(pin)
        .map(drop)
        .map_err(|e| (None, format!("pinning {}: {}", pin.display(), chain(&e))))
}
