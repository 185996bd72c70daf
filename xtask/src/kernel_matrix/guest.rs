//! One virtual machine: started, listened to, and ended when it takes too long.

use anyhow::{Context, bail};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// A machine that is not done by then hangs: an idle host needs about fifteen seconds.
const BOUND: Duration = Duration::from_secs(180);
/// Two, so that counters of several CPUs are added up.
const CPUS: &str = "2";
const MEMORY: &str = "512M";

/// What a machine answered.
#[derive(Debug, Default)]
pub(super) struct Guest {
    /// Debian's version of its kernel: `5.10.223-1`.
    pub(super) version: String,
    /// How TC and XDP are attached there.
    pub(super) features: Vec<String>,
    pub(super) checks: Vec<Check>,
    /// How many checks it says there were; nothing when it did not come to its end.
    pub(super) done: Option<u64>,
    /// How it ended, when not by itself.
    pub(super) ended: Option<String>,
}

/// A check's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) milliseconds: u64,
    /// Why it does not hold.
    pub(super) problem: Option<String>,
}

impl Guest {
    /// Boots `image` into `initramfs` and hears what it answers. The kernel's messages go to `console`.
    pub(super) fn boot(image: &Path, initramfs: &Path, console: &Path) -> anyhow::Result<Guest> {
        let mut child = start(image, initramfs, console)?;
        let heard = listen(&mut child);
        // Also when what it said could not be read. It may have ended by itself: then there is nothing to kill.
        let _ = child.kill();
        child.wait().context("wait for qemu")?;
        let mut guest = heard?;
        if guest.done.is_none() && guest.ended.is_none() {
            guest.ended = Some("it ended before it was done".into());
        }
        if let Some(ended) = &mut guest.ended {
            ended.push_str(&last_words(console));
        }
        Ok(guest)
    }

    /// Why this is no pass.
    pub(super) fn problem(&self) -> Option<String> {
        let failed = self.checks.iter().filter(|check| check.problem.is_some()).count();
        let count = self.checks.len();
        match (&self.ended, self.done) {
            (Some(ended), _) => Some(format!("after {count} checks: {ended}")),
            (None, Some(done)) if done != count as u64 => {
                Some(format!("{count} of {done} checks were heard of"))
            }
            (None, _) if count == 0 => Some("it checked nothing".into()),
            (None, _) if failed > 0 => Some(format!("{failed} of {count} checks do not hold")),
            (None, _) => None,
        }
    }

    /// Takes a line of what `tests/src/guest.rs` writes.
    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("the checks said {line:?}"))?;
        if let Some(version) = text(&value, "version") {
            self.version = debian(&version).unwrap_or(&version).to_owned();
            let features = value["features"].as_array().into_iter().flatten();
            self.features = features
                .filter_map(|one| Some(one.as_str()?.to_owned()))
                .collect();
        } else if let Some(name) = text(&value, "name") {
            self.checks.push(Check {
                group: text(&value, "group").unwrap_or_default(),
                name,
                milliseconds: value["milliseconds"].as_u64().unwrap_or_default(),
                problem: text(&value, "problem"),
            });
        } else if let Some(checks) = value["checks"].as_u64() {
            self.done = Some(checks);
        } else {
            bail!("the checks said {line:?}");
        }
        Ok(())
    }
}

fn start(image: &Path, initramfs: &Path, console: &Path) -> anyhow::Result<Child> {
    // No KVM: the same everywhere, and machines that CI rents have none.
    Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max", "-smp", CPUS, "-m", MEMORY])
        .args(["-no-user-config", "-nodefaults", "-no-reboot", "-display", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-serial", "stdio", "-kernel"])
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 loglevel=5 oops=panic panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start qemu-system-x86_64")
}

/// Hears the machine until it ends or its time is over.
fn listen(child: &mut Child) -> anyhow::Result<Guest> {
    let said = child.stdout.take().context("qemu has no output")?;
    let (lines, heard) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(said).lines() {
            // Nobody listens any more: the time is over.
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + BOUND;
    let mut guest = Guest::default();
    loop {
        match heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                let line = line.context("read what qemu writes")?;
                if !line.trim().is_empty() {
                    guest.take(line.trim())?;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(guest),
            Err(RecvTimeoutError::Timeout) => {
                guest.ended = Some(format!("it was not done after {} s", BOUND.as_secs()));
                return Ok(guest);
            }
        }
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    Some(value[key].as_str()?.to_owned())
}

/// `5.10.223-1` of `#1 SMP Debian 5.10.223-1 (2024-08-10)`.
fn debian(version: &str) -> Option<&str> {
    version.split_once("Debian ")?.1.split(' ').next()
}

/// The last lines of its console.
fn last_words(console: &Path) -> String {
    let said = fs::read(console).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(8));
    let last: String = last.map(|line| format!("\n    {}", line.trim_end())).collect();
    format!("; the end of {}:{last}", console.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = r##"{"release":"5.10.0-32-amd64","version":"#1 SMP Debian 5.10.223-1 (2024-08-10)","features":["clsact","xdp"]}"##;
    const HOLDS: &str = r#"{"group":"load","name":"a","milliseconds":12,"problem":null}"#;
    const FAILS: &str = r#"{"group":"traffic","name":"b","milliseconds":3,"problem":"lost"}"#;

    fn heard(lines: &[&str]) -> Guest {
        let mut guest = Guest::default();
        for line in lines {
            guest.take(line).unwrap();
        }
        guest
    }

    #[test]
    fn a_machine_whose_checks_all_hold_has_no_problem() {
        let guest = heard(&[KERNEL, HOLDS, r#"{"checks":1}"#]);
        assert_eq!(guest.problem(), None);
        assert_eq!(guest.version, "5.10.223-1");
        assert_eq!(guest.features, ["clsact", "xdp"]);
        assert_eq!(guest.checks[0].milliseconds, 12);
    }

    #[test]
    fn a_check_that_does_not_hold_is_a_problem() {
        let guest = heard(&[KERNEL, HOLDS, FAILS, r#"{"checks":2}"#]);
        assert_eq!(guest.problem().unwrap(), "1 of 2 checks do not hold");
    }

    #[test]
    fn checks_that_were_not_heard_of_are_a_problem_and_so_are_none() {
        assert!(
            heard(&[KERNEL, HOLDS, r#"{"checks":2}"#])
                .problem()
                .unwrap()
                .contains("1 of 2")
        );
        assert_eq!(
            heard(&[KERNEL, r#"{"checks":0}"#]).problem().unwrap(),
            "it checked nothing"
        );
        assert_eq!(heard(&[]).problem().unwrap(), "it checked nothing");
    }

    #[test]
    fn a_machine_that_ended_early_is_a_problem_although_all_held_until_then() {
        let mut guest = heard(&[KERNEL, HOLDS]);
        guest.ended = Some("it ended before it was done".into());
        assert_eq!(
            guest.problem().unwrap(),
            "after 1 checks: it ended before it was done"
        );
    }

    #[test]
    fn a_line_that_is_no_answer_is_an_error() {
        let mut guest = Guest::default();
        assert!(guest.take("Segmentation fault").is_err());
        assert!(guest.take(r#"{"other":1}"#).is_err());
    }
}
