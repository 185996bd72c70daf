//! A fake admin socket that misbehaves in every way a Janus could.

use super::*;
use nix::sys::socket::{Backlog, bind, listen};
use std::{os::unix::net::UnixListener, sync::atomic::Ordering::Relaxed, thread};

/// What the fake does with each question, in order; afterwards it closes.
type Step = Box<dyn Fn(&str) -> Reply + Send>;

enum Reply {
    /// These packets.
    Send(Vec<Vec<u8>>),
    /// Nothing, until the client goes away.
    Hang,
    /// Close this connection and wait for another.
    Close,
}

fn success(transaction: &str) -> Vec<u8> {
    json!({ "janus": "success", "transaction": transaction, "sessions": [1, 2] })
        .to_string()
        .into_bytes()
}

/// A fake Janus in a directory of its own, and a client of it. Its thread ends with the script or the test.
struct Fake {
    admin: Admin,
    counters: Arc<Counters>,
    _directory: tempfile::TempDir,
}

fn fake<const N: usize>(script: [Step; N]) -> Fake {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let listener = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(8).unwrap()).unwrap();
    thread::spawn(move || {
        let mut script = script.into_iter();
        while serve(&UnixListener::from(listener.try_clone().unwrap()), &mut script) {}
    });
    let counters = Arc::new(Counters::default());
    Fake {
        admin: Admin::new(&config(path), counters.clone()),
        counters,
        _directory: directory,
    }
}

fn config(admin_socket: PathBuf) -> JanusConfig {
    JanusConfig {
        admin_socket,
        admin_secret: Secret("s3cret".into()),
        events_listen: "127.0.0.1:0".parse().unwrap(),
    }
}

/// One connection; false when the script is over.
fn serve(listener: &UnixListener, script: &mut impl Iterator<Item = Step>) -> bool {
    let (connection, _) = listener.accept().unwrap();
    let fd = connection.as_raw_fd();
    let mut buffer = vec![0; QUESTION_BOUND + 1];
    loop {
        let Ok(len @ 1..) = recv(fd, &mut buffer, MsgFlags::empty()) else {
            return true;
        };
        let question: Value = serde_json::from_slice(&buffer[..len]).unwrap();
        assert_eq!(question["admin_secret"], "s3cret");
        let Some(step) = script.next() else { return false };
        match step(question["transaction"].as_str().unwrap()) {
            // The client may have gone away meanwhile: then the next accept or the end of the script follows.
            Reply::Send(packets) => {
                for packet in packets {
                    let _ = send(fd, &packet, MsgFlags::MSG_NOSIGNAL);
                }
            }
            Reply::Hang => {}
            Reply::Close => return true,
        }
    }
}

async fn ask(fake: &mut Fake) -> Result<Vec<u64>, AdminError> {
    let answer = fake.admin.ask("list_sessions", json!({})).await;
    answer.map(|answer| answer.sessions.unwrap())
}

/// Asks until the backoff has let a new connection through.
async fn ask_past_backoff(fake: &mut Fake) -> Result<Vec<u64>, AdminError> {
    loop {
        match ask(fake).await {
            Err(AdminError::BackingOff(left)) => tokio::time::sleep(left).await,
            answer => return answer,
        }
    }
}

fn step(reply: impl Fn(&str) -> Reply + Send + 'static) -> Step {
    Box::new(reply)
}

fn good() -> Step {
    step(|transaction| Reply::Send(vec![success(transaction)]))
}

fn text(packet: &'static str) -> Step {
    step(move |transaction| Reply::Send(vec![packet.replace("TX", transaction).into_bytes()]))
}

#[tokio::test]
async fn an_answer_of_another_transaction_is_dropped_and_the_right_one_taken() {
    let strays = |t: &str| vec![success("stale"), br#"{"janus":"event"}"#.to_vec(), success(t)];
    let mut fake = fake([step(move |t| Reply::Send(strays(t)))]);
    assert_eq!(ask(&mut fake).await.unwrap(), [1, 2]);
    assert_eq!(fake.counters.stray_answers.load(Relaxed), 2);
    assert_eq!(fake.counters.admin_failed.load(Relaxed), 0);
}

#[tokio::test]
async fn garbage_is_an_error_and_costs_the_connection_and_the_next_one_works() {
    for packet in [
        "\u{7f}{]",
        "[]",
        "{}",
        r#"{"janus":7,"transaction":"TX"}"#,
        r#"{"janus":"ack","transaction":"TX"}"#,
        r#"{"janus":"error","transaction":"TX"}"#,
        r#"{"janus":"success","transaction":"TX","sessions":["x"]}"#,
    ] {
        let mut fake = fake([text(packet), good()]);
        let error = ask(&mut fake).await.unwrap_err();
        assert!(matches!(error, AdminError::Garbage { .. }), "{packet}: {error}");
        assert!(matches!(ask(&mut fake).await, Err(AdminError::BackingOff(_))));
        assert_eq!(ask_past_backoff(&mut fake).await.unwrap(), [1, 2]);
        assert_eq!(fake.counters.admin_failed.load(Relaxed), 1);
    }
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason_and_keeps_the_connection() {
    let refusal = r#"{"janus":"error","transaction":"TX","error":{"code":403,"reason":"Unauthorized"}}"#;
    let mut fake = fake([text(refusal), good()]);
    let error = ask(&mut fake).await.unwrap_err().to_string();
    assert_eq!(error, "Janus refused list_sessions: Unauthorized (code 403)");
    assert_eq!(ask(&mut fake).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn a_janus_that_hangs_is_given_up_at_the_deadline_and_asked_anew_later() {
    let mut fake = fake([step(|_| Reply::Hang), good()]);
    let before = Instant::now();
    assert!(matches!(ask(&mut fake).await, Err(AdminError::Deadline { .. })));
    let took = before.elapsed();
    assert!(took >= DEADLINE && took < DEADLINE * 2, "{took:?}");
    assert_eq!(ask_past_backoff(&mut fake).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn strays_without_end_do_not_outlast_the_deadline() {
    let flood = || vec![success("stray"); 1000];
    let mut fake = fake([step(move |_| Reply::Send(flood())), good()]);
    let error = ask(&mut fake).await.unwrap_err();
    assert!(
        matches!(error, AdminError::Garbage { .. }),
        "answered, though not us: {error}"
    );
    assert!(
        error.to_string().contains("1000 answers of other transactions"),
        "{error}"
    );
    assert_eq!(fake.counters.stray_answers.load(Relaxed), 1000);
    assert_eq!(ask_past_backoff(&mut fake).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn a_connection_closed_instead_of_an_answer_is_an_error_and_the_next_one_works() {
    let mut fake = fake([step(|_| Reply::Close), good()]);
    let error = ask(&mut fake).await.unwrap_err();
    assert!(matches!(error, AdminError::Io { .. }), "{error}");
    assert_eq!(ask_past_backoff(&mut fake).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn an_answer_above_the_bound_is_an_error_that_names_its_size_and_the_next_one_works() {
    let mut fake = fake([
        step(|t| Reply::Send(vec![[success(t), vec![b' '; 100]].concat()])),
        good(),
    ]);
    // The kernel takes no packet of a MiB without privilege, so the bound is lowered.
    fake.admin.buffer = vec![0; 100];
    let error = ask(&mut fake).await.unwrap_err();
    let expected = success("1").len() + 100;
    assert!(
        matches!(error, AdminError::Oversize { len, .. } if len == expected),
        "{error}"
    );
    assert_eq!(ask_past_backoff(&mut fake).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn a_question_larger_than_janus_reads_is_not_sent() {
    let mut fake = fake([good()]);
    let fields = json!({ "session_id": "9".repeat(QUESTION_BOUND) });
    let error = fake.admin.ask("list_handles", fields).await.unwrap_err();
    assert!(matches!(error, AdminError::Question { .. }), "{error}");
    assert_eq!(ask_past_backoff(&mut fake).await.unwrap(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_not_there_is_tried_again_with_waits_that_grow_up_to_a_bound() {
    let counters = Arc::new(Counters::default());
    let mut admin = Admin::new(&config("/nonexistent/admin.sock".into()), counters);
    for expected in [100, 200, 400, 800, 1600, 2000, 2000] {
        let error = admin.ask("list_sessions", json!({})).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/admin.sock"), "{error}");
        // Chance takes up to half of it.
        let (least, most) = (
            Duration::from_millis(expected / 2),
            Duration::from_millis(expected),
        );
        match admin.ask("list_sessions", json!({})).await {
            Err(AdminError::BackingOff(left)) => {
                assert!((least..=most).contains(&left), "{left:?}");
                tokio::time::sleep(left).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_secret_is_in_no_error_and_in_no_debug_output() {
    let admin = Admin::new(&config("/nonexistent/admin.sock".into()), Arc::default());
    assert!(
        !format!(
            "{:?}",
            Admin {
                buffer: Vec::new(),
                ..admin
            }
        )
        .contains("s3cret")
    );
}

#[tokio::test]
async fn after_a_question_that_was_broken_off_the_next_goes_over_a_connection_of_its_own() {
    let mut fake = fake([
        Box::new(|_| Reply::Hang),
        Box::new(|transaction| Reply::Send(vec![success(transaction)])),
    ]);
    let broken_off = tokio::time::timeout(Duration::from_millis(50), ask(&mut fake)).await;
    assert!(broken_off.is_err() && fake.admin.socket.is_none());
    // At once: nothing has failed, so there is nothing to wait for.
    assert_eq!(ask(&mut fake).await.unwrap(), [1, 2]);
    assert_eq!(fake.admin.strays(), 0);
}
