//! What `cargo xtask kernel-matrix` runs inside a virtual machine: the real kernel programs, on the kernel that booted there.
//! One line of JSON for the kernel, one for each check, and a last one that tells how many there were.

mod load;
mod shared;
mod traffic;

use crate::{
    programs::Programs,
    verdicts::{BLOCKED, OPEN, cases, programs},
};
use nix::sys::utsname::uname;
use serde::Serialize;
use std::{
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, PoisonError},
    time::Instant,
};
use voice_agent::kernel::Features;

/// Checks that share what one beginning made: to start an agent takes a virtual machine a second or more.
struct Stage<T: 'static> {
    group: &'static str,
    begin: fn() -> T,
    checks: &'static [Check<T>],
}

/// What it shows, as a sentence, and how. Panics when it does not hold.
type Check<T> = (&'static str, fn(&mut T));

/// A [`Stage`] of any kind.
trait Checks: Sync {
    fn names(&self) -> Vec<&'static str>;
    /// Runs every check and tells of each.
    fn run(&self, tell: &mut dyn FnMut(&Outcome) -> io::Result<()>) -> io::Result<()>;
}

const STAGES: &[&dyn Checks] = &[
    &load::STAGE,
    &VERDICTS,
    &traffic::TC,
    &traffic::OLDER,
    &traffic::ON_TRIP,
    &traffic::XDP,
    &traffic::DEADLINE,
    &shared::TC,
    &shared::XDP,
];

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
    let mut all_hold = true;
    for stage in STAGES {
        stage.run(&mut |outcome| {
            all_hold &= outcome.problem.is_none();
            line(out, outcome)
        })?;
    }
    let checks = STAGES.iter().map(|stage| stage.names().len()).sum();
    line(out, &Done { checks })?;
    Ok(all_hold)
}

/// On few ports: an emulated machine takes a hundred milliseconds for each frame, whose every counter is read.
static VERDICTS: Stage<Programs> = Stage {
    group: "verdicts",
    begin: || programs(Features::detect()),
    checks: &[
        ("every wrapping of a datagram is understood", |programs| {
            cases::every_wrapping(programs, &[BLOCKED]);
        }),
        ("a payload is classed by its first two bytes", |programs| {
            cases::payload_classes(programs, &[OPEN, BLOCKED]);
        }),
        (
            "what is not understood passes and is counted",
            cases::not_understood,
        ),
        ("the kill switch comes before every drop", cases::kill_switch),
        ("the peer's port never decides", cases::peers_port),
        ("a verdict ends by itself at its deadline", cases::deadline),
    ],
};

impl<T> Checks for Stage<T> {
    fn names(&self) -> Vec<&'static str> {
        self.checks.iter().map(|(name, _)| *name).collect()
    }

    fn run(&self, tell: &mut dyn FnMut(&Outcome) -> io::Result<()>) -> io::Result<()> {
        let mut stage = None;
        for (name, check) in self.checks {
            let begun = Instant::now();
            let held = panic::catch_unwind(AssertUnwindSafe(|| {
                check(stage.get_or_insert_with(self.begin));
            }));
            if held.is_err() {
                // What a failed check leaves behind is not the next one's.
                stage = None;
            }
            tell(&Outcome {
                group: self.group,
                name,
                milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                problem: held
                    .is_err()
                    .then(|| message().unwrap_or_else(|| "it panicked".into())),
            })?;
        }
        Ok(())
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
    fn a_check_that_panics_is_a_problem_in_its_own_words_and_the_next_one_begins_anew() {
        keep_messages();
        let stage = Stage {
            group: "load",
            begin: || 0,
            checks: &[
                ("first", |n| *n += 1),
                ("second", |n| panic!("{n} of four")),
                ("third", |n| assert_eq!(*n, 0)),
            ],
        };
        let mut problems = Vec::new();
        stage
            .run(&mut |outcome| {
                problems.push(outcome.problem.clone());
                Ok(())
            })
            .unwrap();
        assert!(
            problems[1].as_ref().unwrap().contains("1 of four"),
            "{problems:?}"
        );
        assert_eq!((&problems[0], &problems[2]), (&None, &None));
    }

    #[test]
    fn no_two_checks_have_the_same_name() {
        let mut names: Vec<_> = STAGES.iter().flat_map(|stage| stage.names()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
