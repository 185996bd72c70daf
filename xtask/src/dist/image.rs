//! An OCI image from scratch, as one archive that `podman load` and `skopeo copy oci-archive:…` take. It has the static
//! binary and the folders that it works in; no base image, no shell, and no tool was needed to make it but tar.

use super::{Dist, VERSION, sha256};
use crate::command;
use anyhow::Context;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// What a container mounts something on, or may write to.
const FOLDERS: [&str; 5] = [
    "etc/voice-agent",
    "var/lib/voice-agent",
    "run/voice-agent",
    "sys/fs/bpf",
    "tmp",
];

pub(super) fn make(dist: &Dist<'_>) -> anyhow::Result<PathBuf> {
    let (layout, root) = (dist.tree.join("image"), dist.tree.join("root"));
    let blobs = layout.join("blobs/sha256");
    for folder in FOLDERS
        .iter()
        .map(|name| root.join(name))
        .chain([root.join("usr/bin"), blobs.clone()])
    {
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let program = root.join("usr/bin/voice-agent");
    fs::copy(&dist.binary, &program).with_context(|| format!("copy to {}", program.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let layer = dist.tree.join("layer.tar");
    tar(&root, &layer)?;
    let layer = Blob::of(&blobs, &layer)?;
    let config = Blob::json(&blobs, &config(&layer))?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.as_a("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.as_a("application/vnd.oci.image.layer.v1.tar")],
    });
    let mut manifest = Blob::json(&blobs, &manifest)?.as_a("application/vnd.oci.image.manifest.v1+json");
    manifest["annotations"] =
        json!({ "org.opencontainers.image.ref.name": format!("voice-agent:{VERSION}") });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(
        layout.join("oci-layout"),
        json!({ "imageLayoutVersion": "1.0.0" }).to_string(),
    )?;
    let to = dist.out.join(format!("voice-agent-{VERSION}-x86_64.oci.tar"));
    tar(&layout, &to)?;
    Ok(to)
}

/// The same bytes for the same content: names in order, nobody's, of no time.
fn tar(folder: &Path, to: &Path) -> anyhow::Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--mtime=@0", "--owner=0", "--group=0"])
        .args(["--numeric-owner", "--mode=go-w", "--format=gnu"])
        .arg("--file")
        .arg(to)
        .arg("--directory")
        .arg(folder)
        .arg(".");
    command::quiet(&mut tar).map(drop)
}

fn config(layer: &Blob) -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/voice-agent"],
            "Cmd": ["run"],
            // For `kubectl exec … -- voice-agent rooms --blocked`.
            "Env": ["PATH=/usr/bin"],
            "User": "0:0",
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "voice-agent",
                "org.opencontainers.image.version": VERSION,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        // The layer is not compressed, so its digest is also that of its content.
        "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
    })
}

/// A file under its digest.
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    /// Moves a file there.
    fn of(blobs: &Path, file: &Path) -> anyhow::Result<Blob> {
        let (sum, size) = (sha256(file)?, fs::metadata(file)?.len());
        fs::rename(file, blobs.join(&sum)).with_context(|| format!("move {}", file.display()))?;
        Ok(Blob {
            digest: format!("sha256:{sum}"),
            size,
        })
    }

    fn json(blobs: &Path, value: &Value) -> anyhow::Result<Blob> {
        let file = blobs.join("new");
        fs::write(&file, value.to_string()).with_context(|| format!("write {}", file.display()))?;
        Blob::of(blobs, &file)
    }

    /// How others name it.
    fn as_a(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.size })
    }
}
