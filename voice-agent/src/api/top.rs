//! `Top`: the question checked, the answer as a message.

use super::{About, convert};
use crate::{
    driver::top::{Only, PAGE, Page, Sort, Top},
    proto::admin as pb,
};
use tonic::Status;
use voice_room::{RoomId, State};

/// What is asked for.
pub(super) fn page(asked: &pb::TopRequest) -> Result<Page, Status> {
    if asked.matching.len() > RoomId::MAX_LEN {
        return Err(Status::invalid_argument(format!(
            "matching is {} bytes long; an id has {} at most",
            asked.matching.len(),
            RoomId::MAX_LEN
        )));
    }
    Ok(Page {
        sort: sort(&asked.sort)?,
        reverse: asked.reverse,
        only: only(&asked.only)?,
        matching: asked.matching.to_ascii_lowercase(),
        offset: asked.offset as usize,
        limit: (asked.limit as usize).min(PAGE),
    })
}

fn sort(name: &str) -> Result<Sort, Status> {
    if name.is_empty() {
        return Ok(Sort::default());
    }
    let known = Sort::ALL.into_iter().find(|sort| sort.name() == name);
    known.ok_or_else(|| {
        let all = Sort::ALL.map(Sort::name).join(", ");
        Status::invalid_argument(format!("sort {name:?} is not known: allowed are {all}"))
    })
}

fn only(name: &str) -> Result<Only, Status> {
    match name {
        "" => Ok(Only::All),
        "blocked" => Ok(Only::Blocked),
        "held" => Ok(Only::Held),
        "missing" => Ok(Only::Missing),
        name => {
            let state = State::ALL.into_iter().find(|state| state.name() == name);
            state.map(Only::In).ok_or_else(|| {
                let states = State::ALL.map(State::name).join(", ");
                Status::invalid_argument(format!(
                    "only {name:?} is not known: allowed are blocked, held, missing, {states}"
                ))
            })
        }
    }
}

/// What was found.
pub(super) fn answer(top: &Top, offset: usize, about: &About) -> pb::TopResponse {
    let now = convert::now();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    pb::TopResponse {
        node: about.node.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_ms: convert::millis(now.since(about.started)),
        mode: convert::mode(about.mode.get()),
        kill_switch: top.kill_switch,
        counts: Some(convert::counts(&top.census)),
        rooms: top
            .rooms
            .iter()
            .map(|v| convert::room(v, &about.node, now))
            .collect(),
        matching: number(top.matching),
        offset: number(offset),
        dependencies: about.tiers.views().iter().map(convert::dependency).collect(),
        trips: top
            .trips
            .iter()
            .map(|(rule, trips)| pb::TripsByRule {
                rule: convert::name(rule),
                trips: *trips,
            })
            .collect(),
        recent_trips: top
            .recent
            .iter()
            .map(|trip| pb::Tripped {
                at: Some(convert::time(trip.at)),
                room: trip.room.to_string(),
                rule: convert::name(&trip.rule),
            })
            .collect(),
    }
}
