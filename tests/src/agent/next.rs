//! The agent as a later version of it would be: these sources with another version and another number of the map layout, in a
//! copy, so that nothing of it is in what ships. Dependencies are shared with the ordinary build.

use super::binary::{build, profile_dir, root};
use crate::netns::run;
use anyhow::{Context, ensure};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};
use voice_common::ABI_VERSION;

/// Its program's name, so that it does not take the place of the ordinary one.
const PROGRAM: &str = "voice-agent-next";

/// A build that comes next. Each has a version of its own: cargo takes copies of the same version for one.
#[derive(Debug, Clone, Copy)]
pub struct Next {
    /// What it says it is.
    pub version: &'static str,
    /// The ABI version of its maps.
    pub layout: u32,
}

/// With the maps of this build.
pub const SAME_LAYOUT: Next = Next {
    version: "0.998.0",
    layout: ABI_VERSION,
};

/// With other maps.
pub const NEXT_LAYOUT: Next = Next {
    version: "0.999.0",
    layout: ABI_VERSION + 1,
};

/// Builds it, which takes a minute or two the first time.
///
/// # Errors
/// The sources are not as this expects them, or do not build.
pub fn program(next: Next) -> anyhow::Result<PathBuf> {
    let profile = profile_dir(&env::current_exe()?)?;
    let target = profile.parent().context("no target directory above")?;
    let place = target.join("next").join(next.version);
    let copy = place.join("source");
    copy_sources(&copy)?;
    let version = |version| format!("version = \"{version}\"\n");
    let (ours, theirs) = (version(env!("CARGO_PKG_VERSION")), version(next.version));
    patch(&copy.join("Cargo.toml"), (&ours, &theirs))?;
    let layout = |number| format!("ABI_VERSION: u32 = {number};");
    let (ours, theirs) = (layout(ABI_VERSION), layout(next.layout));
    patch(&copy.join("voice-common/src/abi.rs"), (&ours, &theirs))?;
    let named =
        format!("autobins = false\n\n[[bin]]\nname = \"{PROGRAM}\"\npath = \"src/main.rs\"\n\n[lints]");
    patch(&copy.join("voice-agent/Cargo.toml"), ("[lints]", &named))?;
    // The whole workspace's features, so that no dependency is built twice.
    build(
        &profile,
        &copy,
        &[
            "--offline",
            "--workspace",
            "--exclude",
            "voice-ebpf",
            "--bin",
            PROGRAM,
        ],
    )?;
    let program = place.join("voice-agent");
    fs::copy(profile.join(PROGRAM), &program).with_context(|| format!("copy to {}", program.display()))?;
    Ok(program)
}

/// With their times, by which cargo and the agent's build tell what is new.
fn copy_sources(copy: &Path) -> anyhow::Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy).with_context(|| format!("remove {}", copy.display()))?;
    }
    let object = copy.join("target/bpf");
    fs::create_dir_all(&object)?;
    let root = root().canonicalize()?;
    let cp = |from: &[PathBuf], to: &Path| {
        run(Command::new("cp").args(["--archive", "--"]).args(from).arg(to)).map(drop)
    };
    cp(&[root.join("target/bpf/voice.o")], &object)?;
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ["));
    let members = members.context("the workspace's Cargo.toml has no members in one line")?;
    let quoted = members.split('"').skip(1).step_by(2);
    let files = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];
    let all: Vec<PathBuf> = files
        .into_iter()
        .chain(quoted)
        .map(|name| root.join(name))
        .collect();
    cp(&all, copy)
}

/// Replaces a text that must be there once. The file's time stays.
fn patch(file: &Path, (from, to): (&str, &str)) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let time = fs::metadata(file)?.modified()?;
    ensure!(
        text.matches(from).count() == 1,
        "{from:?} is not in {} once",
        file.display()
    );
    fs::write(file, text.replace(from, to))?;
    fs::File::options().write(true).open(file)?.set_modified(time)?;
    Ok(())
}
