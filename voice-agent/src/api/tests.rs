//! The service over a real socket, against a played driver.

use super::*;
use crate::{
    driver::{
        Message, Query,
        top::{Only, PAGE, Page, Sort, Top},
    },
    kernel::KernelStatus,
    proto::admin::{self as pb, admin_client::AdminClient},
    store::Position,
};
use std::{io, os::unix::fs::PermissionsExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    task::JoinHandle,
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use voice_room::{
    Epoch, EventType, Incarnation, Mono, Rejected, RoomId, State, Version,
    command::Accepted,
    core::{BlockView, Census, RoomView},
    input::Ask,
    timeline::{Actor, Progress},
};

/// A served socket in a directory of its own; ends with the test.
struct Served {
    dir: tempfile::TempDir,
    driver: mpsc::Receiver<Message>,
    shutdown: CancellationToken,
    server: JoinHandle<Result<(), ApiError>>,
}

fn about() -> About {
    About {
        node: NodeName::new("media-1").unwrap(),
        instance: None,
        mode: voice_room::config::Mode::Shadow.into(),
        started: convert::now(),
        history: None,
        recovered: "no rooms; 0 isolated".into(),
        tiers: crate::tiers::Tiers::default(),
    }
}

impl Served {
    async fn start() -> (Served, AdminClient<Channel>) {
        let dir = tempfile::tempdir().unwrap();
        let (handle, driver) = Handle::new(16);
        let shutdown = CancellationToken::new();
        let (path, end) = (dir.path().join(SOCKET), shutdown.clone());
        let at = path.clone();
        let server = tokio::spawn(async move { serve(&at, handle, Audit::default(), about(), end).await });
        let client = client(&path).await;
        let served = Served {
            dir,
            driver,
            shutdown,
            server,
        };
        (served, client)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.server.await.unwrap().unwrap();
    }
}

/// Connects as soon as somebody listens.
async fn client(path: &Path) -> AdminClient<Channel> {
    let stream = loop {
        match UnixStream::connect(path).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
    let once = tower::service_fn(move |_| {
        let stream = stream.take().ok_or(io::ErrorKind::NotConnected);
        async move { stream.map_err(io::Error::from) }
    });
    let channel = Endpoint::from_static("http://test")
        .connect_with_connector(once)
        .await;
    AdminClient::new(channel.unwrap())
}

fn view(room: &str, blocked: bool) -> RoomView {
    RoomView {
        room: RoomId::new(room).unwrap(),
        state: if blocked { State::Expired } else { State::Liveing },
        version: Version(2),
        epoch: Epoch { era: 0, revision: 7 },
        incarnation: Incarnation(1),
        since: convert::now(),
        host: None,
        clients: 0,
        degraded: None,
        source: None,
        flows: vec![],
        ssrcs: vec![],
        ports: Vec::new(),
        heartbeat_age: None,
        misses: 0,
        progress_age: Duration::ZERO,
        progress: Progress::Entry,
        held: None,
        maintenance: None,
        would_trip: false,
        witness: None,
        passed: 10,
        dropped: 5,
        drop_rate: None,
        would_drop: 0,
        block: blocked.then(|| BlockView {
            reason: "stuck".into(),
            until: convert::now(),
            armed_at: Mono(0),
            deadline: Mono(0),
            left: Duration::from_secs(60),
            steps: Vec::new(),
            acked: Vec::new(),
        }),
        authority: voice_room::core::Authority::Held(voice_room::Epoch::default()),
        unstored: 0,
    }
}

fn accepted(state: State) -> Accepted {
    Accepted {
        state,
        version: Version(3),
        epoch: Epoch { era: 0, revision: 7 },
        incarnation: Incarnation(1),
    }
}

#[tokio::test]
async fn a_block_reaches_the_driver_with_the_callers_uid_and_its_answer_comes_back() {
    let (mut served, mut client) = Served::start().await;
    let request = pb::BlockRequest {
        room: "talk-1".into(),
        lasts_ms: Some(60_000),
        reason: " abuse ".into(),
    };
    let played = async {
        let Some(Message::Request(request, answer)) = served.driver.recv().await else {
            panic!("expected a request")
        };
        answer.send(Ok(accepted(State::Expired))).unwrap();
        request
    };
    let (answer, asked) = tokio::join!(client.block(request), played);
    let uid = Some(nix::unistd::getuid().as_raw());
    assert_eq!(asked.actor, Actor::Operator { uid });
    assert_eq!(asked.room.as_str(), "talk-1");
    let lasts = Some(Duration::from_secs(60));
    let reason = "abuse".into();
    assert_eq!(asked.ask, Ask::Block { lasts, reason });
    let answer = answer.unwrap().into_inner();
    assert_eq!(
        (answer.state.as_str(), answer.version, answer.epoch.as_str()),
        ("EXPIRED", 3, "0.7")
    );
    served.stop().await;
}

#[tokio::test]
async fn a_bad_room_id_a_zero_time_and_a_reason_of_two_lines_never_reach_the_driver() {
    let (mut served, mut client) = Served::start().await;
    let block = |room: &str, lasts_ms, reason: &str| pb::BlockRequest {
        room: room.into(),
        lasts_ms,
        reason: reason.into(),
    };
    for bad in [
        block("a/b", None, "why"),
        block("a", Some(0), "why"),
        block("a", None, "one\ntwo"),
        block("a", None, "  "),
        block("a", None, &"x".repeat(257)),
    ] {
        let refused = client.block(bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    assert!(served.driver.try_recv().is_err());
    served.stop().await;
}

#[tokio::test]
async fn a_release_of_what_is_not_cut_and_a_block_of_what_is_are_refused_in_the_operators_words() {
    let (mut served, mut client) = Served::start().await;
    let states = [
        (State::Liveing, EventType::Release),
        (State::Expired, EventType::Stuck),
    ];
    let played = async {
        for (from, event) in states {
            match served.driver.recv().await {
                Some(Message::Request(_, answer)) => {
                    let from = Some(from);
                    drop(answer.send(Err(Rejected::NotInTable { from, event })));
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    };
    let asked = async {
        let release = pb::ReleaseRequest {
            room: "a".into(),
            reason: "why".into(),
        };
        let release = client.release(release).await.unwrap_err();
        let block = pb::BlockRequest {
            room: "a".into(),
            lasts_ms: None,
            reason: "why".into(),
        };
        (release, client.block(block).await.unwrap_err())
    };
    let ((release, blocked), ()) = tokio::join!(asked, played);
    assert_eq!(
        release.message(),
        "room a is LIVEING, not cut: there is nothing to release"
    );
    assert_eq!(
        blocked.message(),
        "room a is EXPIRED: only a room in LIVEING or GRACE_CLOSING can be cut"
    );
    assert_eq!(blocked.metadata().get(REASON).unwrap(), "not_in_table");
    served.stop().await;
}

#[tokio::test]
async fn an_unknown_room_is_not_found_and_another_refusal_carries_its_own_name() {
    let (mut served, mut client) = Served::start().await;
    let played = async {
        for _ in 0..2 {
            match served.driver.recv().await {
                Some(Message::Query(Query::Room(_, answer))) => drop(answer.send(None)),
                Some(Message::Request(_, answer)) => {
                    drop(answer.send(Err(Rejected::Forbidden("on the never-cut list".into()))));
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    };
    let mut second = client.clone();
    let asked = async {
        let show = client.show(pb::ShowRequest { room: "a".into() }).await;
        let release = pb::ReleaseRequest {
            room: "a".into(),
            reason: "why".into(),
        };
        (show, second.release(release).await)
    };
    let ((show, release), ()) = tokio::join!(asked, played);
    let (show, release) = (show.unwrap_err(), release.unwrap_err());
    assert_eq!(
        (show.code(), show.message()),
        (Code::NotFound, "room a is not known here")
    );
    assert_eq!(release.code(), Code::FailedPrecondition);
    assert_eq!(release.metadata().get(REASON).unwrap(), "forbidden");
    served.stop().await;
}

#[tokio::test]
async fn release_all_asks_for_each_blocked_room_and_one_refusal_does_not_stop_the_rest() {
    let (mut served, mut client) = Served::start().await;
    let played = async {
        let Some(Message::Query(Query::Rooms(answer))) = served.driver.recv().await else {
            panic!("expected a question")
        };
        answer
            .send(vec![view("a", true), view("b", false), view("c", true)])
            .unwrap();
        for _ in 0..2 {
            let Some(Message::Request(request, answer)) = served.driver.recv().await else {
                panic!("expected a request")
            };
            let result = match request.room.as_str() {
                "a" => Err(Rejected::Limit("busy".into())),
                _ => Ok(accepted(State::Liveing)),
            };
            answer.send(result).unwrap();
        }
    };
    let all = pb::ReleaseAllRequest { reason: "why".into() };
    let (answer, ()) = tokio::join!(client.release_all(all), played);
    let results = answer.unwrap().into_inner().results;
    let said: Vec<_> = results
        .iter()
        .map(|r| (r.room.as_str(), r.ok, r.detail.as_str()))
        .collect();
    assert_eq!(said, [("a", false, "busy"), ("c", true, "LIVEING")]);
    served.stop().await;
}

#[tokio::test]
async fn a_kill_switch_that_could_not_be_turned_is_an_error_with_its_reason() {
    let (mut served, mut client) = Served::start().await;
    let played = async {
        let Some(Message::Query(Query::KillSwitch(on, actor, answer))) = served.driver.recv().await else {
            panic!("expected the kill switch")
        };
        answer.send(Err("the map is gone".into())).unwrap();
        (on, actor)
    };
    let (answer, asked) = tokio::join!(client.kill_switch(pb::KillSwitchRequest { on: true }), played);
    let uid = Some(nix::unistd::getuid().as_raw());
    assert_eq!(asked, (true, Actor::Operator { uid }));
    assert!(answer.unwrap_err().message().ends_with("the map is gone"));
    served.stop().await;
}

fn upgrade(room: Option<&str>) -> voice_room::Maintenance {
    voice_room::Maintenance {
        room: room.map(|r| RoomId::new(r).unwrap()),
        reason: "upgrade".into(),
        actor: Actor::Operator { uid: Some(0) },
        since: convert::now(),
        until: convert::now() + Duration::from_secs(600),
    }
}

#[tokio::test]
async fn maintenance_reaches_the_driver_with_the_callers_uid_and_ends_what_is_named_only() {
    let (mut served, mut client) = Served::start().await;
    let uid = Some(nix::unistd::getuid().as_raw());
    let on = pb::MaintenanceOnRequest {
        room: None,
        lasts_ms: 600_000,
        reason: "upgrade".into(),
    };
    let played = async {
        let Some(Message::Query(Query::Maintain {
            room,
            lasts,
            actor,
            to,
            ..
        })) = served.driver.recv().await
        else {
            panic!("expected an order")
        };
        assert_eq!((room, lasts), (None, Some(Duration::from_secs(600))));
        assert_eq!(actor, Actor::Operator { uid });
        to.send(Ok(())).unwrap();
    };
    let (answer, ()) = tokio::join!(client.maintenance_on(on), played);
    answer.unwrap();
    let played = async {
        let Some(Message::Query(Query::Maintenance(to))) = served.driver.recv().await else {
            panic!("expected a question")
        };
        to.send(vec![upgrade(None), upgrade(Some("a"))]).unwrap();
        let Some(Message::Query(Query::Maintain { room, lasts, to, .. })) = served.driver.recv().await else {
            panic!("expected an order")
        };
        assert_eq!((room, lasts), (Some(RoomId::new("a").unwrap()), None));
        to.send(Ok(())).unwrap();
    };
    let off = pb::MaintenanceOffRequest {
        room: Some("a".into()),
    };
    let (answer, ()) = tokio::join!(client.maintenance_off(off), played);
    let answer = answer.unwrap().into_inner();
    assert!(answer.was_on && answer.every_room_still_on);
    assert_eq!(answer.rooms_still_on, 0);
    served.stop().await;
}

#[tokio::test]
async fn maintenance_without_reason_or_for_no_time_or_over_a_day_never_reaches_the_driver_and_a_refusal_is_told()
 {
    let (mut served, mut client) = Served::start().await;
    let order = |lasts_ms, reason: &str| pb::MaintenanceOnRequest {
        room: Some("a".into()),
        lasts_ms,
        reason: reason.into(),
    };
    for bad in [order(0, "why"), order(86_400_001, "why"), order(1000, " ")] {
        let refused = client.maintenance_on(bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    assert!(served.driver.try_recv().is_err());
    let played = async {
        let Some(Message::Query(Query::Maintain { to, .. })) = served.driver.recv().await else {
            panic!("expected an order")
        };
        to.send(Err(Rejected::Limit("too many".into()).into())).unwrap();
    };
    let (answer, ()) = tokio::join!(client.maintenance_on(order(1000, "why")), played);
    let refused = answer.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "too many")
    );
    served.stop().await;
}

#[tokio::test]
async fn topology_asks_for_the_peers_of_the_room_meant_and_refuses_a_bad_room_id() {
    let (mut served, mut client) = Served::start().await;
    let of = |room: Option<&str>| pb::TopologyRequest {
        room: room.map(Into::into),
    };
    for room in [None, Some("a")] {
        let played = async {
            let Some(Message::Query(Query::Topology(asked, to))) = served.driver.recv().await else {
                panic!("expected a question for the topology")
            };
            assert_eq!(asked.as_ref().map(RoomId::as_str), room);
            to.send(Vec::new()).unwrap();
        };
        let (answer, ()) = tokio::join!(client.topology(of(room)), played);
        assert!(answer.unwrap().into_inner().peers.is_empty());
    }
    let refused = client.topology(of(Some("a/b"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_hangs_up_does_not_hold_up_the_shutdown() {
    let (served, _client) = Served::start().await;
    let mut frozen = UnixStream::connect(served.socket()).await.unwrap();
    // An HTTP/2 preface with empty SETTINGS. The answer shows that the server waits for more, which never comes.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    frozen.write_all(preface).await.unwrap();
    frozen.read_exact(&mut [0; 9]).await.unwrap();
    let begin = tokio::time::Instant::now();
    served.stop().await;
    let took = begin.elapsed();
    assert!((CLOSE_WITHIN..CLOSE_WITHIN * 2).contains(&took), "{took:?}");
}

#[tokio::test]
async fn status_counts_rooms_and_packets_and_names_the_mode() {
    let (mut served, mut client) = Served::start().await;
    let played = async {
        for _ in 0..3 {
            match served.driver.recv().await {
                Some(Message::Query(Query::Maintenance(answer))) => {
                    answer.send(vec![upgrade(None), upgrade(Some("a"))]).unwrap();
                }
                Some(Message::Query(Query::Census(answer))) => {
                    let census = Census {
                        total: 2,
                        states: [0, 1, 0, 1, 0],
                        blocked: 1,
                        passed: 20,
                        dropped: 10,
                        ..Census::default()
                    };
                    answer.send(census).unwrap();
                }
                Some(Message::Query(Query::Kernel(answer))) => answer.send(KernelStatus::default()).unwrap(),
                other => panic!("unexpected {other:?}"),
            }
        }
    };
    let (answer, ()) = tokio::join!(client.status(pb::StatusRequest {}), played);
    let status = answer.unwrap().into_inner();
    assert_eq!(
        (status.node.as_str(), status.mode.as_str()),
        ("media-1", "shadow")
    );
    assert_eq!(status.maintenance_of_every_room.unwrap().reason, "upgrade");
    assert_eq!(status.rooms_under_maintenance, 1);
    let rooms = status.rooms.unwrap();
    assert_eq!(
        (rooms.total, rooms.liveing, rooms.expired, rooms.blocked),
        (2, 1, 1, 1)
    );
    assert_eq!((rooms.passed_packets, rooms.dropped_packets), (20, 10));
    served.stop().await;
}

#[tokio::test]
async fn a_page_of_rooms_is_asked_for_as_wanted_and_what_is_not_known_never_reaches_the_driver() {
    let (mut served, mut client) = Served::start().await;
    let asked = |sort: &str, only: &str, matching: &str| pb::TopRequest {
        sort: sort.into(),
        only: only.into(),
        matching: matching.into(),
        offset: 3,
        limit: 1_000_000,
        ..pb::TopRequest::default()
    };
    let long = "a".repeat(65);
    for (bad, said) in [
        (asked("size", "", ""), "allowed are attention, room, since"),
        (
            asked("", "LIVE", ""),
            "allowed are blocked, held, missing, CREATED",
        ),
        (asked("", "", &long), "an id has 64 at most"),
    ] {
        let refused = client.top(bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(said), "{refused}");
    }
    assert!(served.driver.try_recv().is_err());
    let played = async {
        let Some(Message::Query(Query::Top(page, to))) = served.driver.recv().await else {
            panic!("expected a question")
        };
        let top = Top {
            rooms: vec![view("talk-1", true)],
            matching: 4,
            ..Top::default()
        };
        to.send(Box::new(top)).unwrap();
        page
    };
    let (answer, page) = tokio::join!(client.top(asked("drops", "EXPIRED", "Talk")), played);
    let expected = Page {
        sort: Sort::Drops,
        reverse: false,
        only: Only::In(State::Expired),
        matching: "talk".into(),
        offset: 3,
        limit: PAGE,
    };
    assert_eq!(page, expected, "and never more than a page");
    let answer = answer.unwrap().into_inner();
    assert_eq!((answer.rooms.len(), answer.matching, answer.offset), (1, 4, 3));
    served.stop().await;
}

#[tokio::test]
async fn the_socket_has_mode_0660_from_the_start_and_is_gone_after_shutdown() {
    let (served, _client) = Served::start().await;
    let path = served.socket();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    served.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_live_agents_socket_is_not_taken_and_goes_on_answering() {
    let (mut served, mut client) = Served::start().await;
    let (handle, _queue) = Handle::new(1);
    let path = served.socket();
    let second = serve(&path, handle, Audit::default(), about(), CancellationToken::new()).await;
    assert!(matches!(second, Err(ApiError::InUse(_))));
    let played = async {
        let Some(Message::Query(Query::Rooms(answer))) = served.driver.recv().await else {
            panic!("expected a question")
        };
        answer.send(Vec::new()).unwrap();
    };
    let all = pb::RoomsRequest { blocked_only: false };
    let (answer, ()) = tokio::join!(client.rooms(all), played);
    assert!(answer.unwrap().into_inner().rooms.is_empty());
    served.stop().await;
}

#[tokio::test]
async fn a_dead_agents_socket_is_replaced_and_a_file_in_its_place_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let (_, guard) = socket::bind(&path).unwrap();
    drop(guard);
    std::fs::write(&path, "mine").unwrap();
    assert!(matches!(socket::bind(&path), Err(ApiError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[tokio::test]
async fn a_driver_that_has_ended_is_said_as_such() {
    let (mut served, mut client) = Served::start().await;
    served.driver.close();
    let refused = client
        .rooms(pb::RoomsRequest { blocked_only: false })
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "the agent is shutting down")
    );
    served.stop().await;
}

fn event(room: &str, version: u64) -> voice_room::StateChangeEvent {
    voice_room::StateChangeEvent {
        room: RoomId::new(room).unwrap(),
        incarnation: Incarnation(1),
        event_type: voice_room::EventType::Stuck,
        old_state: Some(State::Liveing),
        new_state: State::Expired,
        version: Version(version),
        epoch: Epoch { era: 0, revision: 7 },
        op_id: voice_room::OpId::new("op").unwrap(),
        actor: Actor::Agent,
        reason: "stuck".into(),
        trace_id: None,
        timestamp: convert::now(),
    }
}

/// Answers the next question for events, and says after which position it was.
async fn answer_events(
    driver: &mut mpsc::Receiver<Message>,
    events: Vec<(u64, voice_room::StateChangeEvent)>,
) -> Option<u64> {
    let events: Vec<_> = events
        .into_iter()
        .map(|(n, event)| (Position::Local(n), event))
        .collect();
    let Some(Message::Query(Query::Events { after, limit, to })) = driver.recv().await else {
        panic!("expected a question for events")
    };
    assert!(events.len() <= limit);
    // A reader that went away hears nothing.
    drop(to.send(Ok(events)));
    after.local()
}

fn wanted(room: Option<&str>, since: Option<u64>, follow: bool) -> pb::EventsRequest {
    let room = room.map(Into::into);
    let since = since.map(|n| n.to_string());
    pb::EventsRequest { room, since, follow }
}

#[tokio::test]
async fn events_come_in_order_page_by_page_of_one_room_and_end_with_the_last() {
    let (mut served, mut client) = Served::start().await;
    let mut stream = client
        .events(wanted(Some("a"), Some(4), false))
        .await
        .unwrap()
        .into_inner();
    let page = vec![(5, event("a", 1)), (6, event("b", 1)), (8, event("a", 2))];
    assert_eq!(answer_events(&mut served.driver, page).await, Some(4));
    for (position, version) in [(5, 1), (8, 2)] {
        let event = stream.message().await.unwrap().unwrap();
        assert_eq!(
            (event.position, event.transition.unwrap().version),
            (position.to_string(), version)
        );
    }
    assert_eq!(answer_events(&mut served.driver, Vec::new()).await, Some(8));
    assert!(stream.message().await.unwrap().is_none());
    let refused = client.events(wanted(Some("a/b"), None, false)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    served.stop().await;
}

#[tokio::test]
async fn a_follower_gets_what_comes_later_and_is_told_when_the_agent_stops() {
    let (mut served, mut client) = Served::start().await;
    let mut stream = client
        .events(wanted(None, None, true))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer_events(&mut served.driver, Vec::new()).await, None);
    let later = vec![(1, event("a", 1))];
    assert_eq!(answer_events(&mut served.driver, later).await, None);
    assert_eq!(stream.message().await.unwrap().unwrap().position, "1");
    served.shutdown.cancel();
    let end = stream.message().await.unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unavailable, "the agent is shutting down")
    );
    drop((stream, client));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_cut_off_and_not_buffered_for_ever() {
    let (mut served, mut client) = Served::start().await;
    let mut stream = client
        .events(wanted(None, None, true))
        .await
        .unwrap()
        .into_inner();
    let mut given = 0;
    let begin = tokio::time::Instant::now();
    // Until nobody asks for more. The clock stands still while there is something to do.
    while tokio::time::timeout(events::SLOW * 2, async {
        let page = (given + 1..=given + events::PAGE as u64).map(|n| (n, event("a", n)));
        answer_events(&mut served.driver, page.collect()).await;
    })
    .await
    .is_ok()
    {
        given += events::PAGE as u64;
        assert!(given < 100_000, "it is buffered for ever");
    }
    assert!(begin.elapsed() >= events::SLOW);
    let end = loop {
        match stream.message().await {
            Ok(event) => assert!(event.is_some(), "an end without a word"),
            Err(end) => break end,
        }
    };
    assert_eq!(end.code(), Code::ResourceExhausted, "{end}");
    drop((stream, client));
    served.stop().await;
}
