//! What the tests need of PyPI, pinned, in target/tools/python: the real Helm as a library, and the schemas of Kubernetes.

use crate::{command, progress::Progress};
use anyhow::Context;
use std::{fs, path::Path, process::Command};

/// Needs Python 3.7 or later.
const VALIDATE: &str = "kubernetes-validate==1.37.0";
/// Its metadata ask for a later Python than Debian has, though nothing in it does: so it is unpacked, not installed. Of
/// its own needs there is one.
const HELM: (&str, &str) = ("helm-sdkpy==0.1.32", "cffi==2.0.0");

/// Installs them unless these versions are there.
pub(crate) fn ensure(root: &Path, progress: &Progress) -> anyhow::Result<()> {
    let target = root.join("target/tools/python");
    let (stamp, versions) = (target.join("versions"), format!("{VALIDATE} {HELM:?}"));
    if fs::read_to_string(&stamp).is_ok_and(|there| there == versions) {
        progress.there("Python packages");
        return Ok(());
    }
    progress.step("Python packages: kubernetes-validate, helm-sdkpy", || {
        if target.exists() {
            fs::remove_dir_all(&target).with_context(|| format!("remove {}", target.display()))?;
        }
        install(&target)?;
        fs::write(&stamp, versions).with_context(|| format!("write {}", stamp.display()))
    })
}

fn install(target: &Path) -> anyhow::Result<()> {
    let (helm, needs) = HELM;
    let pip = |task: &str| {
        let mut pip = Command::new("pip3");
        pip.args([task, "--quiet", "--disable-pip-version-check", "--no-input"]);
        pip
    };
    command::quiet(pip("install").arg("--target").arg(target).args([VALIDATE, needs]))?;
    let wheels = target.join("wheels");
    let from = ["--no-deps", "--only-binary=:all:", "--python-version", "3.13"];
    command::quiet(pip("download").args(from).arg("--dest").arg(&wheels).arg(helm))?;
    for wheel in fs::read_dir(&wheels).with_context(|| format!("read {}", wheels.display()))? {
        let unpack = ["-m", "zipfile", "-e"];
        command::quiet(
            Command::new("python3")
                .args(unpack)
                .arg(wheel?.path())
                .arg(target),
        )?;
    }
    fs::remove_dir_all(&wheels).with_context(|| format!("remove {}", wheels.display()))
}
