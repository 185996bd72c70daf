//! `cargo xtask dist`: what is shipped, in target/shipped: a static binary, an OCI image, a Debian package, and their checksums.

mod deb;
mod image;

use crate::{build_ebpf, command, progress::Progress, setup};
use anyhow::Context;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where things go.
struct Dist<'a> {
    root: &'a Path,
    /// target/shipped, made anew; target/dist is cargo's, of the profile by that name.
    out: PathBuf,
    /// What goes into the package besides the binary.
    tree: PathBuf,
    /// The static binary.
    binary: PathBuf,
}

/// Makes everything; prints the files.
pub(crate) fn run(root: &Path, progress: &Progress) -> anyhow::Result<ExitCode> {
    setup::packages(progress, &[setup::DIST])?;
    build_ebpf(root, progress)?;
    let dist = Dist {
        root,
        out: root.join("target/shipped"),
        tree: root.join("target/shipped-tree"),
        binary: root
            .join("target")
            .join(setup::STATIC_TARGET)
            .join("dist/voice-agent"),
    };
    progress.section("static binary", || dist.build())?;
    dist.clear()?;
    let mut files = vec![dist.copy_binary()?];
    dist.describe()?;
    files.push(progress.step("image", || image::make(&dist))?);
    files.push(progress.step("Debian package", || deb::make(&dist))?);
    files.push(dist.checksums(&files)?);
    for file in files {
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

impl Dist<'_> {
    fn build(&self) -> anyhow::Result<()> {
        setup::static_target(self.root)?;
        let build = [
            "build",
            "--locked",
            "--profile",
            "dist",
            "--target",
            setup::STATIC_TARGET,
        ];
        let what = ["--package", "voice-agent", "--bin", "voice-agent"];
        command::loud(&mut command::cargo(self.root, build.into_iter().chain(what)))
    }

    fn clear(&self) -> anyhow::Result<()> {
        for folder in [&self.out, &self.tree] {
            if folder.exists() {
                fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
            }
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(())
    }

    fn copy_binary(&self) -> anyhow::Result<PathBuf> {
        let to = self.out.join(format!("voice-agent-{VERSION}-x86_64-linux"));
        fs::copy(&self.binary, &to).with_context(|| format!("copy {}", self.binary.display()))?;
        Ok(to)
    }

    /// Manual pages, completions and the default configuration, by the program itself.
    fn describe(&self) -> anyhow::Result<()> {
        let ask = |args: &[&str]| {
            let mut program = Command::new(&self.binary);
            command::quiet(program.env_clear().args(args))
        };
        let man = self.tree.join("man1");
        ask(&["man", "--out", &man.to_string_lossy()])?;
        for (name, args) in [
            ("config.toml", &["config", "default"]),
            ("voice-agent.bash", &["completions", "bash"]),
            ("_voice-agent", &["completions", "zsh"]),
            ("voice-agent.fish", &["completions", "fish"]),
        ] {
            let file = self.tree.join(name);
            fs::write(&file, ask(args)?).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(())
    }

    /// In the form that `sha256sum --check` reads.
    fn checksums(&self, files: &[PathBuf]) -> anyhow::Result<PathBuf> {
        let names = files.iter().filter_map(|file| file.file_name());
        let sums = command::quiet(Command::new("sha256sum").current_dir(&self.out).args(names))?;
        let file = self.out.join("SHA256SUMS");
        fs::write(&file, sums).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }
}

/// The SHA-256 of a file, in hexadecimal.
fn sha256(file: &Path) -> anyhow::Result<String> {
    let said = command::quiet(Command::new("sha256sum").arg("--").arg(file))?;
    let sum = said.split_whitespace().next();
    sum.map(str::to_owned)
        .with_context(|| format!("sha256sum said {said:?}"))
}
