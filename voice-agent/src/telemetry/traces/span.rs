//! Spans while they last: a peer's request, and what is done for it. Each is told once, when it ends.

use super::{Traces, context};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceId,
    trace::{SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};
use voice_room::{Rejected, RoomId, command::Accepted};

/// What a peer gave in `traceparent`: the span of its own that its requests belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub(super) trace: TraceId,
    span: SpanId,
    /// Whether the peer records this trace itself.
    pub(super) sampled: bool,
}

impl Parent {
    /// `VERSION-TRACE-SPAN-FLAGS`; `None` when it is not one, which W3C says to ignore.
    pub fn from_traceparent(text: &str) -> Option<Parent> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lower = |hex: &str| {
            hex.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let sizes = [(version, 2), (trace, 32), (span, 16), (flags, 2)];
        if !sizes.iter().all(|(hex, size)| hex.len() == *size && lower(hex)) || version == "ff" {
            return None;
        }
        let trace = TraceId::from_hex(trace)
            .ok()
            .filter(|id| *id != TraceId::INVALID)?;
        let span = SpanId::from_hex(span).ok().filter(|id| *id != SpanId::INVALID)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Parent { trace, span, sampled })
    }
}

/// An id that this process has not given before, and others hardly will: a counter through the hash of a random key.
pub(super) fn new_id() -> SpanId {
    static KEY: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    let n = GIVEN.fetch_add(1, Ordering::Relaxed);
    let id = KEY.get_or_init(RandomState::new).hash_one(n);
    SpanId::from_bytes(id.max(1).to_be_bytes())
}

/// A peer's request while it waits for its answer. One that never gets it, because its stream ended, says so.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct RequestSpan {
    traces: Traces,
    span: Option<SpanData>,
}

impl RequestSpan {
    pub(super) fn new(
        traces: Traces,
        parent: Parent,
        id: SpanId,
        room: &RoomId,
        event: &'static str,
    ) -> RequestSpan {
        let mut span = blank(parent.trace, id, parent.span, event.into(), SpanKind::Server);
        span.parent_span_is_remote = true;
        span.attributes
            .push(KeyValue::new("voice.room", room.to_string()));
        RequestSpan {
            traces,
            span: Some(span),
        }
    }

    /// The answer.
    pub fn end(mut self, answer: Result<&Accepted, &Rejected>) {
        if let Some(span) = &mut self.span {
            match answer {
                Ok(accepted) => {
                    span.attributes
                        .push(KeyValue::new("voice.state", accepted.state.name()));
                    let version = i64::try_from(accepted.version.0).unwrap_or(i64::MAX);
                    span.attributes.push(KeyValue::new("voice.version", version));
                }
                Err(why) => {
                    span.attributes.push(KeyValue::new("voice.refused", why.code()));
                    span.status = Status::error(why.to_string());
                }
            }
        }
        self.tell();
    }

    fn tell(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.end_time = SystemTime::now();
            self.traces.tell(span);
        }
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if let Some(span) = &mut self.span {
            span.status = Status::error("the stream ended before the answer");
        }
        self.tell();
    }
}

/// Something that is done for a request. It is told when it is ended, and forgotten when it is dropped.
#[derive(Debug)]
#[must_use = "it is told when it is ended"]
pub struct Child {
    traces: Traces,
    span: SpanData,
}

impl Child {
    pub(super) fn new(traces: Traces, trace: TraceId, parent: SpanId, name: &'static str) -> Child {
        Child {
            traces,
            span: blank(trace, new_id(), parent, name.into(), SpanKind::Internal),
        }
    }

    /// Another one below this one.
    pub(super) fn below(&self, name: &'static str) -> Child {
        let context = &self.span.span_context;
        Child::new(self.traces.clone(), context.trace_id(), context.span_id(), name)
    }

    /// With an attribute.
    pub fn about(mut self, key: &'static str, value: &str) -> Child {
        self.span.attributes.push(KeyValue::new(key, value.to_owned()));
        self
    }

    /// It began so long ago.
    pub(super) fn ago(mut self, took: Duration) -> Child {
        let now = SystemTime::now();
        self.span.start_time = now.checked_sub(took).unwrap_or(now);
        self
    }

    /// It is over; an error says why it failed.
    pub fn end(mut self, result: Result<(), &str>) {
        self.span.end_time = SystemTime::now();
        self.close(result);
    }

    /// It was over so long after it began.
    pub(super) fn lasting(mut self, took: Duration, result: Result<(), &str>) {
        self.span.end_time = self
            .span
            .start_time
            .checked_add(took)
            .unwrap_or(self.span.start_time);
        self.close(result);
    }

    fn close(mut self, result: Result<(), &str>) {
        if let Err(why) = result {
            self.span.status = Status::error(why.to_owned());
        }
        self.traces.tell(self.span);
    }
}

fn blank(
    trace: TraceId,
    id: SpanId,
    parent: SpanId,
    name: std::borrow::Cow<'static, str>,
    span_kind: SpanKind,
) -> SpanData {
    let now = SystemTime::now();
    SpanData {
        span_context: context(trace, id),
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind,
        name,
        start_time: now,
        end_time: now,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("voice-agent").build(),
    }
}
