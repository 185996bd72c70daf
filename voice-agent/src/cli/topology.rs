//! `topology [ROOM]`.

use super::{
    Failure,
    client::call,
    output::{Output, Tone},
    text,
};
use crate::{
    config::Paths,
    proto::admin::{Peer, TopologyRequest, TopologyResponse},
};
use comfy_table::Cell;
use voice_room::RoomId;

/// The connected peers, or those that serve `room`.
pub(super) async fn topology(paths: &Paths, out: Output, room: Option<&RoomId>) -> Result<String, Failure> {
    let request = TopologyRequest {
        room: room.map(ToString::to_string),
    };
    let answer = call!(paths, topology(request))?;
    out.print(&answer, |answer, out| list(answer, out, room))
}

fn list(answer: &TopologyResponse, out: Output, room: Option<&RoomId>) -> String {
    if answer.peers.is_empty() {
        return match room {
            None => "No peer is connected.\n".into(),
            Some(room) => format!("No connected peer serves room {room}.\n"),
        };
    }
    let header = [
        "PEER",
        "ROLE",
        "TAG",
        "WEIGHT",
        "PROTOCOL",
        "CONNECTED",
        "ROOMS",
        "PREPARED",
        "UNACKNOWLEDGED",
    ];
    out.table(&header, answer.peers.iter().map(|peer| row(peer, out)).collect())
}

fn row(peer: &Peer, out: Output) -> Vec<Cell> {
    let weight = peer.weight.map_or("-".into(), |w| w.to_string());
    let waiting = (peer.unacknowledged > 0).then_some(Tone::Look);
    vec![
        out.cell(None, &peer.peer),
        out.cell(None, &peer.role),
        out.cell(None, if peer.tag.is_empty() { "-" } else { &peer.tag }),
        out.cell(None, weight),
        out.cell(None, peer.protocol_version),
        out.cell(None, text::duration(peer.connected_ms)),
        out.cell(None, text::count(peer.rooms.into())),
        out.cell(None, peer.prepared),
        out.cell(waiting, peer.unacknowledged),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_listed_with_what_they_have_not_acknowledged() {
        let gateway = Peer {
            peer: "gw-1".into(),
            role: "gateway".into(),
            weight: Some(10),
            protocol_version: 1,
            connected_ms: 95_000,
            rooms: 3,
            unacknowledged: 1,
            ..Peer::default()
        };
        let peers = vec![gateway];
        assert_eq!(
            list(&TopologyResponse { peers }, Output::plain(), None),
            "PEER  ROLE     TAG  WEIGHT  PROTOCOL  CONNECTED  ROOMS  PREPARED  UNACKNOWLEDGED\n\
             gw-1  gateway  -    10      1         95 s       3      0         1\n"
        );
    }

    #[test]
    fn nobody_connected_and_nobody_serving_a_room_are_said_in_words() {
        let nobody = TopologyResponse::default();
        let room = RoomId::new("talk-1").unwrap();
        assert_eq!(list(&nobody, Output::plain(), None), "No peer is connected.\n");
        assert_eq!(
            list(&nobody, Output::plain(), Some(&room)),
            "No connected peer serves room talk-1.\n"
        );
    }
}
