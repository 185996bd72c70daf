//! `bugtool`: one archive with all that somebody who was not there needs. Each part is gathered by itself, within a bound
//! of time and of bytes; one that cannot be had is told in the manifest, and never ends the archive. What the agent
//! knows comes from these very commands, run as processes of their own (`bugtool/process.rs`); how the rest is read is
//! in `bugtool/host.rs`, and the form of the archive in `bugtool/archive.rs`.

mod archive;
mod host;
mod process;

use super::{
    Code, Failure,
    args::Global,
    client::{self, call},
    output::{Output, Tone},
};
use crate::{config::Config, proto::admin::LogsRequest};
use archive::Archive;
use process::Ours;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};
use voice_room::RoomId;

/// Rooms whose evidence is taken along: those that are cut, then those that the audit log's tail tripped last.
const ROOMS: usize = 20;
/// Of the audit log, from its end.
const AUDIT_BYTES: u64 = 1 << 20;
/// Above the 8 s in which a command gives up on a frozen agent.
const COMMAND: Duration = Duration::from_secs(15);
/// It asks more than the agent.
const DOCTOR: Duration = Duration::from_secs(60);
/// Evidence of more rooms is left out after this.
const EXPLAIN: Duration = Duration::from_secs(60);

/// What a part is, or why it could not be had.
type Part = Result<Vec<u8>, String>;

/// Writes the archive to `to`, else to stdout.
pub(super) fn bugtool(
    global: &Global,
    config: &Config,
    out: Output,
    to: Option<&Path>,
) -> Result<String, Failure> {
    let Some(file) = to else {
        if io::stdout().is_terminal() {
            let message = "the archive is not for a terminal: give -o FILE, or redirect it, as in `voice-agent bugtool > bug.tar.gz`";
            return Err(Failure::new(Code::Usage, message));
        }
        collect(global, config, io::stdout().lock())?;
        return Ok(String::new());
    };
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let made: File = made.map_err(|e| unwritten(&file.display().to_string(), &e))?;
    let (parts, missing) = collect(global, config, made)?;
    let written = json!({ "file": file, "parts": parts, "missing": missing });
    out.print(&written, |_, out| {
        let text = format!(
            "Wrote {}: {parts} parts, {missing} could not be had (see MANIFEST.json).\n",
            file.display()
        );
        out.tone(Tone::Good, &text)
    })
}

fn unwritten(what: &str, problem: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("writing the archive to {what}: {problem}"))
}

/// How many parts are in it, and how many could not be had.
fn collect<W: Write>(global: &Global, config: &Config, to: W) -> Result<(usize, usize), Failure> {
    let mut gathered = Gathered {
        archive: Archive::new(to),
        manifest: Vec::new(),
        ours: Ours::new(global),
    };
    let told = gathered.everything(config).and_then(|()| gathered.finish());
    told.map_err(|e| unwritten("its end", &e))
}

struct Gathered<W: Write> {
    archive: Archive<W>,
    manifest: Vec<Value>,
    ours: Ours,
}

impl<W: Write> Gathered<W> {
    fn everything(&mut self, config: &Config) -> io::Result<()> {
        self.command("config.json", &["config", "show"], COMMAND)?;
        self.add("config-origin.json", || Ok(host::origin()))?;
        let answers = self.command("status.json", &["status"], COMMAND)?.is_some();
        self.add("logs.txt", || if answers { logs(config) } else { Err(away()) })?;
        for (name, args) in [
            ("rooms.json", ["rooms"].as_slice()),
            ("topology.json", &["topology"]),
            ("maintenance.json", &["maintenance", "list"]),
            ("events.jsonl", &["events"]),
        ] {
            if answers {
                self.command(name, args, COMMAND)?;
            } else {
                self.add(name, || Err(away()))?;
            }
        }
        let blocked = self.command("blocked.json", &["rooms", "--blocked"], COMMAND)?;
        self.command("kernel.json", &["kernel", "status"], COMMAND)?;
        self.command("kill-switch.json", &["kill-switch", "status"], COMMAND)?;
        let audit = self.add("audit.jsonl", || audit(config))?;
        self.evidence(answers, &blocked.unwrap_or_default(), &audit.unwrap_or_default())?;
        let pins = config.paths.pin_dir();
        self.add("pinned-maps.json", || host::pinned(&pins))?;
        self.add("metrics.txt", || host::metrics(config.metrics.listen))?;
        self.command("doctor.json", &["doctor"], DOCTOR)?;
        self.add("kernel-facts.txt", || Ok(host::kernel_facts()))?;
        self.add("interfaces.txt", || host::interfaces(&pins))?;
        self.add("attachments.txt", host::attachments)?;
        self.add("bpf-programs.txt", || Ok(host::programs())).map(drop)
    }

    /// `explain` of the rooms that are cut, and of those that were.
    fn evidence(&mut self, answers: bool, blocked: &[u8], audit: &[u8]) -> io::Result<()> {
        let end = Instant::now() + EXPLAIN;
        for room in rooms(blocked, audit) {
            let name = format!("explain/{room}.json");
            if answers && Instant::now() < end {
                self.command(&name, &["explain", room.as_str()], COMMAND)?;
            } else {
                let why = if answers {
                    "no time left for it".into()
                } else {
                    away()
                };
                self.add(&name, || Err(why))?;
            }
        }
        Ok(())
    }

    fn command(&mut self, name: &str, args: &[&str], within: Duration) -> io::Result<Option<Vec<u8>>> {
        let part = {
            let ours = &self.ours;
            move || ours.run(args, within)
        };
        let started = Instant::now();
        say(name);
        let part = part();
        self.keep(name, started, part)
    }

    fn add(&mut self, name: &str, part: impl FnOnce() -> Part) -> io::Result<Option<Vec<u8>>> {
        say(name);
        let started = Instant::now();
        let part = part();
        self.keep(name, started, part)
    }

    /// Only writing the archive itself fails.
    fn keep(&mut self, name: &str, started: Instant, part: Part) -> io::Result<Option<Vec<u8>>> {
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match part {
            Ok(bytes) => {
                self.archive.add(name, &bytes)?;
                let line = json!({ "part": name, "bytes": bytes.len(), "took_ms": took });
                self.manifest.push(line);
                Ok(Some(bytes))
            }
            Err(why) => {
                self.manifest
                    .push(json!({ "part": name, "missing": why, "took_ms": took }));
                Ok(None)
            }
        }
    }

    fn finish(mut self) -> io::Result<(usize, usize)> {
        let missing = self.manifest.iter().filter(|part| part["missing"].is_string());
        let missing = missing.count();
        let parts = self.manifest.len() - missing;
        let manifest = json!({
            "made_by": format!("voice-agent {}", env!("CARGO_PKG_VERSION")),
            "made_at": humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            "contains": "ids of rooms and peers, addresses, operators' uids and reasons; no secrets and no media",
            "agent_log": "logs.txt has what the live agent kept; add `journalctl -u voice-agent` where systemd keeps it",
            "parts": self.manifest,
        });
        self.archive
            .add("MANIFEST.json", format!("{manifest:#}\n").as_bytes())?;
        self.archive.finish()?;
        Ok((parts, missing))
    }
}

/// Progress, for people.
fn say(name: &str) {
    if io::stderr().is_terminal() {
        eprintln!("bugtool: {name}");
    }
}

fn away() -> String {
    "the agent does not answer; see status.json".into()
}

/// What the agent keeps of its own log.
fn logs(config: &Config) -> Part {
    let asked = client::block_on(async { call!(&config.paths, logs(LogsRequest {})) });
    let lines = asked.map_err(|e| e.message)?.lines;
    Ok(lines.concat().into_bytes())
}

fn audit(config: &Config) -> Part {
    let file = config.audit.file.as_ref().ok_or("audit.file is \"off\"")?;
    host::tail(file, AUDIT_BYTES)
}

/// Those that are cut come first, then those that were tripped or blocked last.
fn rooms(blocked: &[u8], audit: &[u8]) -> Vec<RoomId> {
    let blocked: Value = serde_json::from_slice(blocked).unwrap_or_default();
    let blocked = blocked["rooms"].as_array().cloned().unwrap_or_default();
    let lines = audit.split(|byte| *byte == b'\n').rev();
    let lines = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let tripped = lines.filter(|line| {
        ["trip", "would_trip", "block"]
            .iter()
            .any(|a| line["action"] == *a)
    });
    let mut seen = BTreeSet::new();
    let named = blocked.into_iter().chain(tripped);
    let ids = named.filter_map(|line| RoomId::new(line["room"].as_str()?).ok());
    ids.filter(|room| seen.insert(room.clone())).take(ROOMS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_taken_of_the_rooms_that_are_cut_and_then_of_the_last_that_were_and_of_each_once() {
        let blocked = br#"{"rooms":[{"room":"b"}]}"#;
        let mut audit = String::from("torn\n");
        for n in 0..30 {
            audit += &format!("{{\"action\":\"trip\",\"room\":\"r{n}\"}}\n");
        }
        audit += "{\"action\":\"block\",\"room\":\"b\"}\n{\"action\":\"hold\",\"room\":\"h\"}\n";
        let found = rooms(blocked, audit.as_bytes());
        let found: Vec<&str> = found.iter().map(RoomId::as_str).collect();
        assert_eq!(found[..3], ["b", "r29", "r28"]);
        assert_eq!(found.len(), ROOMS);
        assert!(rooms(b"", b"").is_empty());
    }
}
