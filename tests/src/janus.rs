//! A real Janus by `tests/janus/janus_lab.py`, in two namespaces of its own; torn down on drop.

pub mod blockade;

use crate::{agent::Settings, bpffs::Scratch, netns, netns::Netns, process, sweep};
use anyhow::Context;
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Where the agent takes the events.
pub const EVENTS: &str = "127.0.0.1:7401";

/// A running Janus with its rooms (1001, 1002, …), signalling and ffmpeg senders.
#[derive(Debug)]
pub struct JanusLab {
    ns: String,
    work: Scratch,
}

impl JanusLab {
    /// Starts `rooms` rooms of `members` members. A session without signalling ends after `session`.
    pub fn up(rooms: u32, members: u32, session: Duration) -> anyhow::Result<JanusLab> {
        let lab = JanusLab {
            ns: sweep::unique(),
            work: Scratch::new("janus")?,
        };
        let (rooms, members) = (rooms.to_string(), members.to_string());
        let session = session.as_secs().max(1).to_string();
        let events = format!("http://{EVENTS}/");
        lab.verb(&[
            "up",
            "--rooms",
            &rooms,
            "--members",
            &members,
            "--session-timeout",
            &session,
            "--events-url",
            &events,
        ])
        .with_context(|| lab.log())?;
        // As on a machine in production; and then attaching XDP does not restart the interface.
        lab.node()?.gro(&format!("{}v1", lab.ns), true)?;
        lab.users()?.gro(&format!("{}v2", lab.ns), true)?;
        Ok(lab)
    }

    /// Runs a verb of `janus_lab.py`; what it printed.
    pub fn verb(&self, args: &[&str]) -> anyhow::Result<String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("janus/janus_lab.py");
        let mut command = Command::new("python3");
        command.arg(script).arg("--work").arg(self.work.path());
        netns::run(command.args(["--ns", &self.ns]).args(args))
    }

    /// The media node's namespace.
    pub fn node(&self) -> anyhow::Result<Netns> {
        Netns::existing(&format!("{}1", self.ns))
    }

    /// The users' namespace.
    pub fn users(&self) -> anyhow::Result<Netns> {
        Netns::existing(&format!("{}2", self.ns))
    }

    /// The end of what Janus itself logged.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.work.path().join("janus.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
        format!("janus said:\n{}", end.join("\n"))
    }

    /// Sends a signal to Janus itself: stopped, it answers nothing and mixes nothing, and its sockets stay open.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let state: Value = serde_json::from_reader(File::open(self.work.path().join("state.json"))?)?;
        let pid = state["procs"]["janus"][0].as_i64().context("janus has no pid")?;
        process::signal(Pid::from_raw(i32::try_from(pid)?), signal)
    }

    /// Its scratch directory.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// The admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.work.path().join("admin.sock")
    }

    /// The settings of an agent that follows this Janus.
    pub fn settings(&self, settings: Settings) -> Settings {
        settings
            .set(
                "janus.admin_socket",
                &format!("\"{}\"", self.admin_socket().display()),
            )
            .set("janus.admin_secret", "\"lab\"")
            .set("janus.events_listen", &format!("\"{EVENTS}\""))
    }

    /// The media ports of a room now, by the lab's own listing.
    pub fn ports(&self, room: &str) -> anyhow::Result<Vec<u16>> {
        let map: Value = serde_json::from_str(&self.verb(&["map"])?).context("read the lab's map")?;
        let rooms = map["rooms"].as_array().context("the lab's map has no rooms")?;
        let found = rooms.iter().find(|r| r["room"].as_u64() == room.parse().ok());
        let members = found.and_then(|r| r["participants"].as_array());
        let ports = members
            .with_context(|| format!("the lab's map has no room {room}"))?
            .iter();
        Ok(ports
            .filter_map(|p| u16::try_from(p["local_port"].as_u64()?).ok())
            .collect())
    }
}

impl Drop for JanusLab {
    fn drop(&mut self) {
        if let Err(error) = self.verb(&["down"]) {
            eprintln!("janus lab {}: {error:#}", self.ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, tap::Taps};

    #[test]
    fn a_real_janus_gets_rtp_on_the_ports_its_listing_names_and_is_gone_after_drop() {
        let lab = JanusLab::up(1, 2, Duration::from_secs(5)).unwrap();
        let taps = Taps::start(&lab.node().unwrap(), &lab.users().unwrap()).unwrap();
        let ports = lab.ports("1001").unwrap();
        assert_eq!(ports.len(), 2);
        clock::wait_for("media", Duration::from_secs(5), || taps.delivered(&ports) > 20);
        let node = lab.node().unwrap().path();
        drop((taps, lab));
        assert!(!node.exists());
    }
}
