//! What every adapter tells in the same words: a client's act, and a change that is asked for.

use voice_room::{
    ClientId, Input, RoomId, SourceId,
    input::{Ask, ClientAct, ClientFact, Request},
    timeline::Actor,
};

/// A client joined, left or is still there.
pub(super) fn client(
    source: &SourceId,
    room: &RoomId,
    client: &ClientId,
    what: ClientAct,
    is_host: bool,
) -> Input {
    Input::Client(ClientFact {
        room: room.clone(),
        client: client.clone(),
        what,
        is_host,
        actor: Actor::Source(source.clone()),
        incarnation: None,
        reply: None,
    })
}

/// A change of the room. Nobody waits for the answer.
pub(super) fn request(source: &SourceId, room: &RoomId, ask: Ask) -> Input {
    Input::Request(Request {
        room: room.clone(),
        ask,
        actor: Actor::Source(source.clone()),
        op_id: None,
        incarnation: None,
        sequence: None,
        trace_id: None,
        reply: None,
        participants: Vec::new(),
    })
}
