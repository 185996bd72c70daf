//! Attaches the programs and keeps them attached: on new and re-created interfaces too, and without a gap over a
//! restart of the agent.

mod tc;
mod xdp;

pub(super) use tc::remove_filter;

use super::{
    KernelError, interfaces,
    load::Features,
    netlink::Netlink,
    object::{self, Link},
    status::InterfaceStatus,
    tcx::{BPF_TCX_EGRESS, BPF_TCX_INGRESS},
};
use crate::config::{KernelConfig, XdpPolicy};
use aya::{
    Ebpf,
    programs::{ProgramInfo, loaded_programs},
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use xdp::XdpState;

/// Owns the programs. Lives on the caller's thread at start, then on a thread of its own (`worker`).
#[derive(Debug)]
pub(super) struct Attacher {
    ebpf: Ebpf,
    pin_dir: PathBuf,
    features: Features,
    wanted: Vec<String>,
    policy: XdpPolicy,
    /// XDP shall be attached now.
    xdp: bool,
    interfaces: BTreeMap<u32, Interface>,
    netlink: Netlink,
}

#[derive(Debug)]
struct Interface {
    name: String,
    xdp: XdpState,
    /// By [`tc::SIDES`]: how it is attached, or why not.
    tc: [Result<String, String>; 2],
}

/// What a check found and did, in words.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// In order: what came and went.
    pub(super) news: Vec<String>,
    /// What is not as it should be, or was not and is repaired.
    pub(super) wrong: Vec<String>,
    /// How many of these were repaired.
    pub(super) repairs: u64,
}

impl Report {
    fn news(&mut self, line: String) {
        self.news.push(line);
    }

    fn wrong(&mut self, line: String) {
        self.wrong.push(line);
    }

    fn repair(&mut self, line: String) {
        self.wrong.push(line);
        self.repairs += 1;
    }
}

impl Attacher {
    pub(super) fn new(
        ebpf: Ebpf,
        config: &KernelConfig,
        pin_dir: &Path,
        features: Features,
    ) -> Result<Self, KernelError> {
        interfaces::check(&config.interfaces)?;
        let netlink = Netlink::route().map_err(|source| KernelError::List {
            what: "network interfaces",
            source,
        })?;
        Ok(Attacher {
            ebpf,
            pin_dir: pin_dir.to_owned(),
            features,
            wanted: config.interfaces.clone(),
            policy: config.xdp,
            xdp: config.xdp == XdpPolicy::Always,
            interfaces: BTreeMap::new(),
            netlink,
        })
    }

    /// From now on XDP is attached too, if the policy allows.
    pub(super) fn want_xdp(&mut self) {
        self.xdp = self.policy != XdpPolicy::Off;
    }

    /// Whether a TC program is attached anywhere; else what went wrong, by interface. No interface at all is no
    /// failure: one may come.
    pub(super) fn problems(&self) -> Option<String> {
        let working = |i: &Interface| i.tc.iter().any(Result::is_ok);
        if self.interfaces.is_empty() || self.interfaces.values().any(working) {
            return None;
        }
        let problems = self.interfaces.values().flat_map(|i| {
            let said = i.tc.iter().filter_map(|side| side.as_ref().err());
            said.map(move |problem| format!("{}: {problem}", i.name))
        });
        Some(problems.collect::<Vec<_>>().join("; "))
    }

    /// Attaches what is missing, lets go of what is gone. Does nothing when all is well.
    pub(super) fn check(&mut self) -> Result<Report, KernelError> {
        let mut report = Report::default();
        let present = interfaces::present(&self.wanted)?;
        self.drop_gone(&present, &mut report)?;
        for (index, name) in present {
            let known = self.interfaces.remove(&index);
            let mut interface = known.unwrap_or_else(|| Interface {
                name: name.clone(),
                xdp: XdpState::Detached,
                tc: tc::SIDES.map(|_| Err(String::new())),
            });
            interface.name = name;
            self.check_tc(index, &mut interface, &mut report);
            self.check_xdp(index, &mut interface, &mut report);
            self.interfaces.insert(index, interface);
        }
        Ok(report)
    }

    /// Interfaces that went away take their links with them; what is left are pins that lead nowhere. An interface
    /// that only lost its address or went down keeps its links: nothing may leak when it comes back.
    fn drop_gone(&mut self, present: &BTreeMap<u32, String>, report: &mut Report) -> Result<(), KernelError> {
        let exists = |index| interfaces::name(index).is_some();
        for pin in link_pins(&self.pin_dir)? {
            if !present.contains_key(&pin.index) && !exists(pin.index) {
                remove(&pin.path)?;
                report.news(format!("{} removed: its interface is gone", pin.path.display()));
            }
        }
        self.interfaces.retain(|index, interface| {
            let stays = present.contains_key(index) || exists(*index);
            if !stays {
                report.news(format!("interface {} (index {index}) is gone", interface.name));
            }
            stays
        });
        Ok(())
    }

    pub(super) fn status(&self) -> Vec<InterfaceStatus> {
        let side = |side: &Result<String, String>| match side {
            Ok(how) => how.clone(),
            Err(why) => format!("not attached: {why}"),
        };
        let interfaces = self.interfaces.iter();
        interfaces
            .map(|(index, i)| InterfaceStatus {
                name: i.name.clone(),
                index: *index,
                xdp: i.xdp.words(self.policy),
                tc_ingress: side(&i.tc[0]),
                tc_egress: side(&i.tc[1]),
            })
            .collect()
    }
}

/// A pin of ours that stands for an attachment.
#[derive(Debug)]
pub(super) struct LinkPin {
    pub(super) path: PathBuf,
    /// `link-xdp`, `link-tc-ingress`, `clsact-tc-egress`, …
    pub(super) kind: String,
    pub(super) index: u32,
}

/// Where the attachment of this kind on this interface is pinned. By index: names may hold a dot, which a bpf
/// filesystem refuses, and a re-created interface has a new index.
fn pin_path(pin_dir: &Path, kind: &str, index: u32) -> PathBuf {
    pin_dir.join(format!("{kind}-{index}"))
}

/// Every pin that stands for an attachment.
pub(super) fn link_pins(pin_dir: &Path) -> Result<Vec<LinkPin>, KernelError> {
    let failed = |source| KernelError::Pin {
        what: "listing",
        path: pin_dir.to_owned(),
        source,
    };
    let mut pins = Vec::new();
    for entry in fs::read_dir(pin_dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some((kind, index)) = name.rsplit_once('-') else {
            continue;
        };
        if let Ok(index) = index.parse()
            && (kind.starts_with("link-") || kind.starts_with("clsact-"))
        {
            let kind = kind.to_owned();
            pins.push(LinkPin { path, kind, index });
        }
    }
    Ok(pins)
}

/// What is wrong with the pins of links that a start would take over.
pub(super) fn wrong_links(pin_dir: &Path) -> Result<Vec<String>, KernelError> {
    let wanted = |pin: &LinkPin| match pin.kind.as_str() {
        "link-xdp" => Some(Link::xdp(pin.index)),
        "link-tc-ingress" => Some(Link::tcx(pin.index, BPF_TCX_INGRESS)),
        "link-tc-egress" => Some(Link::tcx(pin.index, BPF_TCX_EGRESS)),
        _ => None,
    };
    let pins = link_pins(pin_dir)?;
    let wrong = pins
        .iter()
        .filter_map(|pin| object::check_link(&pin.path, wanted(pin)?).err());
    Ok(wrong.collect())
}

/// Removes a pin; that it is gone already is fine.
fn remove(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KernelError::Pin {
            what: "removing the pin",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// The names of programs that were loaded before the agent gave up CAP_SYS_ADMIN, without which names are not told.
static NAMES: OnceLock<BTreeMap<u32, String>> = OnceLock::new();

/// Learns the names, once.
pub(super) fn learn_names() {
    NAMES.get_or_init(|| {
        let named = |p: ProgramInfo| Some((p.id(), p.name_as_str()?.to_owned()));
        loaded_programs().flatten().filter_map(named).collect()
    });
}

/// A program as people know it.
pub(super) fn program(id: u32) -> String {
    let found = loaded_programs().flatten().find(|p| p.id() == id);
    let known = || NAMES.get()?.get(&id).map(String::as_str);
    let name = found.as_ref().and_then(|p| p.name_as_str()).or_else(known);
    format!("{} (id {id})", name.unwrap_or("unknown"))
}
