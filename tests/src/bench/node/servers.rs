//! Media servers with thousands of rooms: a heartbeat that lists all, and a socket for each room. No media: what the
//! kernel does with that is not the agent's time.

use crate::{
    netns::Netns,
    peer::{Connection, Identity},
    rtp::Task,
};
use anyhow::Context;
use std::{
    net::{Ipv4Addr, UdpSocket},
    ops::Range,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};
use voice_agent::proto::v1::{MediaHeartbeat, ServedRoom, peer_message::Message as ToAgent};

/// The port of room 0; the others follow.
const FIRST_PORT: u32 = 50_000;

/// A media server. Dropping it is its death: stream and sockets are gone.
pub(in crate::bench) struct Server {
    // Dropped in this order: the task sends on the connection.
    _heartbeats: Task,
    _connection: Arc<Connection>,
    _sockets: Vec<UdpSocket>,
}

impl Server {
    pub(in crate::bench) fn start(
        ns: &Netns,
        id: &str,
        rooms: Range<u32>,
        heartbeat: Duration,
    ) -> anyhow::Result<Server> {
        let ports = rooms.clone().map(|room| u16::try_from(FIRST_PORT + room));
        let ports = ports.collect::<Result<Vec<u16>, _>>()?;
        let bind = |port: u16| {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("bind port {port}"))
        };
        let sockets = ns.run(|| ports.into_iter().map(bind).collect::<anyhow::Result<Vec<_>>>())??;
        let who = Identity {
            role: "media",
            id: id.to_owned(),
            rooms: Vec::new(),
        };
        let connection = Arc::new(Connection::open(ns, who)?);
        let to = connection.clone();
        let heartbeats = Task::start(move |stop| {
            let list = list(rooms);
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                if Instant::now() >= due {
                    to.send(list.clone());
                    due += heartbeat;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        Ok(Server {
            _heartbeats: heartbeats,
            _connection: connection,
            _sockets: sockets,
        })
    }
}

/// The name of a room.
pub(super) fn name(room: u32) -> String {
    format!("room-{room:05}")
}

/// The number in a room's name.
pub(super) fn number(name: &str) -> Option<usize> {
    name.strip_prefix("room-")?.parse().ok()
}

fn list(rooms: Range<u32>) -> ToAgent {
    let served = |room| ServedRoom {
        room: name(room),
        ports: vec![FIRST_PORT + room],
        participants: 1,
        ..ServedRoom::default()
    };
    ToAgent::MediaHeartbeat(MediaHeartbeat {
        rooms: rooms.map(served).collect(),
        capacity: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_known_by_its_name() {
        assert_eq!(number(&name(7)), Some(7));
        assert_eq!(number("other"), None);
    }
}
