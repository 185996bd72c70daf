//! A gateway: STATE_EXPIRED reaches it, and it asks before a rejoin.

use super::{AGENT_URL, Connection, Identity};
use crate::{clock, netns::Netns};
use anyhow::Context;
use std::time::Duration;
use voice_agent::proto::v1::{
    CheckJoinRequest, CheckJoinResponse, StateExpired, StateRestored, admission_client::AdmissionClient,
    agent_message::Message as FromAgent,
};
use voice_room::Mono;

/// A gateway on the session stream that acknowledges STATE_EXPIRED unless muted.
#[derive(Debug)]
pub struct Gateway {
    netns: String,
    /// Its stream.
    pub connection: Connection,
}

impl Gateway {
    /// Connects from inside the agent's namespace, serving `rooms` from the start.
    pub fn start(ns: &Netns, id: &str, rooms: &[&str]) -> anyhow::Result<Gateway> {
        let who = Identity {
            role: "gateway",
            id: id.to_owned(),
            rooms: rooms.iter().map(|r| (*r).to_owned()).collect(),
        };
        Ok(Gateway {
            netns: ns.name().to_owned(),
            connection: Connection::open(ns, who)?,
        })
    }

    /// Every STATE_EXPIRED of the room so far, with its time of arrival.
    pub fn expired(&self, room: &str) -> Vec<(Mono, StateExpired)> {
        self.connection.received(|m| match m {
            FromAgent::StateExpired(e) if e.room == room => Some(e.clone()),
            _ => None,
        })
    }

    /// Every STATE_RESTORED of the room so far.
    pub fn restored(&self, room: &str) -> Vec<(Mono, StateRestored)> {
        self.connection.received(|m| match m {
            FromAgent::StateRestored(r) if r.room == room => Some(r.clone()),
            _ => None,
        })
    }

    /// Waits for the first STATE_EXPIRED of the room.
    pub fn wait_expired(&self, room: &str, within: Duration) -> anyhow::Result<(Mono, StateExpired)> {
        clock::poll(within, || self.expired(room).into_iter().next())
            .with_context(|| format!("no STATE_EXPIRED of {room} within {within:?}"))
    }

    /// Asks whether a client may join now.
    pub fn check_join(&self, room: &str) -> anyhow::Result<CheckJoinResponse> {
        let room = room.to_owned();
        Netns::existing(&self.netns)?.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut client = AdmissionClient::connect(AGENT_URL).await?;
                Ok(client.check_join(CheckJoinRequest { room }).await?.into_inner())
            })
        })?
    }
}
