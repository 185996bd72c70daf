//! The only place where core and adapters meet: event → core → command → adapter → result event.

pub mod handle;

pub use handle::{Handle, JoinAnswer, Message, Query, Stopped};
