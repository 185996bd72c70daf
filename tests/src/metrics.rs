//! The agent's pages over HTTP, as Prometheus and a liveness probe read them.

use crate::netns::Netns;
use anyhow::Context;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// The body of a page of the agent in `ns` that must be served with status 200.
pub fn page(ns: &Netns, path: &str) -> anyhow::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let exchange = move || -> std::io::Result<String> {
        let mut stream = TcpStream::connect("127.0.0.1:7402")?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    let said = ns.run(exchange)??;
    let (head, body) = said.split_once("\r\n\r\n").context("no HTTP")?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(body.to_owned())
}

/// The value of one series of a page; `None` when it is not there.
pub fn value(page: &str, series: &str) -> Option<u64> {
    let mut lines = page.lines();
    lines
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?
        .parse()
        .ok()
}
