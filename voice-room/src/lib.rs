//! The rules of a room, and nothing else: state machine, guards, stuck detector, trip rule, sync; and the tiers of what the
//! agent depends on.
//!
//! Pure. Time comes in as an argument ([`Now`]), facts come in as [`Input`]s, decisions go out as [`Command`]s
//! that are plain comparable values. Nothing here knows eBPF, a store, gRPC, tokio or a clock; `no_std` is the
//! fence that keeps it so.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod binding;
pub mod command;
pub mod config;
pub mod core;
pub mod id;
pub mod input;
pub mod number;
pub mod patrol;
pub mod record;
pub mod reject;
pub mod state;
pub mod sync;
pub mod tier;
pub mod time;
pub mod timeline;

pub use binding::{Binding, Flow, Ssrc};
pub use command::Command;
pub use config::Rules;
pub use core::{Core, Tenure};
pub use id::{ClientId, IdError, NodeName, OpId, PeerId, RoomId, SourceId, TraceId};
pub use input::Input;
pub use number::{Epoch, Incarnation, Port, Version};
pub use record::{Change, Isolation, Maintenance, RoomRecord, StateChangeEvent};
pub use reject::Rejected;
pub use state::{EventType, State};
pub use time::{Mono, Now, Wall};
pub use timeline::{Entry, Evidence};
