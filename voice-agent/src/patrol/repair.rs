//! A repair by command: what stands is written anew where this agent may, and looked at again. A difference that no round has
//! found twice is looked at a second time first.

use super::{Diffs, Found, grouped};
use crate::driver::{Handle, Stopped};
use futures::{StreamExt, stream};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{Instant, sleep};
use voice_room::{
    RoomId, Version,
    patrol::{Class, Difference, Place, Repair, Right, Worth},
    timeline::Actor,
};

/// Between the two looks at what no round has found twice.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How long a repair may take until it shows: the registry's is told of with a pause, and comes back by its watch.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);
/// Between the looks at whether it shows.
const AGAIN: Duration = Duration::from_millis(200);
/// Repairs at one time.
const AT_ONCE: usize = 64;

/// What is to be repaired.
#[derive(Debug, Clone)]
pub struct Order {
    /// `None`: every room.
    pub room: Option<RoomId>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Who decided it.
    pub actor: Actor,
}

/// What became of one difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Result {
    /// Which.
    pub difference: Difference,
    /// What.
    pub outcome: Outcome,
}

/// See the variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is gone.
    Repaired,
    /// It would be repaired.
    Would,
    /// Nothing is done about it here, and why.
    Left(String),
    /// It was tried, and why it still stands.
    Failed(String),
}

impl Outcome {
    /// The wire name.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Repaired => "repaired",
            Outcome::Would => "would_repair",
            Outcome::Left(_) => "left",
            Outcome::Failed(_) => "failed",
        }
    }
}

/// Repairs. The answer has each difference that was found, and what the last look could not read.
///
/// # Errors
/// The agent is shutting down.
pub async fn repair(handle: &Handle, order: &Order) -> std::result::Result<(Diffs, Vec<Result>), Stopped> {
    let first = handle.diff(order.room.clone()).await?;
    let mut diffs = first.clone();
    if first.found.iter().any(|found| found.rounds == 0) {
        sleep(SECOND_LOOK).await;
        diffs = handle.diff(order.room.clone()).await?;
    }
    let (repairs, mut results) = sort(&first.found, &diffs.found);
    if order.dry_run {
        let would = |difference| Result {
            difference,
            outcome: Outcome::Would,
        };
        results.extend(repairs.into_iter().map(would));
        return Ok((diffs, results));
    }
    let refused = carry_out(handle, &repairs, &order.actor).await?;
    let left = until_gone(handle, order, &repairs, &refused).await?;
    let outcome = |difference: Difference| {
        let place = (difference.room.clone(), difference.place);
        let outcome = match (refused.get(&place), left.iter().any(|d| d.is(&difference))) {
            (Some(why), _) => Outcome::Failed(why.clone()),
            (None, true) => Outcome::Failed("it still stands; see `voice-agent explain`".into()),
            (None, false) => Outcome::Repaired,
        };
        Result { difference, outcome }
    };
    let done: Vec<Result> = repairs.into_iter().map(outcome).collect();
    tell(handle, &done, &order.actor).await?;
    results.extend(done);
    Ok((diffs, results))
}

/// What is repaired, and what is left, with why.
fn sort(first: &[Found], second: &[Found]) -> (Vec<Difference>, Vec<Result>) {
    let (mut repairs, mut results) = (Vec::new(), Vec::new());
    for found in second {
        let difference = found.difference.clone();
        let stands = found.rounds > 0 || first.iter().any(|f| f.difference.is(&difference));
        // What the next refresh would put back can be put back now; what it would take over is right there.
        let here = difference.right == Right::Here;
        let store_first = difference.place == Place::Store && difference.class == Class::Transient && here;
        if stands && (difference.class == Class::Repairable || store_first) {
            repairs.push(difference);
            continue;
        }
        let why = match stands {
            true => difference.why.clone(),
            false => "it is new: the look before did not find it".into(),
        };
        let outcome = Outcome::Left(why);
        results.push(Result { difference, outcome });
    }
    (repairs, results)
}

/// Repairs each room in each place; why not, where it was refused.
async fn carry_out(
    handle: &Handle,
    repairs: &[Difference],
    actor: &Actor,
) -> std::result::Result<BTreeMap<(RoomId, Place), String>, Stopped> {
    let one = |((room, place), found): ((RoomId, Place), Vec<Difference>)| async move {
        let repair = Repair {
            room: room.clone(),
            place,
            stored: stored_version(&found),
            actor: actor.clone(),
            reply: None,
        };
        let answer = tokio::time::timeout(SHOWS_WITHIN, handle.repair(repair)).await;
        let refused = match answer {
            Ok(Ok(Ok(_))) => None,
            Ok(Ok(Err(why))) => Some(why.to_string()),
            Ok(Err(stopped)) => return Err(stopped),
            Err(_) => Some("the store has not answered yet; it is tried until it does".into()),
        };
        Ok(refused.map(|why| ((room, place), why)))
    };
    let all = stream::iter(grouped(repairs.to_vec()))
        .map(one)
        .buffer_unordered(AT_ONCE);
    let refused: Vec<_> = all.collect().await;
    let refused: std::result::Result<Vec<_>, Stopped> = refused.into_iter().collect();
    Ok(refused?.into_iter().flatten().collect())
}

/// The version that stands in the store, where it is one of what differs.
fn stored_version(found: &[Difference]) -> Option<Version> {
    found
        .iter()
        .find_map(|difference| match (&*difference.path, &difference.there) {
            ("/store/version", Worth::Number(version)) => Some(Version(*version)),
            _ => None,
        })
}

/// Looks until nothing of it stands any more, or for long enough; what still does.
async fn until_gone(
    handle: &Handle,
    order: &Order,
    repairs: &[Difference],
    refused: &BTreeMap<(RoomId, Place), String>,
) -> std::result::Result<Vec<Difference>, Stopped> {
    let tried = |d: &&Difference| !refused.contains_key(&(d.room.clone(), d.place));
    let tried: Vec<&Difference> = repairs.iter().filter(tried).collect();
    if tried.is_empty() {
        return Ok(Vec::new());
    }
    let until = Instant::now() + SHOWS_WITHIN;
    loop {
        let now = handle.diff(order.room.clone()).await?.found;
        let stands = |d: &&&Difference| now.iter().any(|found| found.difference.is(d));
        let left: Vec<Difference> = tried.iter().filter(stands).map(|d| (*d).clone()).collect();
        if left.is_empty() || Instant::now() >= until {
            return Ok(left);
        }
        sleep(AGAIN).await;
    }
}

/// What was done is recorded, of each room and place once.
async fn tell(handle: &Handle, done: &[Result], actor: &Actor) -> std::result::Result<(), Stopped> {
    let gone = done.iter().filter(|r| r.outcome == Outcome::Repaired);
    let gone = gone.map(|r| r.difference.clone()).collect();
    handle
        .repaired(gone, actor.clone(), Ok("gone afterwards".into()))
        .await?;
    for result in done {
        if let Outcome::Failed(why) = &result.outcome {
            let failed = vec![result.difference.clone()];
            handle.repaired(failed, actor.clone(), Err(why.clone())).await?;
        }
    }
    Ok(())
}
