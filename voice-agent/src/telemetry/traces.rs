//! Spans of what peers ask for: from a peer's traceparent through PREPARE, the store and the kernel, to an OTLP receiver
//! (`traces/export.rs`). Nothing here ever waits: a span that finds the queue full is dropped and counted.

mod export;
mod span;
#[cfg(test)]
mod tests;

pub use export::{Exporter, TracesError};
pub use span::{Child, Parent, RequestSpan};

use super::Counter;
use crate::config::TracesConfig;
use opentelemetry::{
    SpanId, TraceId,
    trace::{SpanContext, TraceFlags, TraceState},
};
use opentelemetry_sdk::trace::SpanData;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use voice_room::{NodeName, RoomId, timeline::Synced};

/// Spans that may wait for the receiver: some seconds of a busy node. About 1 KiB each.
const QUEUE: usize = 4_096;
/// Rooms whose latest requests are remembered; of further ones only the request itself is told.
const ROOMS: usize = 10_000;
/// Requests of one room that are remembered.
const OF_A_ROOM: usize = 4;
/// What happens to a room this long after a request still belongs to it: its ports are bound when its media server next lists
/// it, some heartbeats later.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Where spans go. Cheap to clone; the default goes nowhere, and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<SpanData>,
    /// Of 100 traces.
    percent: u32,
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    of: HashMap<RoomId, Vec<Place>>,
    /// When those that are over were last looked for.
    swept: Option<Instant>,
}

/// A span that others may be below of.
#[derive(Debug, Clone, Copy)]
struct Place {
    trace: TraceId,
    span: SpanId,
    since: Instant,
}

/// What a node tells, and who takes it away; nothing without an endpoint.
///
/// # Errors
/// See [`TracesError`].
pub fn start(config: &TracesConfig, node: &NodeName) -> Result<(Traces, Option<Exporter>), TracesError> {
    let Some(endpoint) = &config.endpoint else {
        return Ok((Traces::default(), None));
    };
    let (traces, spans) = Traces::new(config.sample_percent);
    let exporter = Exporter::new(config, endpoint, node, spans)?;
    Ok((traces, Some(exporter)))
}

impl Traces {
    /// Traces of which `percent` of 100 are told, and what they go into.
    pub fn new(percent: u32) -> (Traces, mpsc::Receiver<SpanData>) {
        let (queue, spans) = mpsc::channel(QUEUE);
        let inner = Inner {
            queue,
            percent,
            requests: Mutex::default(),
        };
        (Traces(Some(Arc::new(inner))), spans)
    }

    /// A request of a peer begins. `None`: nobody wants to know, by our sampling or the peer's.
    pub fn request(
        &self,
        parent: Option<&Parent>,
        room: &RoomId,
        event: &'static str,
    ) -> Option<RequestSpan> {
        let inner = self.0.as_ref()?;
        let parent = parent.filter(|parent| parent.sampled && inner.samples(parent.trace))?;
        let place = Place {
            trace: parent.trace,
            span: span::new_id(),
            since: Instant::now(),
        };
        inner.remember(room, place);
        Some(RequestSpan::new(self.clone(), *parent, place.span, room, event))
    }

    /// Something begins for a room, below the request it comes from: the one of this trace, else the latest of the room.
    pub fn child(
        &self,
        room: &RoomId,
        trace: Option<&voice_room::TraceId>,
        name: &'static str,
    ) -> Option<Child> {
        let place = self.0.as_ref()?.place(room, trace)?;
        Some(Child::new(self.clone(), place.trace, place.span, name).about("voice.room", room.as_str()))
    }

    /// A sync is over: it, and what each peer did, by the recorded times.
    pub fn synced(&self, room: &RoomId, sync: &Synced) {
        let Some(child) = self.child(room, None, "sync") else {
            return;
        };
        let child = child
            .ago(sync.took)
            .about("voice.attempt", &sync.attempt.to_string());
        let prepare = |peer: &str| child.below("prepare").ago(sync.took).about("voice.peer", peer);
        for (peer, after) in &sync.agreed {
            prepare(peer).lasting(*after, Ok(()));
        }
        for (peer, why) in &sync.refused {
            prepare(peer).end(Err(why));
        }
        for peer in &sync.silent {
            prepare(peer).end(Err("did not answer in time"));
        }
        for peer in &sync.gone {
            prepare(peer).end(Err("its stream ended"));
        }
        child.end(sync.result.as_ref().map(|_| ()).map_err(String::as_str));
    }

    fn tell(&self, span: SpanData) {
        if let Some(inner) = &self.0
            && inner.queue.try_send(span).is_err()
        {
            Counter::SpansDropped.count();
        }
    }
}

impl Inner {
    /// The same traces on every agent: by the id's last bytes, which are random (W3C Trace Context).
    fn samples(&self, trace: TraceId) -> bool {
        let [.., a, b, c, d] = trace.to_bytes();
        u64::from(u32::from_be_bytes([a, b, c, d])) * 100 < (u64::from(self.percent) << 32)
    }

    fn remember(&self, room: &RoomId, place: Place) {
        let mut requests = self.requests();
        if requests.of.len() >= ROOMS && !requests.of.contains_key(room) {
            requests.sweep();
            if requests.of.len() >= ROOMS {
                return;
            }
        }
        let places = requests.of.entry(room.clone()).or_default();
        places.retain(Place::is_fresh);
        if places.len() >= OF_A_ROOM {
            places.remove(0);
        }
        places.push(place);
    }

    fn place(&self, room: &RoomId, trace: Option<&voice_room::TraceId>) -> Option<Place> {
        let trace = match trace {
            None => None,
            Some(id) => Some(TraceId::from_hex(id.as_str()).ok()?),
        };
        let requests = self.requests();
        let places = requests
            .of
            .get(room)?
            .iter()
            .rev()
            .filter(|place| place.is_fresh());
        let mut of_it = places.filter(|place| trace.is_none_or(|trace| place.trace == trace));
        of_it.next().copied()
    }

    /// A panic while it was held left whole values behind.
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    /// Forgets what is over; looks for it once a second at most.
    fn sweep(&mut self) {
        if self.swept.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            self.of.retain(|_, places| places.iter().any(Place::is_fresh));
            self.swept = Some(Instant::now());
        }
    }
}

impl Place {
    fn is_fresh(&self) -> bool {
        self.since.elapsed() < REMEMBERED
    }
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}
