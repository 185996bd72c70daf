//! Peers that mean harm: what they say wrongly, and the check that a healthy room beside them did not notice. Bytes that
//! are no protocol are in `raw`. Methods panic with what did not happen: they are for tests.

pub mod raw;

use crate::{
    callers::PORT_OFFSET,
    clock, evidence, metrics,
    netns::{Netns, USER_IP},
    peer::{Connection, Identity},
    stage::{ALPHA, BETA, SOON, Stage},
};
use nix::unistd::Pid;
use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering},
};
use voice_agent::proto::v1::{
    Accepted, EventResult, EventType, Flow, MediaHeartbeat, Refused, RoomEvent, ServedRoom,
    agent_message::Message as FromAgent, event_result::Result as Answer, peer_message::Message as ToAgent,
};

/// A peer of any role that says what the test wants.
#[derive(Debug)]
pub struct Hostile {
    /// Its stream.
    pub connection: Connection,
    requests: AtomicU64,
}

impl Hostile {
    /// Connects from inside the agent's namespace.
    pub fn start(ns: &Netns, role: &'static str, id: &str) -> Hostile {
        let who = Identity {
            role,
            id: id.to_owned(),
            rooms: Vec::new(),
        };
        Hostile {
            connection: Connection::open(ns, who).unwrap_or_else(|e| panic!("{e:#}")),
            requests: AtomicU64::new(1),
        }
    }

    /// Asks, and waits for the answer.
    pub fn ask(&self, event: RoomEvent) -> Result<Accepted, Refused> {
        let request_id = self.requests.fetch_add(1, Ordering::Relaxed);
        self.connection
            .send(ToAgent::RoomEvent(RoomEvent { request_id, ..event }));
        let answer = || self.results().into_iter().find(|r| r.request_id == request_id);
        match clock::poll(SOON, answer).and_then(|r| r.result) {
            Some(Answer::Accepted(accepted)) => Ok(accepted),
            Some(Answer::Rejected(refused)) => Err(refused),
            None => panic!("no answer within {SOON:?}"),
        }
    }

    /// Asks for what must be refused; its code and words.
    pub fn is_refused(&self, event: &RoomEvent) -> (String, String) {
        match self.ask(event.clone()) {
            Ok(accepted) => panic!("{event:?} was accepted: {accepted:?}"),
            Err(refused) => (refused.code, refused.message),
        }
    }

    /// Sends what is not a request and must be refused; its code and words.
    pub fn say_refused(&self, message: ToAgent) -> Refused {
        let before = self.refusals().len();
        self.connection.send(message);
        clock::poll(SOON, || self.refusals().get(before).cloned())
            .unwrap_or_else(|| panic!("no refusal within {SOON:?}"))
    }

    /// Every refusal of what was not a request (`request_id` 0).
    pub fn refusals(&self) -> Vec<Refused> {
        let results = self.results().into_iter().filter(|r| r.request_id == 0);
        results
            .filter_map(|r| match r.result {
                Some(Answer::Rejected(refused)) => Some(refused),
                _ => None,
            })
            .collect()
    }

    /// Lists rooms.
    pub fn beat(&self, rooms: Vec<ServedRoom>) {
        self.connection.send(heartbeat(rooms));
    }

    fn results(&self) -> Vec<EventResult> {
        let results = self.connection.received(|m| match m {
            FromAgent::EventResult(r) => Some(r.clone()),
            _ => None,
        });
        results.into_iter().map(|(_, r)| r).collect()
    }
}

/// A heartbeat.
pub fn heartbeat(rooms: Vec<ServedRoom>) -> ToAgent {
    ToAgent::MediaHeartbeat(MediaHeartbeat {
        rooms,
        capacity: None,
    })
}

/// One served room with two participants.
pub fn served(room: &str, ports: &[u32]) -> ServedRoom {
    ServedRoom {
        room: room.to_owned(),
        ports: ports.to_vec(),
        participants: 2,
        ..Default::default()
    }
}

/// The flow of the user whom [`crate::callers::Callers`] has for a port of the node.
pub fn users_flow(port: u16) -> Flow {
    let user: Ipv4Addr = USER_IP.parse().unwrap_or(Ipv4Addr::UNSPECIFIED);
    Flow {
        local_port: port.into(),
        remote_address: user.octets().to_vec(),
        remote_port: (port - PORT_OFFSET).into(),
    }
}

/// An event of a room.
pub fn event(room: &str, event: EventType) -> RoomEvent {
    RoomEvent {
        room: room.to_owned(),
        event: event.into(),
        ..Default::default()
    }
}

/// The healthy rooms and the agent before the harm.
#[derive(Debug)]
pub struct Before {
    pid: Pid,
    page: String,
}

impl Before {
    /// Remembers.
    pub fn of(stage: &Stage) -> Before {
        Before {
            pid: stage.agent.pid().unwrap_or_else(|e| panic!("{e:#}")),
            page: page(stage),
        }
    }

    /// By how much a counter rose.
    pub fn counted(&self, stage: &Stage, counter: &str) -> u64 {
        self.rose(stage, &format!("{counter}_total"))
    }

    /// By how much a series rose. One that was not there before began at 0.
    pub fn rose(&self, stage: &Stage, series: &str) -> u64 {
        let series = format!("voice_agent_{series}");
        let value = |page: &str| metrics::value(page, &series).unwrap_or(0);
        value(&page(stage)) - value(&self.page)
    }

    /// Waits until a counter rose by at least so much.
    pub fn wait_counted(&self, stage: &Stage, counter: &str, by: u64) {
        clock::wait_for(&format!("{counter} rises by {by}"), SOON, || {
            self.counted(stage, counter) >= by
        });
    }

    /// The same agent answers; both rooms are live, were not cut, and lost no packet in either direction.
    pub fn assert_unharmed(&self, stage: &mut Stage) {
        assert_eq!(stage.agent.pid().ok(), Some(self.pid), "another agent");
        let status = stage.agent.json(&["status"]);
        assert!(status.is_ok(), "status: {status:?}");
        for room in [ALPHA, BETA] {
            assert_eq!(stage.agent.state(room), "LIVEING", "{room}");
            assert_eq!(evidence::entries(&stage.agent, room, "trip").len(), 0, "{room}");
            assert!(
                stage.gateway.expired(room).is_empty(),
                "{room}: STATE_EXPIRED was pushed"
            );
        }
        for party in [&mut stage.alpha, &mut stage.beta] {
            party.assert_lost_nothing();
            party.assert_heard_everything();
        }
    }
}

fn page(stage: &Stage) -> String {
    metrics::page(&stage.pair.node, "/metrics").unwrap_or_else(|e| panic!("{e:#}"))
}
