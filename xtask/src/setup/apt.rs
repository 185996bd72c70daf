//! apt with a root of its own: packages of another suite, while the machine's sources stay as they are.

use crate::command;
use anyhow::Context;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian's own server, where the machine's apt names no mirror of it.
pub(super) const DEBIAN: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt root in a folder.
pub(crate) struct PrivateApt {
    work: PathBuf,
}

impl PrivateApt {
    /// Makes `work` anew, with one suite of `mirror` as its only source, and fetches the lists of that.
    pub(crate) fn new(work: &Path, mirror: &str, suite: &str) -> anyhow::Result<PrivateApt> {
        if work.exists() {
            fs::remove_dir_all(work)?;
        }
        fs::create_dir_all(work.join("lists/partial"))?;
        fs::create_dir_all(work.join("cache/archives/partial"))?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(work.join("sources.list"), source)?;
        let apt = PrivateApt {
            work: work.to_path_buf(),
        };
        command::quiet(&mut apt.command("apt-get", &["update", "--quiet"]))
            .with_context(|| format!("fetch the lists of {suite} from {mirror}"))?;
        Ok(apt)
    }

    /// Downloads a package (`NAME`, or `NAME=VERSION`) and says where it is.
    pub(crate) fn download(&self, package: &str) -> anyhow::Result<PathBuf> {
        let before = self.packages()?;
        command::quiet(&mut self.command("apt-get", &["download", package]))?;
        let new = self.packages()?.into_iter().find(|file| !before.contains(file));
        new.with_context(|| format!("apt-get downloaded no package for {package}"))
    }

    /// What a package depends on, by name.
    pub(crate) fn depends(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let said = command::quiet(&mut self.command("apt-cache", &["depends", "--important", package]))?;
        Ok(dependencies(&said))
    }

    fn packages(&self) -> anyhow::Result<Vec<PathBuf>> {
        let files = fs::read_dir(&self.work)?.filter_map(|entry| Some(entry.ok()?.path()));
        Ok(files
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect())
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.work).env("LC_ALL", "C");
        for (key, file) in [
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            command
                .arg("-o")
                .arg(format!("{key}={}", self.work.join(file).display()));
        }
        // Only that one list; and root's own folders cannot be read by the user that apt would otherwise become.
        command
            .args(["-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"])
            .args(args);
        command
    }
}

fn dependencies(said: &str) -> Vec<String> {
    let names = said.lines().filter_map(|line| {
        let (kind, name) = line.trim().split_once(": ")?;
        kind.ends_with("Depends").then(|| name.trim().to_owned())
    });
    names.collect()
}

/// Where this machine's apt has Debian's main archive from; Debian's own server where it has it from nowhere (Ubuntu).
pub(crate) fn mirror() -> anyhow::Result<String> {
    let said = command::quiet(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]))?;
    Ok(archive(&said).unwrap_or(DEBIAN).to_owned())
}

/// The archive's path is `/debian` on every mirror; that of its security updates is another.
fn archive(said: &str) -> Option<&str> {
    let mut sources = said.lines().map(|uri| uri.trim_end_matches('/'));
    sources.find(|uri| uri.starts_with("http") && uri.ends_with("/debian"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_first_of_debians_main_archive_and_not_that_of_security_or_of_others() {
        let said = "https://packages.cloud.google.com/apt/\n\
                    http://one.example/debian-security/\n\
                    http://two.example/debian/\n\
                    http://three.example/debian/\n";
        assert_eq!(archive(said), Some("http://two.example/debian"));
        assert_eq!(archive("http://archive.ubuntu.com/ubuntu/\n"), None);
    }

    #[test]
    fn dependencies_are_read_by_name() {
        let said = "linux-image-7.2-amd64\n  PreDepends: linux-base\n |Depends: dracut\n  Depends: linux-binary-7.2-amd64\n\
                    \x20 Breaks: fwupdate\n";
        assert_eq!(
            dependencies(said),
            ["linux-base", "dracut", "linux-binary-7.2-amd64"]
        );
    }
}
