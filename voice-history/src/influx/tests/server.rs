//! A real influxd on loopback ports and directories of its own; killed on drop.

use super::wait_until;
use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

pub(super) struct Server {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    pub(super) fn start() -> Server {
        let (port, rpc) = two_ports();
        let dir = TempDir::new().unwrap();
        let path = dir.path().display();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = \"{path}/meta\"\n\
             [data]\ndir = \"{path}/data\"\nwal-dir = \"{path}/wal\"\n[monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n"
        );
        fs::write(dir.path().join("influxdb.conf"), config).unwrap();
        let mut server = Server {
            dir,
            port,
            child: None,
        };
        server.run();
        server
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Starts it (again), and waits until it answers.
    pub(super) fn run(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let child = Command::new("influxd")
            .arg("-config")
            .arg(self.dir.path().join("influxdb.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("influxd is installed by `cargo xtask test`, from Debian's package influxdb");
        self.child = Some(child);
        let port = self.port;
        wait_until("influxd answers", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }

    /// As kill -9 does.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn two_ports() -> (u16, u16) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [a, b] = listeners.map(|l| l.local_addr().unwrap().port());
    (a, b)
}
