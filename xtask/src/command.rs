//! Running other programs: quietly with the output kept for the error, or loudly.

use anyhow::{Context, bail};
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A cargo command in the workspace, by the cargo that runs us, with target/ as the place of what it builds (other
/// files refer to it). Never waits for input.
pub(crate) fn cargo<S: AsRef<OsStr>>(root: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root)
        .env_remove("CARGO_TARGET_DIR")
        .args(args)
        .stdin(Stdio::null());
    forget_package(&mut command);
    command
}

/// Does not hand on what cargo says of the package that it runs. The crate ring builds itself anew, and with it all that stands on
/// it, when that differs from the last build.
pub(crate) fn forget_package(command: &mut Command) {
    let of_package = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_package(name)) {
        command.env_remove(name);
    }
}

/// Where cargo leaves the programs of the dev profile.
pub(crate) fn built(root: &Path, program: &str) -> PathBuf {
    root.join("target/debug").join(program)
}

/// Runs it and returns its standard output. Its whole output is in the error when it fails.
pub(crate) fn quiet(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(stdout.into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!("{command:?} failed ({}):\n{stdout}{stderr}", output.status);
}

/// Runs it with its output shown.
pub(crate) fn loud(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("could not start {command:?}"))?;
    if status.success() {
        return Ok(());
    }
    bail!("{command:?} failed ({status})");
}

/// Where a program is: in PATH or in the system's folders, which PATH often lacks for people who are not root.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_failure_shows_the_command_and_both_outputs() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let error = format!("{:#}", quiet(&mut command).unwrap_err());
        for part in ["\"sh\"", "out\n", "err\n", "3"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn a_package_that_runs_us_is_not_handed_on() {
        // Set by whoever runs tests: cargo, or `cargo xtask test`.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let mut command = Command::new("env");
        forget_package(&mut command);
        let left = quiet(&mut command).unwrap();
        assert!(
            !left.contains("CARGO_MANIFEST_") && !left.contains("CARGO_PKG_"),
            "{left}"
        );
        assert!(left.contains("PATH="), "{left}");
    }

    #[test]
    fn a_quiet_success_gives_standard_output_only() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2"]);
        assert_eq!(quiet(&mut command).unwrap(), "out\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-here"), None);
    }
}
