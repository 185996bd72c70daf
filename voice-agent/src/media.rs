//! Adapters that learn rooms from a media server and tell them to the driver.

mod facts;
pub mod janus;
pub mod livekit;
mod posts;
