//! What `cargo xtask kernel-matrix` runs inside a virtual machine: the real kernel programs, on the kernel that booted there.
//! One line of JSON for the kernel, one for each check, and a last one that tells how many there were.

mod load;
mod shared;
mod traffic;

use crate::verdicts::{BLOCKED, OPEN, cases};
use nix::sys::utsname::uname;
use serde::Serialize;
use std::{
    io::{self, Write},
    panic,
    sync::{Mutex, PoisonError},
    time::Instant,
};
use voice_agent::kernel::Features;

/// A check. Panics when it does not hold.
#[derive(Debug, Clone, Copy)]
struct Check {
    group: &'static str,
    /// What it shows, as a sentence.
    name: &'static str,
    run: fn(),
}

/// The first line.
#[derive(Debug, Serialize)]
struct Kernel {
    release: String,
    version: String,
    features: [&'static str; 2],
}

/// A check's line.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Outcome {
    group: &'static str,
    name: &'static str,
    milliseconds: u64,
    /// Why it does not hold.
    problem: Option<String>,
}

/// The last line.
#[derive(Debug, Serialize)]
struct Done {
    checks: usize,
}

/// Runs every check and writes its line. True: all hold.
pub fn run(out: &mut impl Write) -> io::Result<bool> {
    keep_messages();
    line(out, &kernel()?)?;
    let checks = checks();
    let mut all_hold = true;
    for check in &checks {
        let outcome = check.run();
        all_hold &= outcome.problem.is_none();
        line(out, &outcome)?;
    }
    line(out, &Done { checks: checks.len() })?;
    Ok(all_hold)
}

fn checks() -> Vec<Check> {
    let groups = [
        ("load", load::CHECKS),
        ("verdicts", VERDICTS),
        ("traffic", traffic::CHECKS),
        ("traffic", shared::CHECKS),
    ];
    let of = |(group, checks): (&'static str, &'static [Named])| {
        checks.iter().map(move |(name, run)| Check {
            group,
            name,
            run: *run,
        })
    };
    groups.into_iter().flat_map(of).collect()
}

/// A check and its name.
type Named = (&'static str, fn());

/// On few ports: an emulated machine takes a hundred milliseconds for each frame, whose every counter is read.
const VERDICTS: &[Named] = &[
    ("every wrapping of a datagram is understood", || {
        cases::every_wrapping(Features::detect(), &[BLOCKED]);
    }),
    ("a payload is classed by its first two bytes", || {
        cases::payload_classes(Features::detect(), &[OPEN, BLOCKED]);
    }),
    ("what is not understood passes and is counted", || {
        cases::not_understood(Features::detect());
    }),
    ("the kill switch comes before every drop", || {
        cases::kill_switch(Features::detect());
    }),
    ("the peer's port never decides", || {
        cases::peers_port(Features::detect());
    }),
    ("a verdict ends by itself at its deadline", || {
        cases::deadline(Features::detect());
    }),
];

impl Check {
    fn run(self) -> Outcome {
        let begun = Instant::now();
        let held = panic::catch_unwind(self.run);
        Outcome {
            group: self.group,
            name: self.name,
            milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            problem: held
                .is_err()
                .then(|| message().unwrap_or_else(|| "it panicked".into())),
        }
    }
}

fn kernel() -> io::Result<Kernel> {
    let name = uname()?;
    let features = Features::detect();
    Ok(Kernel {
        release: name.release().to_string_lossy().into_owned(),
        version: name.version().to_string_lossy().into_owned(),
        features: [
            if features.tcx { "tcx" } else { "clsact" },
            if features.frags { "xdp.frags" } else { "xdp" },
        ],
    })
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(value)?;
    writeln!(out, "{text}")?;
    out.flush()
}

/// The first message of a check that panicked; later ones follow from it.
static MESSAGE: Mutex<Option<String>> = Mutex::new(None);

fn keep_messages() {
    panic::set_hook(Box::new(|panicked| {
        let mut message = MESSAGE.lock().unwrap_or_else(PoisonError::into_inner);
        message.get_or_insert_with(|| panicked.to_string());
    }));
}

fn message() -> Option<String> {
    MESSAGE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_panics_is_a_problem_in_its_own_words_and_one_that_does_not_is_none() {
        keep_messages();
        let check = |run| Check {
            group: "load",
            name: "a name",
            run,
        };
        let failed = check(|| panic!("three of four")).run();
        assert!(failed.problem.unwrap().contains("three of four"));
        assert_eq!(check(|| {}).run().problem, None);
    }

    #[test]
    fn no_two_checks_have_the_same_name() {
        let mut names: Vec<_> = checks().iter().map(|check| check.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
