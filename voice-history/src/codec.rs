//! How snapshots become bytes: rows of numbers, and of each row only what was not foreseen. Nothing here knows time or disk.
//!
//! A series of rows is: [how many rows came as foreseen, which columns did not], and for each of these the difference to what
//! was foreseen. Foreseen is of a counter that it rises as it last did, of anything else that it stays.

pub(crate) mod row;
pub(crate) mod series;
pub(crate) mod varint;

/// Bytes that are no series, or end too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);
