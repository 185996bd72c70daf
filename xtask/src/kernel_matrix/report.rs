//! What is printed in the end: a line for each kernel, then what does not hold; or one JSON object.

use super::guest::{Check, Guest};
use serde_json::{Value, json};
use std::{fmt::Write, time::Duration};

/// A kernel that was tried.
pub(super) struct Tried {
    pub(super) suite: &'static str,
    /// What it answered, if it was booted.
    pub(super) guest: Option<Guest>,
    /// Why it is no pass.
    pub(super) problem: Option<String>,
    pub(super) took: Duration,
}

/// The groups of checks, in the order of their columns.
const GROUPS: [&str; 3] = ["load", "verdicts", "traffic"];

impl Tried {
    pub(super) fn passed(&self) -> bool {
        self.problem.is_none()
    }

    /// In a line, as soon as it is known.
    pub(super) fn words(&self) -> String {
        let word = self.problem.as_deref().unwrap_or("ok");
        format!("{}: {word} ({:.1} s)", self.suite, self.took.as_secs_f64())
    }

    fn checks(&self) -> &[Check] {
        self.guest.as_ref().map_or(&[], |guest| &guest.checks)
    }

    /// `3/4`: how many of a group hold.
    fn of_group(&self, group: &str) -> String {
        let all = || self.checks().iter().filter(|check| check.group == group);
        let hold = all().filter(|check| check.problem.is_none()).count();
        format!("{hold}/{}", all().count())
    }

    fn features(&self) -> (&str, &str) {
        let feature = |at: usize| Some(self.guest.as_ref()?.features.get(at)?.as_str());
        (feature(0).unwrap_or("-"), feature(1).unwrap_or("-"))
    }

    fn version(&self) -> &str {
        self.guest.as_ref().map_or("-", |guest| &guest.version)
    }
}

/// For people. The last line says how many checks hold.
pub(super) fn table(tried: &[Tried]) -> String {
    let mut text = row(
        [
            "kernel", "Debian", "TC", "XDP", "load", "verdicts", "traffic", "seconds",
        ],
        "",
    );
    for one in tried {
        let (tc, xdp) = one.features();
        let [load, verdicts, traffic] = GROUPS.map(|group| one.of_group(group));
        let seconds = format!("{:.1}", one.took.as_secs_f64());
        let columns = [
            one.version(),
            one.suite,
            tc,
            xdp,
            &load,
            &verdicts,
            &traffic,
            &seconds,
        ];
        text.push_str(&row(columns, if one.passed() { "ok" } else { "FAILED" }));
    }
    for one in tried {
        if let Some(problem) = &one.problem {
            let _ = writeln!(text, "failed: {}: {problem}", one.suite);
        }
        for check in one.checks() {
            if let Some(problem) = &check.problem {
                let _ = writeln!(
                    text,
                    "failed: {}: {}: {}: {problem}",
                    one.suite, check.group, check.name
                );
            }
        }
    }
    let all = || tried.iter().flat_map(Tried::checks);
    let hold = all().filter(|check| check.problem.is_none()).count();
    let kernels = tried.iter().filter(|one| one.passed()).count();
    let _ = writeln!(
        text,
        "{kernels} of {} kernels passed, {hold} of {} checks",
        tried.len(),
        all().count()
    );
    text
}

fn row(columns: [&str; 8], result: &str) -> String {
    let [kernel, suite, tc, xdp, load, verdicts, traffic, seconds] = columns;
    let line = format!(
        "{kernel:<12} {suite:<9} {tc:<7} {xdp:<10} {load:>5} {verdicts:>9} {traffic:>8} {seconds:>8}  {result}"
    );
    format!("{}\n", line.trim_end())
}

/// For programs.
pub(super) fn json(tried: &[Tried]) -> Value {
    let kernels: Vec<Value> = tried.iter().map(kernel).collect();
    json!({ "kernels": kernels, "passed": tried.iter().all(Tried::passed) })
}

fn kernel(one: &Tried) -> Value {
    let check = |check: &Check| {
        json!({
            "group": check.group,
            "name": check.name,
            "milliseconds": check.milliseconds,
            "problem": check.problem,
        })
    };
    let (tc, xdp) = one.features();
    json!({
        "version": one.version(),
        "debian": one.suite,
        "tc": tc,
        "xdp": xdp,
        "seconds": one.took.as_secs_f64(),
        "problem": one.problem,
        "checks": one.checks().iter().map(check).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(group: &str, problem: Option<&str>) -> Check {
        Check {
            group: group.into(),
            name: "a name".into(),
            milliseconds: 7,
            problem: problem.map(str::to_owned),
        }
    }

    fn tried() -> Vec<Tried> {
        let guest = Guest {
            version: "6.1.176-1".into(),
            features: vec!["clsact".into(), "xdp.frags".into()],
            checks: vec![
                check("load", None),
                check("traffic", None),
                check("traffic", Some("lost")),
            ],
            ..Guest::default()
        };
        vec![
            Tried {
                suite: "bookworm",
                guest: Some(guest),
                problem: Some("1 of 3 checks do not hold".into()),
                took: Duration::from_millis(9340),
            },
            Tried {
                suite: "sid",
                guest: None,
                problem: Some("the kernel is not to be had".into()),
                took: Duration::ZERO,
            },
        ]
    }

    #[test]
    fn the_table_has_a_line_for_each_kernel_also_for_one_that_is_not_to_be_had_and_says_what_does_not_hold() {
        assert_eq!(
            table(&tried()),
            "\
kernel       Debian    TC      XDP         load  verdicts  traffic  seconds
6.1.176-1    bookworm  clsact  xdp.frags    1/1       0/0      1/2      9.3  FAILED
-            sid       -       -            0/0       0/0      0/0      0.0  FAILED
failed: bookworm: 1 of 3 checks do not hold
failed: bookworm: traffic: a name: lost
failed: sid: the kernel is not to be had
0 of 2 kernels passed, 2 of 3 checks
"
        );
    }

    #[test]
    fn the_object_says_the_same_and_whether_all_passed() {
        let value = json(&tried());
        assert_eq!(value["passed"], false);
        assert_eq!(value["kernels"][0]["checks"][2]["problem"], "lost");
        assert_eq!(value["kernels"][0]["debian"], "bookworm");
        assert_eq!(value["kernels"][1]["problem"], "the kernel is not to be had");
    }
}
