//! A LiveKit that is none: its server API and its webhooks, as far as an agent sees them, on loopback inside a namespace. It checks
//! the agent's tokens, and signs as LiveKit does or as a forger would.

use crate::{
    netns::Netns,
    rtp::{Task, lock},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{digest, hmac};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where its server API is.
pub const API: &str = "127.0.0.1:7880";
/// Where the agent takes webhooks.
pub const WEBHOOKS: &str = "127.0.0.1:7404";
/// Its API key.
pub const KEY: &str = "APItest";
/// The key's secret.
pub const SECRET: &str = "a-secret-of-more-than-thirty-two-characters";

/// Who is in which room.
type Rooms = BTreeMap<String, Vec<String>>;

/// The server. Ends on drop.
#[derive(Debug)]
pub struct LiveKit {
    rooms: Arc<Mutex<Rooms>>,
    _task: Task,
}

impl LiveKit {
    /// Listens inside `ns`.
    pub fn start(ns: &Netns) -> anyhow::Result<LiveKit> {
        let listener = ns.run(|| TcpListener::bind(API))??;
        listener.set_nonblocking(true)?;
        let rooms: Arc<Mutex<Rooms>> = Arc::default();
        let known = rooms.clone();
        let task = Task::start(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let known = known.clone();
                        // Ends with its connection.
                        thread::spawn(move || serve(&stream, &known));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(LiveKit { rooms, _task: task })
    }

    /// Somebody is in a room from now on.
    pub fn join(&self, room: &str, who: &str) {
        let mut rooms = lock(&self.rooms);
        rooms.entry(room.to_owned()).or_default().push(who.to_owned());
    }

    /// It knows the room no longer.
    pub fn forget(&self, room: &str) {
        lock(&self.rooms).remove(room);
    }
}

/// Answers question after question on one connection.
fn serve(stream: &TcpStream, rooms: &Mutex<Rooms>) {
    let mut reader = BufReader::new(stream);
    while let Some((path, token, body)) = question(&mut reader) {
        let (status, answer) = answer(&path, &token, &body, &lock(rooms));
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n");
        let text = format!("{head}Content-Length: {}\r\n\r\n{answer}", answer.len());
        let mut stream = stream;
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// The path, the token and the body of one request; none: the connection is over.
fn question(reader: &mut BufReader<&TcpStream>) -> Option<(String, String, Value)> {
    let mut line = || {
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    };
    let path = line()?.split(' ').nth(1)?.to_owned();
    let (mut token, mut length) = (String::new(), 0);
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => token = value.trim_start_matches("Bearer ").to_owned(),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, token, serde_json::from_slice(&body).ok()?))
}

fn answer(path: &str, token: &str, body: &Value, rooms: &Rooms) -> (&'static str, Value) {
    let grant = granted(token).unwrap_or_default();
    let refused = json!({ "code": "unauthenticated", "msg": "invalid token" });
    let unknown = json!({ "code": "not_found", "msg": "requested room does not exist" });
    match path {
        "/twirp/livekit.RoomService/ListRooms" if grant["roomList"] == true => {
            let one = |(name, who): (&String, &Vec<String>)| json!({ "sid": "RM_1", "name": name, "num_participants": who.len() });
            (
                "200 OK",
                json!({ "rooms": rooms.iter().map(one).collect::<Vec<_>>() }),
            )
        }
        "/twirp/livekit.RoomService/ListParticipants"
            if grant["roomAdmin"] == true && grant["room"] == body["room"] =>
        {
            let Some(who) = rooms.get(body["room"].as_str().unwrap_or_default()) else {
                return ("404 Not Found", unknown);
            };
            let one = |(id, at): (&String, usize)| json!({ "identity": id, "state": "ACTIVE", "joined_at": at.to_string() });
            (
                "200 OK",
                json!({ "participants": who.iter().zip(0..).map(one).collect::<Vec<_>>() }),
            )
        }
        _ => ("401 Unauthorized", refused),
    }
}

/// What a token of ours grants.
fn granted(token: &str) -> Option<Value> {
    let (signed, signature) = token.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    hmac::verify(&key(SECRET), signed.as_bytes(), &signature).ok()?;
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?).ok()?;
    let lasts = claims["iss"] == KEY && claims["exp"].as_u64()? > now();
    lasts.then(|| claims["video"].clone())
}

/// A webhook as it is posted.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// What is posted.
    pub body: String,
    /// What the token's hash is of.
    pub signed: String,
    /// The API key that the token names.
    pub key: &'static str,
    /// The secret that it is signed with.
    pub secret: &'static str,
    /// For how many seconds it holds yet.
    pub lasts: i64,
}

impl Webhook {
    /// As LiveKit posts it.
    pub fn new(body: &str) -> Webhook {
        Webhook {
            body: body.to_owned(),
            signed: body.to_owned(),
            key: KEY,
            secret: SECRET,
            lasts: 300,
        }
    }

    /// An event of a room and one that is in it, or was.
    pub fn of(event: &str, room: &str, who: &str) -> Webhook {
        let body = json!({
            "event": event,
            "room": { "sid": "RM_1", "name": room },
            "participant": { "sid": "PA_1", "identity": who, "disconnectReason": "CLIENT_INITIATED" },
            "id": "EV_1",
            "createdAt": now().to_string(),
        });
        Webhook::new(&body.to_string())
    }

    /// Posts it from inside `ns`; the status that is answered.
    pub fn post(&self, ns: &Netns) -> anyhow::Result<u16> {
        let head = "POST / HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Type: application/webhook+json\r\n";
        let length = self.body.len();
        let head = format!(
            "{head}Authorization: {}\r\nContent-Length: {length}\r\n\r\n",
            self.token()
        );
        let exchange = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(WEBHOOKS)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(head.as_bytes())?;
            // One that is too long is not read to its end.
            let _ = stream.write_all(self.body.as_bytes());
            let mut status = String::new();
            BufReader::new(&stream).read_line(&mut status)?;
            Ok(status)
        };
        let said = ns.run(exchange)??;
        let status = said.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| anyhow::anyhow!("the agent answered {said:?}"))
    }

    fn token(&self) -> String {
        let hash = STANDARD.encode(digest::digest(&digest::SHA256, self.signed.as_bytes()));
        let exp = now().saturating_add_signed(self.lasts);
        let claims = json!({ "iss": self.key, "nbf": now() - 600, "exp": exp, "sha256": hash });
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = parts.join(".");
        let signature = hmac::sign(&key(self.secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

/// Seconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
}
