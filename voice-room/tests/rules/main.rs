//! The rules of DESIGN 3 as scenarios and as properties over any sequence of inputs.
#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on fails, and reads better with values"
)]

mod bounds;
mod broken;
mod census;
mod lives;
mod maintenance;
mod model;
mod obey;
mod participant;
mod patrol;
mod ports;
mod properties;
mod restart;
mod said;
mod shared;
mod steps;
mod store;
mod stuck;
mod sync;
mod table;
mod tiers;
mod told;
mod witness;
mod world;
