//! Generates the gRPC code from `proto/` (no protoc needed) and checks that the eBPF object is there and fresh.

use std::{env, error::Error, path::PathBuf};

const PROTOS: &[&str] = &[
    "voice/agent/v1/session.proto",
    "voice/agent/v1/admission.proto",
    "voice/agent/admin/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost_encode(&files))?;
    tonic_prost_build::configure()
        .type_attribute(".voice.agent.admin.v1", "#[derive(serde::Serialize)]")
        .type_attribute(
            ".voice.agent.admin.v1.Entry.what",
            "#[serde(tag = \"kind\", rename_all = \"snake_case\")]",
        )
        .compile_fds(files)?;
    Ok(())
}

fn prost_encode(files: &prost_types::FileDescriptorSet) -> Vec<u8> {
    prost::Message::encode_to_vec(files)
}
