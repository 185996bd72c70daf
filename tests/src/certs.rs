//! Certificates for tests of TLS: a small authority of our own, made with the openssl command in a scratch directory.

use crate::bpffs::Scratch;
use anyhow::{Context, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// An authority. Its files go with it.
#[derive(Debug)]
pub struct Certs(Scratch);

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key; only its owner may read it.
    pub key: PathBuf,
}

impl Certs {
    /// Makes an authority.
    pub fn new() -> anyhow::Result<Certs> {
        let certs = Certs(Scratch::new("certs")?);
        certs.openssl(&format!(
            "req -x509 {NEW_KEY} -keyout ca.key -out ca.crt -subj /CN=voice-agent-test -days 2"
        ))?;
        Ok(certs)
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.crt")
    }

    /// Issues one for 127.0.0.1 and localhost. With `days` of -1 it ended yesterday.
    pub fn issue(&self, name: &str, days: i32) -> anyhow::Result<Issued> {
        self.issue_as(name, days, "IP:127.0.0.1,DNS:localhost")
    }

    /// Issues one with these alternative names, as openssl writes them: `URI:spiffe://test/voice-agent/gateway`.
    pub fn issue_as(&self, name: &str, days: i32, names: &str) -> anyhow::Result<Issued> {
        std::fs::write(self.path("names"), format!("subjectAltName={names}\n"))?;
        self.openssl(&format!(
            "req {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ))?;
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days {days} -extfile names -out {name}.crt"
        ))?;
        let (cert, key) = (
            self.path(&format!("{name}.crt")),
            self.path(&format!("{name}.key")),
        );
        Ok(Issued { cert, key })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn openssl(&self, arguments: &str) -> anyhow::Result<()> {
        let mut command = Command::new("openssl");
        command
            .args(arguments.split(' '))
            .current_dir(Path::new(self.0.path()));
        let out = command.output().context("run openssl")?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "openssl {arguments}: {said}");
        Ok(())
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
