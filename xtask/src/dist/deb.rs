//! The Debian package, by dpkg-deb, which every Debian has; a tool that does more would have to be built first. Its maintainer
//! scripts are in `deploy/debian`.

use super::{Dist, VERSION};
use crate::command;
use anyhow::Context;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Of the package, on top of the workspace's version.
const REVISION: &str = "1";
/// Whoever builds it is who ships it.
const MAINTAINER: &str = "The voice-agent authors <voice-agent@packages.invalid>";
const DESCRIPTION: &str = "\
Description: circuit breaker for live voice rooms
 voice-agent follows the voice rooms of a media server on this host. One that
 is stuck it cuts in the kernel (XDP and TC), for a time and by itself, and
 tells the gateways. The cut ends at its deadline even if the agent is dead.
";

pub(super) fn make(dist: &Dist<'_>) -> anyhow::Result<PathBuf> {
    let stage = Stage(dist.tree.join("deb"));
    stage.programs(dist)?;
    stage.documents(dist)?;
    stage.control(dist)?;
    let to = dist
        .out
        .join(format!("voice-agent_{VERSION}-{REVISION}_amd64.deb"));
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "--build"])
        .arg(&stage.0)
        .arg(&to);
    command::quiet(&mut build)?;
    Ok(to)
}

/// The files of the package, as they will lie below /.
struct Stage(PathBuf);

impl Stage {
    fn programs(&self, dist: &Dist<'_>) -> anyhow::Result<()> {
        let (root, tree) = (dist.root, &dist.tree);
        for (from, to, mode) in [
            (dist.binary.clone(), "usr/bin/voice-agent", 0o755),
            (tree.join("config.toml"), "etc/voice-agent/config.toml", 0o640),
            (
                root.join("deploy/systemd/voice-agent.service"),
                "lib/systemd/system/voice-agent.service",
                0o644,
            ),
            (
                tree.join("voice-agent.bash"),
                "usr/share/bash-completion/completions/voice-agent",
                0o644,
            ),
            (
                tree.join("_voice-agent"),
                "usr/share/zsh/vendor-completions/_voice-agent",
                0o644,
            ),
            (
                tree.join("voice-agent.fish"),
                "usr/share/fish/vendor_completions.d/voice-agent.fish",
                0o644,
            ),
            (
                root.join("deploy/debian/lintian-overrides"),
                "usr/share/lintian/overrides/voice-agent",
                0o644,
            ),
            (
                root.join("docs/OPERATIONS.md"),
                "usr/share/doc/voice-agent/OPERATIONS.md",
                0o644,
            ),
            (
                root.join("docs/PROTOCOL.md"),
                "usr/share/doc/voice-agent/PROTOCOL.md",
                0o644,
            ),
        ] {
            self.copy(&from, to, mode)?;
        }
        Ok(())
    }

    /// Manual pages, copyright and both logs of changes, as Debian wants them.
    fn documents(&self, dist: &Dist<'_>) -> anyhow::Result<()> {
        let man = dist.tree.join("man1");
        for page in fs::read_dir(&man).with_context(|| format!("read {}", man.display()))? {
            let page = page?;
            let to = format!("usr/share/man/man1/{}", page.file_name().to_string_lossy());
            self.copy(&page.path(), &to, 0o644)?;
            self.compress(&to)?;
        }
        let doc = "usr/share/doc/voice-agent";
        let licence = fs::read_to_string(dist.root.join("LICENSE-MIT")).context("read LICENSE-MIT")?;
        let copyright = format!(
            "Either the licence below or, at your option, the Apache License 2.0 (/usr/share/common-licenses/Apache-2.0).\n\n{licence}"
        );
        self.write(&format!("{doc}/copyright"), &copyright, 0o644)?;
        let log = ["log", "-1", "--format=%aD"];
        let date = command::quiet(Command::new("git").current_dir(dist.root).args(log))?;
        let changes = format!(
            "voice-agent ({VERSION}-{REVISION}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {MAINTAINER}  {date}"
        );
        self.write(&format!("{doc}/changelog.Debian"), &changes, 0o644)?;
        self.copy(
            &dist.root.join("CHANGELOG.md"),
            &format!("{doc}/changelog"),
            0o644,
        )?;
        self.compress(&format!("{doc}/changelog.Debian"))?;
        self.compress(&format!("{doc}/changelog"))
    }

    fn control(&self, dist: &Dist<'_>) -> anyhow::Result<()> {
        let sums = "find . -type f -not -path './DEBIAN/*' -printf '%P\\0' | sort -z | xargs -0 md5sum";
        let sums = command::quiet(Command::new("sh").current_dir(&self.0).args(["-c", sums]))?;
        let size = command::quiet(
            Command::new("du")
                .args(["-k", "-s", "--apparent-size"])
                .arg(&self.0),
        )?;
        let size = size.split_whitespace().next().unwrap_or("0");
        let control = format!(
            "Package: voice-agent\nVersion: {VERSION}-{REVISION}\nArchitecture: amd64\nMaintainer: {MAINTAINER}\n\
             Installed-Size: {size}\nSection: net\nPriority: optional\n{DESCRIPTION}"
        );
        self.write("DEBIAN/control", &control, 0o644)?;
        self.write("DEBIAN/conffiles", "/etc/voice-agent/config.toml\n", 0o644)?;
        self.write("DEBIAN/md5sums", &sums, 0o644)?;
        for script in ["postinst", "prerm", "postrm"] {
            let from = dist.root.join("deploy/debian").join(script);
            self.copy(&from, &format!("DEBIAN/{script}"), 0o755)?;
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> anyhow::Result<()> {
        let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        self.put(to, &content, mode)
    }

    fn write(&self, to: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        self.put(to, text.as_bytes(), mode)
    }

    fn put(&self, to: &str, content: &[u8], mode: u32) -> anyhow::Result<()> {
        let file = self.0.join(to);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        fs::write(&file, content).with_context(|| format!("write {}", file.display()))?;
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&file, mode).with_context(|| format!("the mode of {}", file.display()))
    }

    /// Without a name and a time, so that the same content gives the same package.
    fn compress(&self, file: &str) -> anyhow::Result<()> {
        command::quiet(Command::new("gzip").args(["-9", "-n"]).arg(self.0.join(file))).map(drop)
    }
}
