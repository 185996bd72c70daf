//! Somebody else who writes to the same etcd at a steady rate: open loop, each write timed from when it was meant to be sent.

use crate::etcd::Etcd;
use anyhow::Context;
use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use voice_agent::proto::etcdserverpb::{PutRequest, kv_client::KvClient};

/// Writes a second.
const EVERY: Duration = Duration::from_millis(5);

/// The writer; it runs until it is ended.
#[derive(Debug)]
pub(super) struct Others {
    stop: CancellationToken,
    thread: thread::JoinHandle<anyhow::Result<Vec<Write>>>,
}

/// One write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    /// When it was meant to be sent.
    pub(super) meant: Instant,
    /// Until it was answered, in milliseconds.
    pub(super) took: f64,
}

impl Others {
    /// Returns when it is connected.
    pub(super) fn start(etcd: &Etcd) -> anyhow::Result<Others> {
        let endpoint = etcd
            .endpoints()
            .into_iter()
            .next()
            .context("etcd has no member")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let channel = runtime.block_on(Endpoint::from_shared(endpoint)?.connect())?;
        let stop = CancellationToken::new();
        let until = stop.clone();
        let thread = thread::spawn(move || runtime.block_on(write(channel, until)));
        Ok(Others { stop, thread })
    }

    /// Ends it. Every write.
    pub(super) fn end(self) -> anyhow::Result<Vec<Write>> {
        self.stop.cancel();
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?
    }

    pub(super) fn measure_for(self, time: Duration) -> anyhow::Result<Vec<Write>> {
        thread::sleep(time);
        self.end()
    }
}

async fn write(channel: Channel, until: CancellationToken) -> anyhow::Result<Vec<Write>> {
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let mut writes = tokio::task::JoinSet::new();
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0u64;
    while let Some(meant) = until.run_until_cancelled(tick.tick()).await {
        let (mut kv, latencies) = (KvClient::new(channel.clone()), latencies.clone());
        number += 1;
        let request = PutRequest {
            key: format!("/others/{}", number % 1000).into_bytes(),
            value: vec![b'x'; 100],
            lease: 0,
        };
        writes.spawn(async move {
            kv.put(request).await?;
            let meant = meant.into_std();
            let took = meant.elapsed().as_secs_f64() * 1000.0;
            latencies
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Write { meant, took });
            anyhow::Ok(())
        });
        while let Some(done) = writes.try_join_next() {
            done??;
        }
    }
    while let Some(done) = writes.join_next().await {
        done??;
    }
    let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *latencies))
}
