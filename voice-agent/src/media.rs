//! Adapters that learn rooms from a media server and tell them to the driver.

pub mod janus;
