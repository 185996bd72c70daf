//! Who owns a room, and under which epoch.

pub mod local;

pub use local::LocalRegistry;
