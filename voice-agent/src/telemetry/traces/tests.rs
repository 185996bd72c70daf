//! What is told of a request: whose trace it is in, what is below what, and that nobody ever waits.

use super::{export::headers, *};
use opentelemetry::trace::{SpanKind, Status};
use voice_room::{
    Epoch, EventType, Incarnation, PeerId, Rejected, State, Version, command::Accepted, sync::Attempt,
};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn parent() -> Parent {
    Parent::from_traceparent(TRACEPARENT).unwrap()
}

fn accepted() -> Accepted {
    Accepted {
        state: State::Liveing,
        version: Version(2),
        epoch: Epoch::default(),
        incarnation: Incarnation(1),
    }
}

#[test]
fn a_traceparent_names_a_trace_and_a_span_and_anything_else_is_none() {
    assert_eq!(parent().trace.to_string(), TRACE);
    assert!(parent().sampled);
    let unsampled = TRACEPARENT.replace("-01", "-00");
    assert!(!Parent::from_traceparent(&unsampled).unwrap().sampled);
    for wrong in [
        "",
        "junk",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
    ] {
        assert_eq!(Parent::from_traceparent(wrong), None, "{wrong}");
    }
}

#[test]
fn a_request_is_below_the_peers_span_and_what_is_done_for_it_below_the_request() {
    let (traces, mut spans) = Traces::new(100);
    let request = traces.request(Some(&parent()), &room("a"), "START_LIVE").unwrap();
    let trace = voice_room::TraceId::new(TRACE).unwrap();
    traces
        .child(&room("a"), Some(&trace), "store.commit")
        .unwrap()
        .end(Err("away"));
    request.end(Ok(&accepted()));
    let commit = spans.try_recv().unwrap();
    let request = spans.try_recv().unwrap();
    assert_eq!(request.span_context.trace_id().to_string(), TRACE);
    assert_eq!(request.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert!(request.parent_span_is_remote && request.span_kind == SpanKind::Server);
    assert_eq!(
        (request.name.as_ref(), &request.status),
        ("START_LIVE", &Status::Unset)
    );
    assert_eq!(commit.parent_span_id, request.span_context.span_id());
    assert_eq!(commit.status, Status::error("away"));
    assert!(commit.start_time >= request.start_time && commit.end_time <= request.end_time);
    // The listing that binds its ports comes later.
    let bind = traces.child(&room("a"), None, "kernel.bind").unwrap();
    bind.end(Ok(()));
    assert_eq!(
        spans.try_recv().unwrap().parent_span_id,
        request.span_context.span_id()
    );
    let other = voice_room::TraceId::new(&TRACE.replace('4', "5")).unwrap();
    assert!(
        traces.child(&room("a"), Some(&other), "store.commit").is_none(),
        "another trace"
    );
    assert!(
        traces.child(&room("b"), None, "kernel.bind").is_none(),
        "another room"
    );
}

#[test]
fn a_sync_has_its_peers_below_it_with_the_times_they_took() {
    let (traces, mut spans) = Traces::new(100);
    let request = traces.request(Some(&parent()), &room("a"), "CLOSE").unwrap();
    let peer = |name: &str| PeerId::new(name).unwrap();
    let sync = Synced {
        event: EventType::Close,
        attempt: Attempt::default(),
        version: Version(3),
        result: Err("p-2 refused".into()),
        agreed: vec![(peer("p-1"), Duration::from_millis(3))],
        refused: vec![(peer("p-2"), "busy".into())],
        silent: vec![],
        gone: vec![],
        committed: vec![],
        took: Duration::from_millis(20),
    };
    traces.synced(&room("a"), &sync);
    drop(request);
    let told: Vec<SpanData> = std::iter::from_fn(|| spans.try_recv().ok()).collect();
    let [agreed, refused, sync, request] = told.as_slice() else {
        panic!("{told:?}")
    };
    let took = |span: &SpanData| span.end_time.duration_since(span.start_time).unwrap();
    assert_eq!(
        (agreed.name.as_ref(), took(agreed)),
        ("prepare", Duration::from_millis(3))
    );
    assert_eq!(refused.status, Status::error("busy"));
    assert!(took(sync) >= Duration::from_millis(20) && sync.name == "sync");
    for prepare in [agreed, refused] {
        assert_eq!(prepare.parent_span_id, sync.span_context.span_id());
    }
    assert_eq!(sync.parent_span_id, request.span_context.span_id());
    assert_eq!(
        request.status,
        Status::error("the stream ended before the answer")
    );
}

#[test]
fn who_does_not_record_a_trace_itself_is_not_told_of_and_sampling_takes_its_share() {
    let (traces, mut spans) = Traces::new(30);
    let mut taken = 0;
    for i in 0..1_000_u64 {
        let id = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let traceparent = format!("00-{id:016x}{id:016x}-00f067aa0ba902b7-01");
        let parent = Parent::from_traceparent(&traceparent).unwrap();
        let request = traces.request(Some(&parent), &room("a"), "CLOSE");
        taken += usize::from(request.is_some());
        let again = traces.request(Some(&parent), &room("b"), "CLOSE");
        assert_eq!(again.is_some(), request.is_some(), "all of a trace or nothing");
    }
    assert!((250..350).contains(&taken), "{taken} of 1000");
    while spans.try_recv().is_ok() {}
    let unsampled = Parent::from_traceparent(&TRACEPARENT.replace("-01", "-00")).unwrap();
    assert!(traces.request(Some(&unsampled), &room("a"), "CLOSE").is_none());
    assert!(traces.request(None, &room("a"), "CLOSE").is_none());
    let off = Traces::default();
    assert!(off.request(Some(&parent()), &room("a"), "CLOSE").is_none());
}

#[test]
fn a_queue_that_nobody_empties_drops_and_counts_and_memory_of_rooms_is_bounded() {
    let (traces, spans) = Traces::new(100);
    let before = Counter::SpansDropped.value();
    for i in 0..QUEUE + 100 {
        let request = traces.request(Some(&parent()), &room(&format!("r{i}")), "CREATE");
        request.unwrap().end(Err(&Rejected::UnknownRoom(room("a"))));
    }
    assert_eq!(spans.len(), QUEUE);
    assert!(Counter::SpansDropped.value() >= before + 100);
    for i in 0..2 * ROOMS {
        drop(traces.request(Some(&parent()), &room(&format!("r{i}")), "CREATE"));
    }
    let inner = traces.0.as_ref().unwrap();
    assert!(inner.requests().of.len() <= ROOMS);
    for _ in 0..100 {
        drop(traces.request(Some(&parent()), &room("r1"), "CREATE"));
    }
    assert_eq!(inner.requests().of[&room("r1")].len(), OF_A_ROOM);
}

#[test]
fn headers_are_a_line_each_and_a_wrong_one_is_told_without_its_text() {
    let all = headers("authorization: Bearer s3cret\n\nX-Scope-OrgID: voice\n").unwrap();
    assert_eq!(all.get("authorization").unwrap(), "Bearer s3cret");
    assert_eq!(all.get("x-scope-orgid").unwrap(), "voice");
    for wrong in ["s3cret", "a b: s3cret", "a: s3\u{e9}cret"] {
        let said = headers(&format!("ok: 1\n{wrong}\n")).unwrap_err();
        assert!(
            said.starts_with("line 2 is not a header") && !said.contains("s3"),
            "{said}"
        );
    }
}
