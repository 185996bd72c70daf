//! The OpenTelemetry receiver of the tests, from PyPI, pinned, in target/tools/rotel. It is one program; nothing of Python runs.

use crate::{command, progress::Progress};
use anyhow::Context;
use std::{fs, path::Path, process::Command};

const ROTEL: &str = "rotel==0.0.1a15";

/// Installs it unless this version is there.
pub(crate) fn ensure(root: &Path, progress: &Progress) -> anyhow::Result<()> {
    let target = root.join("target/tools/rotel");
    let stamp = target.join("version");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == ROTEL) {
        progress.there(ROTEL);
        return Ok(());
    }
    progress.step(ROTEL, || {
        if target.exists() {
            fs::remove_dir_all(&target).with_context(|| format!("remove {}", target.display()))?;
        }
        let mut pip = Command::new("pip3");
        pip.args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
        ]);
        command::quiet(pip.arg("--target").arg(&target).arg(ROTEL))?;
        fs::write(&stamp, ROTEL).with_context(|| format!("write {}", stamp.display()))
    })
}
