//! Changes of rooms in Redis: how many, how quick, and how many of them wrong; beside redis-benchmark with the same script on
//! the same server, and beside the way of an application that reads, compares and writes. Each on an emptied server.

mod naive;
mod open;
mod saturated;

use super::{Figure, progress::step};
use crate::redis::Server;
use anyhow::Context;
use std::fs;
use voice_agent::store::Redis;

/// Every figure, in one run.
pub(super) fn run() -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let store = Redis::open(&server.config())?;
    // What else the machine does shows in every figure below.
    let mut figures = vec![Figure::shown("load_before", load()?, "runnable")];
    let empty = || server.ask(&["FLUSHALL"]).map(drop);
    let cas = step("open loop, 15,000 changes/s by 10,000 callers", || {
        runtime.block_on(open::run(|change| {
            let store = store.clone();
            async move { Ok(store.commit_once(change).await?) }
        }))
    })?;
    let wrong = step("the events of every room", || {
        runtime.block_on(open::wrong(&store, &cas))
    })?;
    empty()?;
    let naive = step("the same by read, compare, write", || {
        runtime.block_on(async {
            let way = naive::Way::new(server.port()).await?;
            open::run(|change| {
                let way = way.clone();
                async move { way.commit(change).await }
            })
            .await
        })
    })?;
    empty()?;
    figures.extend(open::figures(&cas, wrong, &naive));
    figures.extend(step("as many as go, beside redis-benchmark", || {
        saturated::figures(&server)
    })?);
    figures.push(Figure::shown("load_after", load()?, "runnable"));
    Ok(figures)
}

/// The load average of the last minute.
fn load() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().context("/proc/loadavg is empty")?;
    Ok(first.parse()?)
}
