//! Generates the gRPC code of the session stream and of admission from `proto/` (no protoc needed).

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: &[&str] = &["voice/agent/v1/session.proto", "voice/agent/v1/admission.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&files))?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
