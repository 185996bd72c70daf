//! From the wire's types to the core's. Everything a peer says is checked here, once: ids, ports, lengths, counts.

use crate::{
    proto::v1::{self, ClientEventKind, EventType},
    session::{Role, peer::PeerInfo},
    tokens::{MAX_TOKEN, Tokens},
};
use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    ops::RangeInclusive,
    time::Duration,
};
use voice_room::{
    ClientId, Epoch, Flow, IdError, Incarnation, OpId, Port, RoomId, Ssrc, TraceId, Version, Wall,
    input::{Ask, ClientAct, ClientFact, Credential, Heartbeat, Request, Served},
    sync::{Attempt, Known},
};

/// Rooms in one heartbeat message.
const MAX_ROOMS: usize = 10_000;
/// Ports of one room.
const MAX_PORTS: usize = 4096;
/// Flows, and SSRCs, of one room.
const MAX_MARKS: usize = 4096;
/// The longest reason, in bytes.
const MAX_REASON: usize = 256;
/// The longest name or version of a peer's software.
const MAX_SOFTWARE: usize = 64;

/// A message that is not taken, as the peer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A stable name.
    pub(super) code: &'static str,
    /// In words.
    pub(super) message: String,
    /// 0: waiting does not help.
    pub(super) retry_after_ms: u64,
}

impl Refusal {
    /// What was sent cannot be understood.
    pub(super) fn malformed(message: impl Into<String>) -> Refusal {
        Refusal::new("malformed", message)
    }

    /// The role of this peer does not allow it.
    pub(super) fn not_allowed(message: impl Into<String>) -> Refusal {
        Refusal::new("not_allowed", message)
    }

    /// A room that the peer does not serve.
    pub(super) fn not_your_room(room: &RoomId) -> Refusal {
        Refusal::new(
            "not_your_room",
            format!("this peer does not serve room {room}: nothing was asked of it"),
        )
    }

    /// A bound was reached.
    pub(super) fn limit(message: impl Into<String>) -> Refusal {
        Refusal::new("limit", message)
    }

    /// More messages than one peer may send.
    pub(super) fn too_fast(events_per_second: u32, wait: Duration) -> Refusal {
        Refusal {
            // At least 1: 0 would say that waiting does not help.
            retry_after_ms: u64::try_from(wait.as_millis())
                .unwrap_or(u64::MAX)
                .saturating_add(1),
            ..Refusal::limit(format!(
                "this peer sends more than session.events_per_second ({events_per_second}); a heartbeat counts as many as it \
                 lists rooms"
            ))
        }
    }

    fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
            retry_after_ms: 0,
        }
    }
}

impl From<IdError> for Refusal {
    fn from(e: IdError) -> Refusal {
        Refusal::malformed(e.to_string())
    }
}

/// Checks a Hello, all but its protocol version.
pub(super) fn hello(hello: &v1::Hello) -> Result<(), Refusal> {
    text("software", &hello.software, MAX_SOFTWARE)?;
    text("software_version", &hello.software_version, MAX_SOFTWARE)
}

/// A room event as a request to the core.
pub(super) fn room_event(
    peer: &PeerInfo,
    event: v1::RoomEvent,
    tokens: &Tokens,
    now: Wall,
) -> Result<Request, Refusal> {
    text("reason", &event.reason, MAX_REASON)?;
    let room = RoomId::new(&event.room)?;
    Ok(Request {
        op_id: event.op_id.as_deref().map(OpId::new).transpose()?,
        incarnation: event.incarnation.map(Incarnation),
        sequence: event.sequence,
        actor: peer.actor(),
        trace_id: peer.trace.clone(),
        reply: None,
        participants: Vec::new(),
        ask: ask(event, |token| credential(peer.role, token, tokens, &room, now))?,
        room,
    })
}

fn ask(
    event: v1::RoomEvent,
    credential: impl Fn(Option<&str>) -> Result<Credential, Refusal>,
) -> Result<Ask, Refusal> {
    let host = event.host.as_deref().map(ClientId::new).transpose()?;
    let kind = EventType::try_from(event.event).unwrap_or(EventType::Unspecified);
    Ok(match kind {
        EventType::Create => Ask::Create,
        EventType::StartLive => Ask::StartLive {
            host,
            credential: credential(event.token.as_deref())?,
        },
        EventType::HostReturn => Ask::HostReturn {
            host,
            credential: credential(event.token.as_deref())?,
        },
        EventType::HostDisconnect => Ask::HostDisconnect { reason: event.reason },
        EventType::NoActiveUser => Ask::NoActiveUser,
        EventType::Close => Ask::Close {
            version: Version(event.version.ok_or_else(|| {
                Refusal::malformed("CLOSE needs `version`, the version of the room that the caller saw")
            })?),
            reason: event.reason,
        },
        EventType::Unspecified => {
            return Err(Refusal::malformed(format!(
                "event {} is not one: allowed are CREATE, START_LIVE, HOST_DISCONNECT, HOST_RETURN, \
                 NO_ACTIVE_USER, CLOSE",
                event.event
            )));
        }
    })
}

/// What stands behind a host. A token that does not hold is for the core to refuse, after what weighs more.
fn credential(
    role: Role,
    token: Option<&str>,
    tokens: &Tokens,
    room: &RoomId,
    now: Wall,
) -> Result<Credential, Refusal> {
    if token.is_some_and(|token| token.len() > MAX_TOKEN) {
        return Err(Refusal::malformed(format!(
            "token: at most {MAX_TOKEN} bytes are allowed"
        )));
    }
    if role == Role::Media {
        return Ok(Credential::Trusted);
    }
    Ok(match tokens.verify(token, room, now) {
        Ok(verified) => Credential::Token { host: verified.host },
        Err(refused) => {
            refused.counter().count();
            Credential::Invalid(refused.to_string())
        }
    })
}

/// A client event as a fact for the core.
pub(super) fn client_event(peer: &PeerInfo, event: &v1::ClientEvent) -> Result<ClientFact, Refusal> {
    let what = match ClientEventKind::try_from(event.kind) {
        Ok(ClientEventKind::Join) => ClientAct::Join,
        Ok(ClientEventKind::Leave) => ClientAct::Leave,
        Ok(ClientEventKind::Keepalive) => ClientAct::Keepalive,
        Ok(ClientEventKind::Unspecified) | Err(_) => {
            return Err(Refusal::malformed(format!(
                "client event kind {} is not one: allowed are JOIN, LEAVE, KEEPALIVE",
                event.kind
            )));
        }
    };
    Ok(ClientFact {
        room: RoomId::new(&event.room)?,
        client: ClientId::new(&event.client_id)?,
        what,
        is_host: event.is_host,
        actor: peer.actor(),
        incarnation: event.incarnation.map(Incarnation),
        reply: None,
    })
}

/// A media heartbeat; one mistake refuses it whole.
pub(super) fn heartbeat(
    peer: &PeerInfo,
    heartbeat: &v1::MediaHeartbeat,
    range: &RangeInclusive<u16>,
) -> Result<Heartbeat, Refusal> {
    if peer.role != Role::Media {
        return Err(Refusal::not_allowed(format!(
            "a {} may not send media heartbeats: only peer-role media may",
            peer.role
        )));
    }
    if heartbeat.rooms.len() > MAX_ROOMS {
        return Err(Refusal::malformed(format!(
            "{} rooms in one heartbeat: at most {MAX_ROOMS}; send several messages",
            heartbeat.rooms.len()
        )));
    }
    let rooms = heartbeat
        .rooms
        .iter()
        .map(|room| served(room, range))
        .collect::<Result<Vec<Served>, Refusal>>()?;
    let mut seen = HashSet::new();
    if let Some(twice) = rooms.iter().find(|room| !seen.insert(&room.room)) {
        return Err(Refusal::malformed(format!(
            "room {} is listed twice in one heartbeat",
            twice.room
        )));
    }
    Ok(Heartbeat {
        source: peer.source.clone(),
        rooms,
        capacity: heartbeat.capacity,
    })
}

fn served(room: &v1::ServedRoom, range: &RangeInclusive<u16>) -> Result<Served, Refusal> {
    let id = RoomId::new(&room.room)?;
    if room.ports.len() > MAX_PORTS {
        return Err(Refusal::malformed(format!(
            "room {id}: {} ports, at most {MAX_PORTS} are allowed",
            room.ports.len()
        )));
    }
    for (n, what) in [(room.flows.len(), "flows"), (room.ssrcs.len(), "SSRCs")] {
        if n > MAX_MARKS {
            return Err(Refusal::malformed(format!(
                "room {id}: {n} {what}, at most {MAX_MARKS} are allowed"
            )));
        }
    }
    let port = |given: u32| local_port(&id, given, range);
    let ports: Result<BTreeSet<Port>, Refusal> = room.ports.iter().map(|given| port(*given)).collect();
    let flow = |f: &v1::Flow| flow(&id, f, port(f.local_port)?);
    let flows: Result<BTreeSet<Flow>, Refusal> = room.flows.iter().map(flow).collect();
    let ssrc = |s: &v1::Ssrc| {
        let port = port(s.local_port)?;
        Ok(Ssrc { port, ssrc: s.ssrc })
    };
    let ssrcs: Result<BTreeSet<Ssrc>, Refusal> = room.ssrcs.iter().map(ssrc).collect();
    let (ports, flows, ssrcs) = (ports?, flows?, ssrcs?);
    Ok(Served {
        room: id,
        ports: ports.into_iter().collect(),
        flows: flows.into_iter().collect(),
        ssrcs: ssrcs.into_iter().collect(),
        participants: room.participants,
        host: room.host.as_deref().map(ClientId::new).transpose()?,
    })
}

fn local_port(room: &RoomId, given: u32, range: &RangeInclusive<u16>) -> Result<Port, Refusal> {
    match u16::try_from(given) {
        Ok(port) if range.contains(&port) => Ok(Port(port)),
        _ => Err(Refusal::malformed(format!(
            "room {room}: port {given} is outside the media range {}-{}",
            range.start(),
            range.end()
        ))),
    }
}

fn flow(room: &RoomId, given: &v1::Flow, port: Port) -> Result<Flow, Refusal> {
    let bytes = given.remote_address.as_slice();
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let remote = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    let remote = remote.map_err(|_| {
        Refusal::malformed(format!(
            "room {room}: the remote address of a flow has {} bytes; IPv4 has 4, IPv6 16",
            bytes.len()
        ))
    })?;
    match u16::try_from(given.remote_port) {
        Ok(remote_port) if remote_port > 0 => Ok(Flow::new(port, remote, remote_port)),
        _ => Err(Refusal::malformed(format!(
            "room {room}: remote port {} of a flow; allowed are 1 to 65535",
            given.remote_port
        ))),
    }
}

/// What an acknowledgement names.
pub(super) fn ack(ack: &v1::ExpiredAck) -> Result<(RoomId, Version, Epoch), Refusal> {
    let epoch = epoch("ExpiredAck", ack.epoch)?;
    Ok((RoomId::new(&ack.room)?, Version(ack.version), epoch))
}

/// What the note of a COMMIT names.
pub(super) fn commit_ack(ack: &v1::CommitAck) -> Result<(RoomId, Version, Epoch), Refusal> {
    let epoch = epoch("CommitAck", ack.epoch)?;
    Ok((RoomId::new(&ack.room)?, Version(ack.version), epoch))
}

/// An answer to PREPARE: of which room, to which attempt, and what it is.
pub(super) fn prepare_ack(ack: v1::PrepareAck) -> Result<(RoomId, Attempt, Result<(), String>), Refusal> {
    text("refused", &ack.refused, MAX_REASON)?;
    let attempt = Attempt {
        epoch: epoch("PrepareAck", ack.epoch)?,
        number: ack.attempt,
    };
    let vote = match ack.refused {
        agreed if agreed.is_empty() => Ok(()),
        why => Err(why),
    };
    Ok((RoomId::new(&ack.room)?, attempt, vote))
}

/// What a peer holds of its rooms; one mistake refuses it whole.
pub(super) fn known_rooms(known: &v1::KnownRooms) -> Result<Vec<Known>, Refusal> {
    if known.rooms.len() > MAX_ROOMS {
        return Err(Refusal::malformed(format!(
            "{} rooms in one KnownRooms: at most {MAX_ROOMS}; send several messages",
            known.rooms.len()
        )));
    }
    let mut seen = HashSet::new();
    let mut one = |known: &v1::KnownRoom| {
        let room = RoomId::new(&known.room)?;
        if !seen.insert(room.clone()) {
            let twice = format!("room {room} stands twice in one KnownRooms");
            return Err(Refusal::malformed(twice));
        }
        Ok(Known {
            room,
            epoch: known.epoch.map(of_wire).unwrap_or_default(),
            incarnation: Incarnation(known.incarnation),
            version: Version(known.version),
            prepared: known.prepared,
        })
    };
    known.rooms.iter().map(&mut one).collect()
}

fn epoch(message: &str, given: Option<v1::Epoch>) -> Result<Epoch, Refusal> {
    let missing = || Refusal::malformed(format!("{message} needs `epoch`, as it came"));
    given.map(of_wire).ok_or_else(missing)
}

fn of_wire(epoch: v1::Epoch) -> Epoch {
    Epoch {
        era: epoch.era,
        revision: epoch.revision,
    }
}

/// The trace id of a W3C traceparent; `None` when it is not one, which W3C says to ignore.
pub(super) fn trace_id(traceparent: &str) -> Option<TraceId> {
    let mut parts = traceparent.split('-');
    let (_version, trace, parent, _flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = trace.len() == 32 && parent.len() == 16 && trace.bytes().any(|b| b != b'0');
    whole.then(|| TraceId::new(trace).ok()).flatten()
}

fn text(field: &str, given: &str, max: usize) -> Result<(), Refusal> {
    if given.len() > max || given.chars().any(char::is_control) {
        return Err(Refusal::malformed(format!(
            "{field}: at most {max} bytes without control characters are allowed"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
