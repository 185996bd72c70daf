//! The bounds: peers, message size, readers that do not read, requests that wait.

use super::*;
use crate::telemetry::Counter;
use tonic::Status;

#[tokio::test]
async fn a_peer_too_many_is_refused_and_a_refused_media_server_is_told_to_the_driver() {
    let mut agent = Agent::with_max_peers(2).await;
    let _one = agent.peer(Role::Gateway, "one").await;
    let two = agent.peer(Role::Gateway, "two").await;
    let e = agent.try_peer(Role::Gateway, "three").await.unwrap_err();
    assert_eq!(code(&e), Code::ResourceExhausted);
    assert!(e.to_string().contains("session.max_peers (2)"), "{e}");
    let e = agent.try_peer(Role::Media, "sfu").await.unwrap_err();
    assert_eq!(code(&e), Code::ResourceExhausted);
    assert_eq!(agent.told().await, Told::Fact(Input::MediaRefused));
    let _again = agent.peer(Role::Gateway, "two").await;
    drop(two);
    assert_eq!(
        agent.sessions.topology(None).len(),
        2,
        "a reconnect is none too many"
    );
}

#[tokio::test]
async fn streams_without_a_hello_are_bounded_too() {
    let mut agent = Agent::with_max_peers(1).await;
    let channel = Endpoint::from_shared(agent.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut open = Vec::new();
    for n in 0..3 {
        let (keep_open, says) = mpsc::channel::<v1::PeerMessage>(1);
        let mut call = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(says));
        call.metadata_mut().insert("peer-role", "media".parse().unwrap());
        call.metadata_mut()
            .insert("peer-id", format!("sfu-{n}").parse().unwrap());
        let mut client = v1::session_client::SessionClient::new(channel.clone());
        open.push((keep_open, client.stream(call).await));
    }
    assert!(open[0].1.is_ok() && open[1].1.is_ok());
    assert_eq!(open[2].1.as_ref().unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(agent.told().await, Told::Fact(Input::MediaRefused));
    drop(open);
    eventually("the places are free again", || agent.sessions.0.open.all() == 0).await;
}

#[tokio::test]
async fn a_message_over_1_mib_ends_its_stream_and_no_other() {
    let agent = Agent::start().await;
    let mut bad = agent.peer(Role::Gateway, "bad").await;
    let mut good = agent.peer(Role::Gateway, "good").await;
    let huge = v1::RoomEvent {
        reason: "x".repeat(1 << 20),
        ..room_event("r", 1)
    };
    bad.sender().room_event(huge).await.unwrap();
    assert_eq!(end_of(&mut bad).await.1, Some(Code::OutOfRange));
    ask(&mut good, FromPeer::RoomEvent(room_event("r", 1))).await;
    eventually("only the good one is left", || {
        agent.sessions.topology(None).len() == 1
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off_while_others_get_everything() {
    let agent = Agent::start().await;
    let mut deaf = agent.peer(Role::Gateway, "deaf").await;
    let mut good = agent.peer(Role::Gateway, "good").await;
    for peer in [&mut deaf, &mut good] {
        ask(peer, FromPeer::RoomEvent(room_event("r", 1))).await;
    }
    eventually("both serve it", || {
        agent.sessions.topology(None).iter().all(|view| view.rooms == 1)
    })
    .await;
    let mut big = update("r", State::Liveing);
    big.reason = "x".repeat(60_000);
    let mut pushes = 0;
    while agent.view("deaf").is_some() {
        agent.sessions.update(&big);
        assert!(matches!(next(&mut good).await, FromAgent::RoomUpdate(_)));
        pushes += 1;
        assert!(pushes < 1000, "never cut off");
    }
    assert!(pushes > 60, "cut off too early: {pushes}");
    let (_, status) = end_of(&mut deaf).await;
    assert_eq!(status, Some(Code::ResourceExhausted));
    assert!(agent.view("good").is_some());
}

#[tokio::test]
async fn a_peer_is_not_read_while_64_of_its_requests_wait_for_the_driver() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (handle, mut queue) = Handle::new(1000);
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(sessions(10).serve(handle, listener, stop));
    let connecting =
        tokio::spawn(
            async move { PeerClient::connect(&url, Role::Gateway, &PeerId::new("gw").unwrap()).await },
        );
    let Some(Message::Query(Query::Isolations(reply))) = queue.recv().await else {
        panic!("isolations are asked for first");
    };
    reply.send(Vec::new()).unwrap();
    let peer = connecting.await.unwrap().unwrap();
    for n in 0..200 {
        peer.sender().room_event(room_event("r", n)).await.unwrap();
    }
    let mut waiting = Vec::new();
    for _ in 0..64 {
        waiting.push(timeout(PATIENCE, queue.recv()).await.unwrap().unwrap());
    }
    let more = timeout(Duration::from_millis(200), queue.recv()).await;
    assert!(more.is_err(), "a 65th request was taken");
    drop(waiting.pop());
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_those_that_are_there_go_on() {
    use tokio::{io::AsyncReadExt, net::TcpStream};
    let agent = Agent::with_max_peers(1).await;
    let mut peer = agent.peer(Role::Gateway, "gw").await;
    let mut idle = Vec::new();
    for _ in 0..65 {
        idle.push(TcpStream::connect(agent.addr).await.unwrap());
    }
    let mut refused = TcpStream::connect(agent.addr).await.unwrap();
    let end = timeout(PATIENCE, refused.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "closed: {end:?}");
    ask(&mut peer, FromPeer::RoomEvent(room_event("r", 1))).await;
    drop(idle);
    let again = async {
        while voice_client::check_join(&agent.url(), &room("r")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(PATIENCE, again).await.is_ok(), "places come back");
}

#[tokio::test]
async fn bytes_that_are_no_message_end_their_stream_and_no_other() {
    let agent = Agent::start().await;
    let mut good = agent.peer(Role::Gateway, "good").await;
    let malformed = Counter::SessionMalformed.value();
    let channel = Endpoint::from_shared(agent.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let garbage = bytes::Bytes::from_static(&[0xff; 64]);
    let mut call = tonic::Request::new(tokio_stream::once(garbage));
    call.metadata_mut()
        .insert("peer-role", "gateway".parse().unwrap());
    call.metadata_mut().insert("peer-id", "bad".parse().unwrap());
    let path = http::uri::PathAndQuery::from_static("/voice.agent.v1.Session/Stream");
    let mut answer = grpc.streaming(call, path, Raw).await.unwrap().into_inner();
    let status = loop {
        match timeout(PATIENCE, answer.message()).await.unwrap() {
            Ok(Some(_goodbye)) => {}
            Ok(None) => panic!("ended without an error"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Internal);
    assert!(Counter::SessionMalformed.value() > malformed);
    ask(&mut good, FromPeer::RoomEvent(room_event("r", 1))).await;
}

/// Sends bytes as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = bytes::Bytes;
    type Decode = ();
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = bytes::Bytes;
    type Error = Status;

    fn encode(&mut self, item: bytes::Bytes, to: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(to, item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, Status> {
        bytes::Buf::advance(from, bytes::Buf::remaining(from));
        Ok(Some(()))
    }
}
