//! Generates the gRPC code of admin and etcd from `proto/` (no protoc needed) and checks that the eBPF object is there and fresh.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["voice/agent/admin/v1/admin.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .type_attribute(".voice.agent.admin.v1", "#[derive(serde::Serialize)]")
        .type_attribute(
            ".voice.agent.admin.v1.Entry.what",
            "#[serde(tag = \"kind\", rename_all = \"snake_case\")]",
        )
        .message_attribute(".voice.agent.admin.v1.Value", "#[serde(transparent)]")
        .type_attribute(".voice.agent.admin.v1.Value.value", "#[serde(untagged)]")
        .compile_fds(files)?;
    // Compiled apart: it is no service of ours, so reflection must not name it.
    let etcd = protox::compile(["rpc.proto"], ["proto/etcd"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(etcd)?;
    ebpf_object()
}

/// The eBPF object is built by xtask, once for every profile; here it only must be there and newer than its sources.
fn ebpf_object() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?)
        .join("..")
        .canonicalize()?;
    let object = root.join("target/bpf/voice.o");
    println!("cargo:rerun-if-changed={}", object.display());
    let mut newest = SystemTime::UNIX_EPOCH;
    for source in ["voice-ebpf", "voice-common"] {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
        newest = newest.max(modified(&root.join(source))?);
    }
    let state = match fs::metadata(&object).and_then(|object| object.modified()) {
        Ok(built) if built >= newest => {
            println!("cargo:rustc-env=VOICE_BPF_OBJECT={}", object.display());
            return Ok(());
        }
        Ok(_) => "is older than its sources",
        Err(e) if e.kind() == io::ErrorKind::NotFound => "is not there",
        Err(_) => "cannot be read",
    };
    Err(format!(
        "the eBPF object {} {state}: run `cargo xtask build-ebpf`",
        object.display()
    )
    .into())
}

/// When the newest file below `path` was changed.
fn modified(path: &Path) -> io::Result<SystemTime> {
    if !path.is_dir() {
        return fs::metadata(path)?.modified();
    }
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(path)? {
        newest = newest.max(modified(&entry?.path())?);
    }
    Ok(newest)
}
