//! The client against a server on a real loopback socket that answers what the test wants.

use super::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Answers every request on every connection with this, and keeps what was asked last.
struct Server {
    address: SocketAddr,
    asked: Arc<std::sync::Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn server(answer: String) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(std::sync::Mutex::new(String::new()));
    let keep = asked.clone();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (answer, keep) = (answer.clone(), keep.clone());
            tokio::spawn(async move {
                let mut bytes = vec![0; 8192];
                while let Ok(len @ 1..) = stream.read(&mut bytes).await {
                    *keep.lock().unwrap() = String::from_utf8_lossy(&bytes[..len]).into_owned();
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    Server { address, asked, task }
}

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn api(server: &Server) -> Api {
    let secret = b"a-secret-of-more-than-thirty-two-characters";
    Api::new(server.address, Arc::new(Credentials::new("APIkey", secret)))
}

#[tokio::test]
async fn rooms_are_asked_for_with_a_token_and_over_one_connection() {
    let server = server(http(
        "200 OK",
        r#"{"rooms":[{"name":"alpha","num_participants":2}]}"#,
    ))
    .await;
    let mut api = api(&server);
    for _ in 0..2 {
        let rooms = api.rooms().await.unwrap();
        assert_eq!((rooms[0].room.as_str(), rooms[0].participants), ("alpha", 2));
    }
    let asked = server.asked.lock().unwrap().clone();
    assert!(
        asked.starts_with("POST /twirp/livekit.RoomService/ListRooms HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("authorization: Bearer ey"), "{asked}");
}

#[tokio::test]
async fn a_room_that_is_not_there_has_nobody_in_it() {
    let server = server(http(
        "404 Not Found",
        r#"{"code":"not_found","msg":"requested room does not exist"}"#,
    ))
    .await;
    let room = RoomId::new("alpha").unwrap();
    assert_eq!(api(&server).participants(&room).await.unwrap(), []);
}

#[tokio::test]
async fn a_refusal_and_garbage_are_answers_and_a_closed_door_is_silence() {
    let refusing = server(http(
        "401 Unauthorized",
        r#"{"code":"unauthenticated","msg":"invalid token"}"#,
    ))
    .await;
    let refused = api(&refusing).rooms().await.unwrap_err();
    assert!(
        refused.was_answered() && refused.to_string().contains("invalid token"),
        "{refused}"
    );
    for body in ["not json", "{}", r#"{"rooms":[{}]}"#] {
        let babbling = server(http("200 OK", body)).await;
        let garbage = api(&babbling).rooms().await.unwrap_err();
        assert!(garbage.was_answered(), "{garbage}");
    }
    let gone = server(String::new()).await;
    let address = gone.address;
    drop(gone);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let credentials = Arc::new(Credentials::new("APIkey", b"x"));
    let silent = Api::new(address, credentials).rooms().await.unwrap_err();
    assert!(!silent.was_answered(), "{silent}");
}

#[tokio::test]
async fn after_a_failure_it_waits_before_it_asks_again() {
    let server = server("nonsense\r\n\r\n".into()).await;
    let mut api = api(&server);
    let first = api.rooms().await.unwrap_err();
    assert!(matches!(first, ApiError::Broken { .. }), "{first}");
    let second = api.rooms().await.unwrap_err();
    assert!(matches!(second, ApiError::BackingOff(_)), "{second}");
}
