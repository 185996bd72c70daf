//! A real influxd in a namespace, on ports and a directory of its own; killed on drop, goes away and comes back when told to.

pub mod front;

use crate::{bpffs::Scratch, clock, netns::Netns, redis::free_port};
use anyhow::Context;
use std::{
    fs::{self, File},
    net::TcpStream,
    process::{Child, Stdio},
    time::Duration,
};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// The server.
#[derive(Debug)]
pub struct Influxd {
    ns: Netns,
    dir: Scratch,
    port: u16,
    child: Option<Child>,
}

impl Influxd {
    /// Starts it, and waits until it answers.
    pub fn start(ns: &Netns) -> anyhow::Result<Influxd> {
        let (port, rpc) = ns.run(|| anyhow::Ok((free_port()?, free_port()?)))??;
        let dir = Scratch::new("influx")?;
        let path = dir.path().display();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = \"{path}/meta\"\n\
             [data]\ndir = \"{path}/data\"\nwal-dir = \"{path}/wal\"\n[monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n"
        );
        fs::write(dir.path().join("influxdb.conf"), config)?;
        let mut server = Influxd {
            ns: Netns::existing(ns.name())?,
            dir,
            port,
            child: None,
        };
        server.run()?;
        Ok(server)
    }

    /// As `history.influx.address` has it.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it (again).
    pub fn run(&mut self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))?;
        let mut command = self.ns.command("influxd");
        command.arg("-config").arg(self.dir.path().join("influxdb.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().context("start influxd")?);
        let port = self.port;
        let answers = || {
            self.ns
                .run(move || TcpStream::connect(("127.0.0.1", port)).is_ok())
                .unwrap_or(false)
        };
        let ready = clock::poll(READY_WITHIN, || answers().then_some(()));
        ready.with_context(|| format!("influxd does not answer on port {port}"))
    }

    /// As kill -9 does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Influxd {
    fn drop(&mut self) {
        self.kill();
    }
}
