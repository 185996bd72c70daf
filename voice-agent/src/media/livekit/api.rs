//! The client of LiveKit's server API (RoomService over Twirp: a POST of JSON for each question). Every question has a deadline;
//! whatever goes wrong is a typed error and counted, and what is not a refusal costs the connection. What is asked is in `follow`.

use super::{
    token::Credentials,
    webhooks::now,
    wire::{Listed, Participant, Participants, Rooms},
};
use crate::{backoff::Backoff, telemetry::counters::Counter};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use voice_room::RoomId;

/// How long one question may take. LiveKit answers in a few milliseconds.
const DEADLINE: Duration = Duration::from_secs(2);
/// The longest answer taken. A list of 10,000 rooms has 4 MiB.
const ANSWER_BOUND: usize = 16 << 20;
/// The waits after failed questions; the longest is below a heartbeat.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection.
    #[error(
        "connecting to LiveKit's server API at {address}: {problem}; does LiveKit run, and is livekit.api its `port`?"
    )]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        problem: io::Error,
    },
    /// A question failed a moment ago.
    #[error("LiveKit's server API failed a moment ago; next try in {} ms", .0.as_millis())]
    BackingOff(Duration),
    /// The connection broke.
    #[error("asking LiveKit for {question}: {problem}")]
    Broken {
        /// What was asked.
        question: &'static str,
        /// What is wrong.
        problem: hyper::Error,
    },
    /// No answer in time.
    #[error("LiveKit did not answer {question} within {} ms", DEADLINE.as_millis())]
    Deadline {
        /// What was asked.
        question: &'static str,
    },
    /// The answer is not what the question asks for.
    #[error("LiveKit answered {question} with something else: {problem}")]
    Garbage {
        /// What was asked.
        question: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// LiveKit refused. The connection is sound.
    #[error("LiveKit refused {question}: {reason} ({status})")]
    Refused {
        /// What was asked.
        question: &'static str,
        /// HTTP's.
        status: StatusCode,
        /// LiveKit's words.
        reason: String,
    },
}

impl ApiError {
    /// Whether LiveKit answered, and only we could not make anything of it. Then its rooms are not known to be gone, and none may
    /// be cut for it. A LiveKit that hangs answers nothing: that is silence, and judged as such.
    pub(super) fn was_answered(&self) -> bool {
        matches!(self, ApiError::Garbage { .. } | ApiError::Refused { .. })
    }
}

/// Twirp's errors.
#[derive(Deserialize)]
struct TwirpError {
    msg: String,
}

/// A connection to the server API, made when needed and again after a failure.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    credentials: Arc<Credentials>,
    connection: Option<SendRequest<Full<Bytes>>>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Api {
    /// A client that is not connected yet.
    pub fn new(address: SocketAddr, credentials: Arc<Credentials>) -> Api {
        Api {
            address,
            credentials,
            connection: None,
            backoff: RETRY,
            not_before: None,
        }
    }

    /// Asks something harmless: whether LiveKit answers and takes the key.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&mut self) -> Result<(), ApiError> {
        self.rooms().await.map(drop)
    }

    /// Every room.
    pub(super) async fn rooms(&mut self) -> Result<Vec<Listed>, ApiError> {
        let grant = json!({ "roomList": true });
        let rooms: Rooms = self.ask("ListRooms", &grant, &json!({})).await?;
        Ok(rooms.listed())
    }

    /// Who is in a room; nobody when it is not there.
    pub(super) async fn participants(&mut self, room: &RoomId) -> Result<Vec<Participant>, ApiError> {
        let grant = json!({ "roomAdmin": true, "room": room.as_str() });
        let question = json!({ "room": room.as_str() });
        let answer = self.ask("ListParticipants", &grant, &question).await;
        let participants: Participants = match answer {
            Err(ApiError::Refused {
                status: StatusCode::NOT_FOUND,
                ..
            }) => Participants::none(),
            other => other?,
        };
        Ok(participants.present())
    }

    async fn ask<T: for<'a> Deserialize<'a>>(
        &mut self,
        question: &'static str,
        grant: &Value,
        body: &Value,
    ) -> Result<T, ApiError> {
        let left = self
            .not_before
            .map(|at| at.saturating_duration_since(Instant::now()));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Err(ApiError::BackingOff(left));
        }
        let asking = self.exchange(question, grant, body);
        let answer = match timeout(DEADLINE, asking).await {
            Ok(answer) => answer.and_then(|bytes| read(question, &bytes)),
            Err(_) => Err(ApiError::Deadline { question }),
        };
        match &answer {
            Ok(_) => self.backoff.reset(),
            Err(ApiError::Refused { .. }) => {}
            Err(_) => {
                self.connection = None;
                self.not_before = Some(Instant::now() + self.backoff.wait());
            }
        }
        if answer.is_err() {
            Counter::LivekitApiFailed.count();
        }
        answer
    }

    /// LiveKit ends a connection that was idle; what was asked in that moment is asked once more, on another.
    async fn exchange(
        &mut self,
        question: &'static str,
        grant: &Value,
        body: &Value,
    ) -> Result<Bytes, ApiError> {
        let request = || self.request(question, grant, body);
        let (first, again) = (request(), request());
        if let Some(connection) = self.connection.as_mut().filter(|open| !open.is_closed())
            && connection.ready().await.is_ok()
            && let Ok(response) = connection.send_request(first).await
        {
            return bytes(question, response).await;
        }
        let mut connection = connect(self.address).await?;
        let broken = |problem| ApiError::Broken { question, problem };
        let response = connection.send_request(again).await.map_err(broken)?;
        self.connection = Some(connection);
        bytes(question, response).await
    }

    fn request(&self, question: &'static str, grant: &Value, body: &Value) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
        *request.method_mut() = hyper::Method::POST;
        let token = format!("Bearer {}", self.credentials.grant(grant, now()));
        let headers = [
            (HOST, self.address.to_string()),
            (CONTENT_TYPE, "application/json".into()),
            (AUTHORIZATION, token),
        ];
        for (name, value) in headers {
            // All are visible ASCII.
            if let Ok(value) = value.parse() {
                request.headers_mut().insert(name, value);
            }
        }
        if let Ok(path) = format!("/twirp/livekit.RoomService/{question}").parse() {
            *request.uri_mut() = path;
        }
        request
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, ApiError> {
    let failed = |problem| ApiError::Connect { address, problem };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    let (connection, driver) = handshake(TokioIo::new(stream))
        .await
        .map_err(|problem| failed(io::Error::other(problem)))?;
    // Ends when the connection is dropped, or breaks.
    tokio::spawn(driver);
    Ok(connection)
}

/// The whole answer, if LiveKit did not refuse.
async fn bytes(question: &'static str, response: Response<Incoming>) -> Result<Bytes, ApiError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BOUND).collect().await;
    let body = body.map_err(|problem| match problem.is::<LengthLimitError>() {
        true => garbage(question, format!("it is longer than {ANSWER_BOUND} bytes")),
        false => garbage(question, problem.to_string()),
    })?;
    let body = body.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let said = serde_json::from_slice(&body).map(|TwirpError { msg }| msg);
    let reason = said.unwrap_or_else(|_| "no reason given".into());
    let reason = reason.chars().filter(|c| !c.is_control()).take(200).collect();
    Err(ApiError::Refused {
        question,
        status,
        reason,
    })
}

fn read<T: for<'a> Deserialize<'a>>(question: &'static str, bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|problem| garbage(question, problem.to_string()))
}

fn garbage(question: &'static str, problem: String) -> ApiError {
    ApiError::Garbage { question, problem }
}

#[cfg(test)]
mod tests;
