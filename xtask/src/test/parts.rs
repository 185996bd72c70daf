//! The parts of the tests: the test binaries that cargo builds, their order, and which of them `--only` means.

use crate::{args::Test, command};
use anyhow::{Context, bail};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// What is quick and what all else stands on comes first; a crate that is not here comes last.
const ORDER: &[&str] = &[
    "voice-common",
    "voice-room",
    "voice-sim",
    "xtask",
    "voice-client",
    "voice-history",
    "voice-agent",
    "voice-tests",
];

/// A test binary, or the examples in the docs of every crate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// "voice-room", "voice-agent (bin)", "voice-tests kernel", "docs".
    pub(super) name: String,
    package: String,
    target: String,
    /// The program and its arguments up to those of the tests.
    run: Vec<String>,
    folder: PathBuf,
    /// Whether its tests measure times on namespaces and therefore run one by one.
    pub(super) serial: bool,
}

impl Part {
    /// The examples in the docs; cargo runs those.
    pub(super) fn docs(root: &Path) -> Part {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let args = [
            "test",
            "--quiet",
            "--locked",
            "--workspace",
            "--exclude",
            "voice-ebpf",
            "--doc",
            "--",
        ];
        Part {
            name: "docs".into(),
            package: "docs".into(),
            target: "docs".into(),
            run: [cargo].into_iter().chain(args.map(String::from)).collect(),
            folder: root.to_path_buf(),
            serial: false,
        }
    }

    /// Run as cargo would, in the folder of its crate, and stopped after `limit`: a test that hangs is a failure.
    pub(super) fn command(&self, limit: Duration) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--foreground", "--kill-after=10"])
            .arg(limit.as_secs().to_string())
            .args(&self.run)
            .current_dir(&self.folder);
        command::forget_package(&mut command);
        // Of the docs, cargo says itself whose they are.
        if self.name != "docs" {
            command.env("CARGO_MANIFEST_DIR", &self.folder);
        }
        command
    }

    /// A part from a line of cargo's JSON messages, if the line is about a test binary.
    fn from_message(message: &Value) -> Option<Part> {
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            return None;
        }
        let executable = message["executable"].as_str()?;
        let package = package_name(message["package_id"].as_str()?)?;
        let target = message["target"]["name"].as_str()?;
        let kind = message["target"]["kind"][0].as_str()?;
        let name = match kind {
            "test" => format!("{package} {target}"),
            "bin" if target != package => format!("{package} {target} (bin)"),
            "bin" => format!("{package} (bin)"),
            _ => package.to_string(),
        };
        Some(Part {
            name,
            package: package.into(),
            target: target.into(),
            run: vec![executable.into()],
            folder: Path::new(message["manifest_path"].as_str()?).parent()?.into(),
            serial: package == "voice-tests",
        })
    }

    fn rank(&self) -> usize {
        ORDER
            .iter()
            .position(|package| *package == self.package)
            .unwrap_or(ORDER.len())
    }

    /// How many of its tests a filter leaves.
    fn tests(&self, filter: Option<&str>, extra: &[String]) -> anyhow::Result<usize> {
        let mut list = self.command(Duration::from_secs(60));
        list.args(filter).args(["--list", "--format=terse"]).args(extra);
        Ok(command::quiet(&mut list)?
            .lines()
            .filter(|line| line.ends_with(": test"))
            .count())
    }
}

/// The package's name in cargo's package id: `…#name@version`, or `…/name#version`.
fn package_name(id: &str) -> Option<&str> {
    let (path, version) = id.rsplit_once('#')?;
    version
        .split_once('@')
        .map(|(name, _)| name)
        .or_else(|| path.rsplit('/').next())
}

/// Builds all binaries and all tests, and returns the test binaries in the order in which they run. The eBPF crate is
/// built for its own target (`build-ebpf`) and has no tests on the host.
pub(super) fn build(root: &Path) -> anyhow::Result<Vec<Part>> {
    let mut build = command::cargo(
        root,
        ["build", "--locked", "--workspace", "--exclude", "voice-ebpf"],
    );
    build.args([
        "--lib",
        "--bins",
        "--tests",
        "--message-format=json-render-diagnostics",
    ]);
    let output = build
        .stderr(Stdio::inherit())
        .output()
        .context("could not start cargo build")?;
    if !output.status.success() {
        bail!("the tests do not build ({})", output.status);
    }
    let mut parts = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message = serde_json::from_str(line).with_context(|| format!("cargo build said {line:?}"))?;
        parts.extend(Part::from_message(&message));
    }
    parts.sort_by(|a, b| (a.rank(), &a.name).cmp(&(b.rank(), &b.name)));
    Ok(parts)
}

/// The parts to run, each with its filter of test names. Binaries without a test are left out; `--only` with a name
/// that means nothing is an error, so that a misspelt name does not look like success.
pub(super) fn choose(parts: Vec<Part>, options: &Test) -> anyhow::Result<Vec<(Part, Option<&str>)>> {
    let (named, filter) = by_name(parts, options.only.as_deref());
    let mut chosen = Vec::new();
    for part in named {
        // The examples of the docs are listed by building each: they are run unasked, or by name.
        if part.name == "docs" && filter.is_some() {
            continue;
        }
        if part.name == "docs" || part.tests(filter, &options.extra)? > 0 {
            chosen.push((part, filter));
        }
    }
    if chosen.is_empty() {
        let only = options.only.as_deref().unwrap_or_default();
        bail!("no test to run: no crate, test file or test name is like {only:?}");
    }
    Ok(chosen)
}

/// The parts that a name means, or all of them with the name as a filter of test names.
fn by_name(parts: Vec<Part>, only: Option<&str>) -> (Vec<Part>, Option<&str>) {
    let Some(name) = only else { return (parts, None) };
    let is_named = |part: &Part| part.package == name || part.target == name;
    if !parts.iter().any(is_named) {
        return (parts, only);
    }
    (parts.into_iter().filter(is_named).collect(), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(package_id: &str, kind: &str, target: &str, test: bool) -> Value {
        json!({
            "reason": "compiler-artifact",
            "package_id": package_id,
            "manifest_path": "/src/tests/Cargo.toml",
            "target": { "kind": [kind], "name": target },
            "profile": { "test": test },
            "executable": format!("/src/target/debug/deps/{target}-1"),
        })
    }

    fn part(package_id: &str, kind: &str, target: &str) -> Part {
        Part::from_message(&message(package_id, kind, target, true)).unwrap()
    }

    fn some_parts() -> Vec<Part> {
        vec![
            part("path+file:///src/voice-room#0.1.0", "lib", "voice_room"),
            part("path+file:///src/tests#voice-tests@0.1.0", "test", "kernel"),
            part("path+file:///src/tests#voice-tests@0.1.0", "test", "janus"),
        ]
    }

    fn names(parts: &[Part]) -> Vec<&str> {
        parts.iter().map(|part| part.name.as_str()).collect()
    }

    #[test]
    fn a_part_is_named_after_its_crate_and_its_test_file() {
        assert_eq!(
            names(&some_parts()),
            ["voice-room", "voice-tests kernel", "voice-tests janus"]
        );
        let agent = part("path+file:///src/voice-agent#0.1.0", "bin", "voice-agent");
        assert_eq!(agent.name, "voice-agent (bin)");
    }

    #[test]
    fn only_the_tests_of_the_integration_crate_run_one_by_one() {
        assert_eq!(
            some_parts().iter().map(|part| part.serial).collect::<Vec<_>>(),
            [false, true, true]
        );
    }

    #[test]
    fn what_is_built_besides_tests_is_no_part() {
        assert_eq!(
            Part::from_message(&message("x#voice-tests@0.1.0", "bin", "demo", false)),
            None
        );
        assert_eq!(
            Part::from_message(&json!({ "reason": "build-finished", "success": true })),
            None
        );
    }

    #[test]
    fn the_name_of_a_crate_means_its_parts_whole() {
        let (parts, filter) = by_name(some_parts(), Some("voice-tests"));
        assert_eq!(
            (names(&parts), filter),
            (vec!["voice-tests kernel", "voice-tests janus"], None)
        );
    }

    #[test]
    fn the_name_of_a_test_file_means_that_file() {
        let (parts, filter) = by_name(some_parts(), Some("janus"));
        assert_eq!((names(&parts), filter), (vec!["voice-tests janus"], None));
    }

    #[test]
    fn any_other_name_is_a_filter_of_test_names_in_all_parts() {
        let (parts, filter) = by_name(some_parts(), Some("a_room_is_cut"));
        assert_eq!((parts.len(), filter), (3, Some("a_room_is_cut")));
    }
}
