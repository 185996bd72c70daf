//! How a gateway, a signalling server or a media server speaks to a voice agent. docs/PROTOCOL.md is the same in words, for
//! those who write their own.
//!
//! [`Peer`] is all that an application needs: it keeps one stream up, answers pings and finds half-open connections,
//! reconnects with backoff, says again which rooms it serves and which requests were not answered, takes part in three-phase
//! sync, remembers isolations by its own monotonic clock, and applies the tiers Healthy, Degraded and Broken to the agent.
//! [`PeerClient`] is one bare stream, for tests and tools.
//!
//! ```no_run
//! use voice_client::{Event, Peer, Role, proto::v1};
//!
//! # async fn gateway() -> Result<(), Box<dyn std::error::Error>> {
//! let mut peer = Peer::builder(Role::Gateway, "gw-1")
//!     .endpoint("http://127.0.0.1:7400")
//!     .node_tag("rack-7")
//!     .start()?;
//! let agent = peer.handle();
//! tokio::spawn(async move {
//!     // A client knocks.
//!     let room = "r-1".parse()?;
//!     let join = agent.may_join(&room).await;
//!     if join.allowed {
//!         let event = v1::ClientEvent {
//!             room: room.to_string(),
//!             client_id: "alice".into(),
//!             kind: v1::ClientEventKind::Join.into(),
//!             ..Default::default()
//!         };
//!         agent.client_event(event).await?;
//!     } else {
//!         println!("not now: {}; again in {:?}", join.reason, join.retry_after);
//!     }
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
//! });
//! while let Some(event) = peer.next().await {
//!     match event {
//!         Event::Expired(expired) => println!("{}: disconnect its clients", expired.room),
//!         Event::Disconnected(end) => println!("{}; again in {:?}", end.why, end.again_in),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is bounded, and what happens then
//!
//! | what | most | then |
//! |---|---|---|
//! | events that wait for the application | 1,024 | the stream is not read; after 15 s it is given up and opened again |
//! | requests that wait | 1,024 | [`NotSent::Full`] |
//! | requests that are sent and not answered | 64 | others wait |
//! | messages that wait for the agent | 1,024 | the stream is given up ([`Why::NotRead`]) and opened again |
//! | rooms of which something is remembered | 32,768 | those above are told to the application, and not remembered |
//! | rooms that are said again after a reconnect | 16,384 | those above come back with what their clients say |

mod backoff;
mod builder;
mod clock;
mod desk;
mod dial;
mod event;
mod heartbeat;
pub mod keepalive;
mod memory;
mod peer;
mod role;
mod served;
mod stream;
mod tls;
mod wire;
mod worker;

pub use builder::{BuildError, Builder};
pub use desk::{NotSent, RequestError};
pub use event::{Connected, Disconnected, Event, Expired, Prepare, Why};
pub use memory::Join;
pub use peer::{Handle, Peer};
pub use role::Role;
pub use stream::{ClientError, PeerClient, PeerSender, ack_of, check_join};
pub use tls::Tls;

/// The highest version of the protocol that is spoken: with three-phase sync.
pub const PROTOCOL_VERSION: u32 = 2;
/// The lowest version that is still spoken.
pub const OLDEST_PROTOCOL_VERSION: u32 = 1;

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
