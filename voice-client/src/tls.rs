//! TLS to the agent: whom the peer trusts and how it shows who it is. Which name a certificate has to have is in docs/PROTOCOL.md.

use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// A longer file is no certificate and no key.
const MAX_FILE: u64 = 1 << 20;

/// The files, in PEM. They are read for every connection, so that renewed ones are taken up by the next.
#[derive(Debug, Clone)]
pub struct Tls {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    server_name: Option<String>,
}

impl Tls {
    /// `ca`: the authorities that agents' certificates come from. `cert`: this peer's certificate and those between it and
    /// its authority. `key`: its private key.
    pub fn new(ca: impl Into<PathBuf>, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        Tls {
            ca: ca.into(),
            cert: cert.into(),
            key: key.into(),
            server_name: None,
        }
    }

    /// The name that the agent's certificate has to have. Default: the host of the endpoint.
    pub fn server_name(mut self, name: impl Into<String>) -> Tls {
        self.server_name = Some(name.into());
        self
    }

    /// # Errors
    /// A file that cannot be read, by name. What is in them is looked at when connecting.
    pub(crate) fn read(&self) -> Result<ClientTlsConfig, String> {
        let identity = Identity::from_pem(read(&self.cert)?, read(&self.key)?);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&self.ca)?))
            .identity(identity);
        Ok(match &self.server_name {
            Some(name) => tls.domain_name(name),
            None => tls,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = fs::metadata(path).and_then(|file| match file.len() {
        0..=MAX_FILE => fs::read(path),
        _ => Err(io::Error::other(format!("longer than {MAX_FILE} bytes"))),
    });
    bytes.map_err(|error| format!("{}: {error}", path.display()))
}
