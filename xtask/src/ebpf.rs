//! `cargo xtask build-ebpf`: compiles the kernel programs into `target/bpf/voice.o`, which the agent embeds.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

/// The target of the kernel programs.
const TARGET: &str = "bpfel-unknown-none";

/// Builds the object below `root` (the workspace) and says where it is. One target directory of its own keeps `core`
/// cached: 45 s the first time, 1-3 s after. Needs `target/tools/bin/bpf-linker` and the component rust-src.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/tools/bin");
    ensure!(
        tools.join("bpf-linker").exists(),
        "{} is missing: `cargo xtask build-ebpf` installs it",
        tools.join("bpf-linker").display()
    );
    let target_dir = root.join("target/bpf/build");
    let status = cargo(root, &tools, &target_dir)?
        .status()
        .context("cannot run cargo for the kernel programs")?;
    if !status.success() {
        bail!("building the kernel programs (voice-ebpf) failed; cargo's messages are above");
    }
    let built = target_dir.join(TARGET).join("release/voice-ebpf");
    let object = root.join("target/bpf/voice.o");
    if !stands(root, &built, &object).unwrap_or(false) {
        replace(&built, &object)?;
    }
    Ok(object)
}

fn cargo(root: &Path, tools: &Path, target_dir: &Path) -> Result<Command> {
    let mut path = vec![tools.to_path_buf()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--release",
            "--package",
            "voice-ebpf",
            "-Z",
            "build-std=core",
        ])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir)
        // build-std is unstable; this lets the stable compiler do it.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", env::join_paths(path).context("PATH cannot be extended")?)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            [
                "-Clinker=bpf-linker",
                "-Cdebuginfo=2",
                "-Clink-arg=--btf",
                // 32-bit registers (Linux 5.1), and one load for the bytes of a port: every kernel we run on takes both.
                "-Ctarget-cpu=v3",
                "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
            ]
            .join("\x1f"),
        )
        .env_remove("RUSTC")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    Ok(cargo)
}

/// Whether the object in place is the one just built, and newer than all its sources, which is what the agent's build
/// asks for. Replacing it then would only make cargo build the agent again.
fn stands(root: &Path, built: &Path, object: &Path) -> io::Result<bool> {
    let placed = fs::metadata(object)?.modified()?;
    for source in ["voice-ebpf", "voice-common"] {
        if newest(&root.join(source))? > placed {
            return Ok(false);
        }
    }
    Ok(fs::read(built)? == fs::read(object)?)
}

/// When the newest file below `path` was changed.
fn newest(path: &Path) -> io::Result<SystemTime> {
    if !path.is_dir() {
        return fs::metadata(path)?.modified();
    }
    fs::read_dir(path)?.try_fold(SystemTime::UNIX_EPOCH, |time, entry| {
        Ok(time.max(newest(&entry?.path())?))
    })
}

/// Puts the new object in place at once. Its time becomes new: the agent's build compares it with the sources'.
fn replace(built: &Path, object: &Path) -> Result<()> {
    let fresh = object.with_extension("new");
    fs::copy(built, &fresh)
        .with_context(|| format!("cannot copy {} to {}", built.display(), fresh.display()))?;
    fs::rename(&fresh, object).with_context(|| format!("cannot put {} in place", object.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with an object, made after its sources.
    fn workspace(name: &str) -> (PathBuf, PathBuf, PathBuf) {
        let root = env::temp_dir().join(format!("voice-xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for source in ["voice-ebpf/src", "voice-common/src"] {
            fs::create_dir_all(root.join(source)).unwrap();
            write(&root.join(source).join("main.rs"), "code", 10);
        }
        let (built, object) = (root.join("built"), root.join("voice.o"));
        write(&built, "object", 20);
        write(&object, "object", 30);
        (root, built, object)
    }

    /// A file with a time of its own, in seconds.
    fn write(path: &Path, text: &str, second: u64) {
        fs::write(path, text).unwrap();
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
        fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }

    #[test]
    fn an_object_is_left_alone_only_while_it_is_the_built_one_and_newer_than_its_sources() {
        let (root, built, object) = workspace("stands");
        assert!(stands(&root, &built, &object).unwrap());
        write(&root.join("voice-common/src/main.rs"), "code", 31);
        assert!(!stands(&root, &built, &object).unwrap(), "a source is newer");
        write(&root.join("voice-common/src/main.rs"), "code", 10);
        write(&built, "another", 40);
        assert!(!stands(&root, &built, &object).unwrap(), "another was built");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn an_object_that_is_not_there_is_put_in_place() {
        let (root, built, object) = workspace("absent");
        fs::remove_file(&object).unwrap();
        assert!(!stands(&root, &built, &object).unwrap_or(false));
        replace(&built, &object).unwrap();
        assert_eq!(fs::read(&object).unwrap(), b"object");
        fs::remove_dir_all(&root).unwrap();
    }
}
