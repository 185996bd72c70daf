//! The kernel programs: what a packet costs, how many instructions the verifier looked at, how soon a trip drops, and how
//! many packets are dropped beside nftables.

mod cost;
mod flood;
mod rate;
mod reaction;

use super::{Figure, progress::step};

/// Every figure, in one run.
pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let mut figures = step("cost per packet", cost::figures)?;
    figures.extend(step("from arming to the first drop", reaction::figures)?);
    figures.extend(step("packets dropped, beside nftables", rate::figures)?);
    Ok(figures)
}
