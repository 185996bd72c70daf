//! The keeper of the lease: a thread with a runtime of its own that does nothing else, so that nothing can starve it.
//!
//! A renewal whose stream ends, that is answered with TTL 0 or is late, is tried once more at another member by a stream of
//! its own; when etcd says that the lease is gone, or authority ends by our clock, a new lease is granted. An old lease is
//! never taken up again, and never revoked: its keys keep others out until they are claimed anew.

use super::{
    authority::Authority,
    clock::{self, jittered},
    error::{Cause, EtcdError},
    lease::Lease,
    wire::{Client, Link, Stream},
};
use crate::{backoff::Backoff, proto::etcdserverpb as pb, telemetry::counters::Counter};
use std::{io, thread, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use voice_room::Mono;

const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// Chance in the time of a renewal, so that agents started together do not renew together.
const SPREAD: f64 = 0.1;
/// The wait before a new stream when one ended by itself.
const ENDED: Duration = Duration::from_millis(100);
const WHAT: &str = "renew the lease";

/// An open stream of renewals.
struct Renewals {
    client: Client,
    stream: Stream<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse>,
}

/// Keeps a lease until `stop`, on a thread of its own.
pub(super) fn spawn(
    link: Link,
    ttl: Duration,
    authority: Authority,
    stop: CancellationToken,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let keeper = Keeper { link, ttl, authority };
    let body = move || {
        runtime.block_on(stop.run_until_cancelled(keeper.run()));
    };
    thread::Builder::new().name("lease".into()).spawn(body)
}

struct Keeper {
    link: Link,
    ttl: Duration,
    authority: Authority,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            let lease = self.grant().await;
            self.authority.set(&lease);
            tracing::info!(lease = format_args!("{:x}", lease.id), ttl = ?lease.ttl, "etcd granted a lease");
            let problem = self.hold(lease).await;
            self.authority.end(problem.clone());
            Counter::LeaseReplaced.count();
            tracing::warn!(
                lease = format_args!("{:x}", lease.id),
                problem,
                "the lease is over; asking for a new one"
            );
        }
    }

    /// Asks until one is granted that still holds.
    async fn grant(&mut self) -> Lease {
        let mut backoff = RETRY;
        let mut told = false;
        loop {
            let sent = clock::now();
            match self.try_grant().await {
                Ok((id, ttl)) => {
                    let lease = Lease::granted(id, ttl, sent);
                    if lease.holds(clock::now()) {
                        return lease;
                    }
                }
                Err(error) => {
                    if !told {
                        tracing::warn!(%error, "no lease; trying again");
                        told = true;
                    }
                    self.authority.failed(error.to_string());
                    self.link.failed();
                }
            }
            sleep(backoff.wait()).await;
        }
    }

    async fn try_grant(&mut self) -> Result<(i64, Duration), EtcdError> {
        self.link.client().await?.grant(self.ttl).await
    }

    /// Renews until the lease is over; why it is.
    async fn hold(&mut self, mut lease: Lease) -> String {
        let mut stream: Option<Renewals> = None;
        let mut backoff = RETRY;
        let mut last = String::from("it was not renewed in time");
        while lease.holds(clock::now()) {
            if let Some(open) = &mut stream {
                let wait = jittered(lease.renew_in(clock::now()), SPREAD);
                tokio::select! {
                    () = sleep(wait) => {}
                    () = self.authority.asked_to_check() => {}
                    // Answers come to questions only: this is its end.
                    _ = open.stream.1.message() => {
                        stream = None;
                        self.link.failed();
                        Counter::LeaseRenewalFailed.count();
                        // So that a member that ends every stream is not asked without pause.
                        sleep(jittered(ENDED, 0.5)).await;
                    }
                }
            }
            let sent = clock::now();
            let left = lease.authority_until().since(sent);
            let renewed = self
                .renew(&mut stream, &lease, left.min(lease.late_after()))
                .await;
            match renewed {
                Ok(()) => {
                    lease.renew(sent);
                    backoff.reset();
                    // Frozen meanwhile, it may be over all the same.
                    if lease.holds(clock::now()) {
                        self.authority.set(&lease);
                    }
                }
                Err(error) if error.cause == Cause::LeaseGone => return error.to_string(),
                Err(error) => {
                    // With a stream that was open, the next try is the one of its own.
                    let was_open = stream.take().is_some();
                    self.link.failed();
                    Counter::LeaseRenewalFailed.count();
                    tracing::warn!(%error, "the lease was not renewed; trying another way");
                    last = error.to_string();
                    if !was_open {
                        sleep(backoff.wait().min(left)).await;
                    }
                }
            }
        }
        format!("authority ended by our clock: {last}")
    }

    /// One renewal, on the stream there is or on a new one. TTL 0 on a stream that was open is no proof: another member is
    /// asked on a new one, and believed.
    async fn renew(
        &mut self,
        stream: &mut Option<Renewals>,
        lease: &Lease,
        within: Duration,
    ) -> Result<(), EtcdError> {
        let request = pb::LeaseKeepAliveRequest { id: lease.id };
        let until = clock::now() + within;
        let is_new = stream.is_none();
        let Renewals {
            client,
            stream: (to, from),
        } = match stream {
            Some(open) => open,
            None => {
                let client = self.connect(within).await?;
                let renewals = client.keep_alive(request, left(until)).await?;
                stream.insert(Renewals {
                    client,
                    stream: renewals,
                })
            }
        };
        if !is_new {
            // Answered one by one, so there is room; a stream that ended says so below.
            let _ = to.try_send(request);
        }
        loop {
            let answer = client.next(WHAT, from, left(until)).await?;
            if answer.id != lease.id {
                continue;
            }
            return match answer.ttl {
                ..=0 if is_new => Err(EtcdError::new(
                    WHAT,
                    client.member(),
                    Cause::LeaseGone,
                    "it is not there any more",
                )),
                ..=0 => Err(EtcdError::new(
                    WHAT,
                    client.member(),
                    Cause::Refused,
                    "answered with TTL 0",
                )),
                _ => Ok(()),
            };
        }
    }

    async fn connect(&mut self, within: Duration) -> Result<Client, EtcdError> {
        match tokio::time::timeout(within, self.link.client()).await {
            Ok(connected) => connected,
            Err(_) => Err(EtcdError::new(
                "connect",
                "a member",
                Cause::Late,
                format!("not within {within:?}"),
            )),
        }
    }
}

fn left(until: Mono) -> Duration {
    until.since(clock::now())
}
