//! Cargo's tools, pinned, in target/tools: installed once, left alone while the version is right.

use crate::{command, progress::Progress};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A program from crates.io.
#[derive(Debug)]
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Must match rustc's LLVM. This version loads rustc's own libLLVM and needs no LLVM installed; later ones want a
/// prefix of an installed LLVM.
pub(crate) const BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.10.4",
};

/// Licences, duplicates and sources of dependencies.
pub(crate) const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};

/// Dependencies that nothing uses.
pub(crate) const CARGO_MACHETE: Tool = Tool {
    name: "cargo-machete",
    version: "0.9.2",
};

impl Tool {
    /// Where it is, once ensured.
    pub(crate) fn path(&self, root: &Path) -> PathBuf {
        root.join("target/tools/bin").join(self.name)
    }

    /// Installs it unless the right version is there.
    pub(crate) fn ensure(&self, root: &Path, progress: &Progress) -> anyhow::Result<PathBuf> {
        let Tool { name, version } = self;
        let step = format!("{name} {version}");
        let path = self.path(root);
        if path.exists() && self.is_version(&command::quiet(Command::new(&path).arg("--version"))?) {
            progress.there(&step);
            return Ok(path);
        }
        let wanted = format!("={version}");
        let install = [
            "install",
            name,
            "--version",
            &wanted,
            "--locked",
            "--root",
            "target/tools",
        ];
        progress.step(&step, || command::quiet(&mut command::cargo(root, install)))?;
        Ok(path)
    }

    /// Whether the output of `--version` (with or without the name) tells the pinned version.
    fn is_version(&self, output: &str) -> bool {
        output.split_whitespace().next_back() == Some(self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_a_tool_is_not_taken_for_the_pinned_one() {
        assert!(BPF_LINKER.is_version("bpf-linker 0.10.4\n"));
        assert!(BPF_LINKER.is_version("0.10.4"));
        assert!(!BPF_LINKER.is_version("bpf-linker 0.10.40\n"));
        assert!(!BPF_LINKER.is_version("bpf-linker 0.13.0\n"));
        assert!(!BPF_LINKER.is_version(""));
    }
}
