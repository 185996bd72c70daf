//! Follows the registry's keys: a listing in pages, then a watch from the revision after it.
//!
//! A watch whose connection breaks goes on after the last revision seen. When that is not enough (the revision was
//! compacted or lies ahead, etcd cancelled the watch or has no leader, it was silent for too long, our lease was lost),
//! everything is listed again; what that differs in is found by `view`.

use super::{
    clock::jittered,
    error::{Cause, EtcdError},
    records::{ROOMS, WATCHED},
    wire::{Client, Link},
};
use crate::{
    backoff::Backoff,
    proto::{
        etcdserverpb::{self as pb, watch_request::RequestUnion},
        mvccpb::{Event, KeyValue},
    },
    telemetry::counters::Counter,
};
use std::time::{Duration, Instant};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

/// Keys in one answer of a listing.
const PAGE: i64 = 1000;
/// The pause after a page, in times that it took.
const LIST_PAUSE: f64 = 1.0;
/// How often etcd is asked whether the watch is still there.
const ASK: Duration = Duration::from_secs(5);
/// A watch silent for longer is given up.
const SILENT: Duration = Duration::from_secs(15);
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
/// Listings and events that may wait for who takes them; then reading stops, and etcd buffers.
pub(super) const QUEUE: usize = 16;

/// What was seen.
#[derive(Debug)]
pub(super) enum Seen {
    /// Every key, at a revision. What was between the last and this is not known.
    Listed {
        /// The keys.
        keys: Vec<KeyValue>,
        /// Of all of them.
        revision: i64,
    },
    /// The first of a listing, as far as a claim needs it: every agent and every owner. `Listed` follows.
    Owners {
        /// The keys.
        keys: Vec<KeyValue>,
        /// Of all of them.
        revision: i64,
    },
    /// What happened since, in order, in whole revisions.
    Events {
        /// In order.
        events: Vec<Event>,
        /// The newest.
        revision: i64,
    },
    /// The watch goes on where it broke off: nothing was missed.
    Resumed,
    /// From now on it is not known what happens, until one of the others comes.
    Lost(EtcdError),
}

/// Why a round of watching ended.
enum Ended {
    Failed(EtcdError),
    /// Our lease is lost: whoever took over meanwhile is better listed.
    LeaseLost,
    /// Nobody listens.
    Unheard,
}

impl From<EtcdError> for Ended {
    fn from(error: EtcdError) -> Ended {
        Ended::Failed(error)
    }
}

/// Follows until nobody listens. `leases` tells of our own lease.
pub(super) async fn follow(mut link: Link, to: mpsc::Sender<Seen>, mut leases: watch::Receiver<Option<i64>>) {
    let mut backoff = RETRY;
    // The last revision that was seen whole.
    let mut seen: Option<i64> = None;
    loop {
        let begun = Instant::now();
        let error = match round(&mut link, &mut seen, &to, &mut leases).await {
            Ended::Unheard => return,
            Ended::LeaseLost => {
                seen = None;
                continue;
            }
            Ended::Failed(error) => error,
        };
        if lists_again(error.cause) {
            seen = None;
        }
        if begun.elapsed() > SILENT {
            backoff.reset();
        }
        link.failed();
        Counter::RegistryWatchBroke.count();
        tracing::debug!(%error, "the registry's watch broke off");
        if to.send(Seen::Lost(error)).await.is_err() {
            return;
        }
        sleep(backoff.wait()).await;
    }
}

/// Whether the watch may not simply go on where it broke off.
fn lists_again(cause: Cause) -> bool {
    match cause {
        Cause::Unreachable | Cause::Denied => false,
        Cause::Compacted
        | Cause::NoLeader
        | Cause::Late
        | Cause::LeaseGone
        | Cause::Malformed
        | Cause::Refused => true,
    }
}

async fn round(
    link: &mut Link,
    seen: &mut Option<i64>,
    to: &mpsc::Sender<Seen>,
    leases: &mut watch::Receiver<Option<i64>>,
) -> Ended {
    let watched = async {
        let client = link.client().await?;
        if let Some(revision) = *seen
            && !reaches(&client, revision).await?
        {
            *seen = None;
        }
        let (revision, first) = match *seen {
            Some(revision) => (revision, Seen::Resumed),
            None => {
                let (keys, revision) = list(&client, to).await?;
                (revision, Seen::Listed { keys, revision })
            }
        };
        let watch = Watch::begin(client, revision).await?;
        *seen = Some(revision);
        to.send(first).await.map_err(|_| Ended::Unheard)?;
        watch.read(seen, to).await
    };
    tokio::select! {
        ended = watched => match ended { Ok(never) => match never {}, Err(ended) => ended },
        () = lost(leases) => Ended::LeaseLost,
        () = to.closed() => Ended::Unheard,
    }
}

/// Returns when the lease is lost; a new one is no reason.
async fn lost(leases: &mut watch::Receiver<Option<i64>>) {
    // Fails when the registry ends; then this task does too.
    while leases.changed().await.is_ok() && leases.borrow_and_update().is_some() {}
}

/// Whether etcd has come as far as this revision. One restored from a backup has not, and a watch from there would be silent
/// for long.
async fn reaches(client: &Client, revision: i64) -> Result<bool, EtcdError> {
    let request = pb::RangeRequest {
        key: WATCHED.0.into(),
        count_only: true,
        ..pb::RangeRequest::default()
    };
    let answer = client.range(request).await?;
    let there = answer.header.map_or(0, |header| header.revision);
    if there < revision {
        Counter::RegistryWentBack.count();
        tracing::error!(
            revision,
            there,
            "etcd's revision went back: it was restored from a backup; raise registry.etcd.era on every agent"
        );
    }
    Ok(there >= revision)
}

/// Every key at one revision: first what a claim needs, then what is told of rooms. For each page etcd goes through all keys up
/// to the end of what is asked for, and nobody writes meanwhile: so it is asked for in two parts.
async fn list(client: &Client, to: &mpsc::Sender<Seen>) -> Result<(Vec<KeyValue>, i64), Ended> {
    Counter::RegistryListed.count();
    let (mut keys, revision) = list_part(client, (WATCHED.0, ROOMS), 0).await?;
    let owners = Seen::Owners {
        keys: keys.clone(),
        revision,
    };
    to.send(owners).await.map_err(|_| Ended::Unheard)?;
    let (rooms, revision) = list_part(client, (ROOMS, WATCHED.1), revision).await?;
    keys.extend(rooms);
    Ok((keys, revision))
}

/// The keys from one to the other, page by page, at a revision (0: the present one), with that revision. After each page it waits
/// for a share of the time that the page took.
async fn list_part(
    client: &Client,
    (from, end): (&str, &str),
    mut revision: i64,
) -> Result<(Vec<KeyValue>, i64), EtcdError> {
    let (mut keys, mut from) = (Vec::new(), Vec::from(from));
    loop {
        let begun = Instant::now();
        let request = pb::RangeRequest {
            key: from,
            range_end: end.into(),
            limit: PAGE,
            revision,
            count_only: false,
        };
        let page = client.range(request).await?;
        if revision == 0 {
            revision = page.header.map_or(0, |header| header.revision);
        }
        keys.extend(page.kvs);
        sleep(jittered(begun.elapsed().mul_f64(LIST_PAUSE), 0.5)).await;
        match keys.last() {
            Some(last) if page.more => from = [last.key.as_slice(), b"\0"].concat(),
            _ => return Ok((keys, revision)),
        }
    }
}

/// A watch that etcd has confirmed.
struct Watch {
    client: Client,
    to: mpsc::Sender<pb::WatchRequest>,
    from: tonic::Streaming<pb::WatchResponse>,
    id: i64,
}

impl Watch {
    /// From the revision after this one.
    async fn begin(client: Client, revision: i64) -> Result<Watch, EtcdError> {
        let create = pb::WatchCreateRequest {
            key: WATCHED.0.into(),
            range_end: WATCHED.1.into(),
            start_revision: revision + 1,
            fragment: true,
        };
        let (to, mut from) = client.watch(create).await?;
        let first = client.next("watch", &mut from, SILENT).await?;
        still_there(&client, &first)?;
        if !first.created {
            let problem = "the first answer does not confirm it";
            return Err(EtcdError::new(
                "watch",
                client.member(),
                Cause::Malformed,
                problem,
            ));
        }
        let id = first.watch_id;
        Ok(Watch { client, to, from, id })
    }

    async fn read(
        mut self,
        seen: &mut Option<i64>,
        to: &mpsc::Sender<Seen>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut parts: Vec<Event> = Vec::new();
        let mut heard = Instant::now();
        loop {
            let message = match self.client.next("watch", &mut self.from, ASK).await {
                Err(error) if error.cause == Cause::Late && heard.elapsed() < SILENT => {
                    let ask = pb::WatchRequest {
                        request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
                    };
                    // When it is full, etcd has not read the last ones either, and the silence is judged.
                    let _ = self.to.try_send(ask);
                    continue;
                }
                message => message?,
            };
            heard = Instant::now();
            still_there(&self.client, &message)?;
            // Answers about progress carry another id, or no events. They are signs of life only: etcd 3.4 may send them ahead
            // of events of the same revision.
            if message.watch_id != self.id {
                continue;
            }
            parts.extend(message.events);
            if message.fragment || parts.is_empty() {
                continue;
            }
            let events = std::mem::take(&mut parts);
            let newest = events
                .iter()
                .filter_map(|event| Some(event.kv.as_ref()?.mod_revision))
                .max();
            let Some(revision) = newest.filter(|newest| seen.is_none_or(|seen| *newest > seen)) else {
                let problem = "its events are of revisions that were seen before";
                return Err(EtcdError::new("watch", self.client.member(), Cause::Malformed, problem).into());
            };
            *seen = Some(revision);
            to.send(Seen::Events { events, revision })
                .await
                .map_err(|_| Ended::Unheard)?;
        }
    }
}

/// An error when etcd has ended the watch.
fn still_there(client: &Client, message: &pb::WatchResponse) -> Result<(), EtcdError> {
    let reason = &message.cancel_reason;
    match message {
        _ if message.compact_revision > 0 => {
            let problem = format!("compacted up to revision {}", message.compact_revision);
            Err(EtcdError::new(
                "watch",
                client.member(),
                Cause::Compacted,
                problem,
            ))
        }
        _ if message.canceled && reason.contains("no leader") => Err(EtcdError::new(
            "watch",
            client.member(),
            Cause::NoLeader,
            reason.as_str(),
        )),
        _ if message.canceled => Err(EtcdError::new(
            "watch",
            client.member(),
            Cause::Refused,
            format!("cancelled: {reason}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_connection_is_gone_on_from_all_else_lists_again() {
        assert!(!lists_again(Cause::Unreachable));
        for cause in [
            Cause::Compacted,
            Cause::NoLeader,
            Cause::Late,
            Cause::Refused,
            Cause::Malformed,
        ] {
            assert!(lists_again(cause), "{cause:?}");
        }
    }
}
