//! How a gateway, a signalling server or a media server speaks to a voice agent. docs/PROTOCOL.md is the same in words.

pub mod keepalive;
mod role;
mod stream;

pub use role::Role;
pub use stream::{ClientError, PeerClient, PeerSender, ack_of, check_join};

/// The version of the protocol that is spoken.
pub const PROTOCOL_VERSION: u32 = 1;

/// What `voice-client/proto` describes, generated.
#[expect(
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the .proto files are documented"
)]
pub mod proto {
    /// Every `.proto` file, encoded as a `FileDescriptorSet`; for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

    /// The session stream and admission.
    pub mod v1 {
        tonic::include_proto!("voice.agent.v1");
    }
}
