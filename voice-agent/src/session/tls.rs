//! TLS of the session listener: its certificate, the authority that peers' certificates must come from, the handshake, and new
//! files taken up while it runs. What a peer's certificate lets it be is in `identity`.

use crate::{
    config::{SessionTls, read_file, read_secret},
    session::identity::{self, Identity},
    telemetry::Counter,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// A handshake takes milliseconds; who needs longer keeps a place that others want.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How often the files are looked at. Whoever renews certificates does it hours before the old one ends.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is wrong with the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct TlsError {
    /// The key to blame.
    pub key: &'static str,
    /// In words, with the file.
    pub problem: String,
}

/// The listener's TLS. Cheap to clone; all clones take up new files together.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: SessionTls,
    current: RwLock<Arc<Loaded>>,
}

#[derive(Debug)]
struct Loaded {
    /// Of cert, key and authority, as they were read.
    texts: [Vec<u8>; 3],
    server: Arc<ServerConfig>,
    ends: SystemTime,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The key whose file cannot be read or is not what it should be.
    pub fn load(files: &SessionTls) -> Result<Tls, TlsError> {
        Ok(Tls(Arc::new(Inner {
            current: RwLock::new(Arc::new(load(files, read(files)?)?)),
            files: files.clone(),
        })))
    }

    /// Whether the files can be used.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn check(files: &SessionTls) -> Result<(), TlsError> {
        Tls::load(files).map(drop)
    }

    /// When the listener's own certificate ends.
    pub fn certificate_ends(&self) -> SystemTime {
        self.current().ends
    }

    /// Reads the files again. Streams that are open stay as they are; whoever connects from now on meets the new ones.
    ///
    /// # Errors
    /// As [`Tls::load`]; then the old ones stay.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let texts = read(&self.0.files)?;
        if texts == self.current().texts {
            return Ok(false);
        }
        let loaded = Arc::new(load(&self.0.files, texts)?);
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(true)
    }

    /// The handshake, and who the peer's certificate says it is: an error in words for a certificate that names no peer.
    /// `None`: it failed, and is counted.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Option<(TlsStream<TcpStream>, Result<Identity, String>)> {
        let from = stream.peer_addr();
        let acceptor = TlsAcceptor::from(self.current().server.clone());
        let refused = |why: &dyn std::fmt::Display| {
            Counter::SessionTlsRefused.count();
            tracing::debug!(?from, "TLS handshake: {why}");
        };
        match timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let identity = match certificates.first() {
                    Some(certificate) => identity::of(certificate),
                    None => Err("it showed no certificate".to_owned()),
                };
                Some((stream, identity))
            }
            Ok(Err(error)) => {
                refused(&error);
                None
            }
            Err(_) => {
                refused(&"not done within 5 s");
                None
            }
        }
    }

    /// Takes up new files as they come, until `stop`. Files that cannot be used are told once, and counted each time.
    pub(super) async fn keep_fresh(self, stop: CancellationToken) {
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        while stop.run_until_cancelled(every.tick()).await.is_some() {
            match self.refresh() {
                Ok(false) => told = None,
                Ok(true) => {
                    let ends = humantime::format_rfc3339_seconds(self.certificate_ends());
                    tracing::info!(%ends, "new certificate files are in force for who connects from now on");
                    told = None;
                }
                Err(error) => {
                    Counter::SessionTlsFiles.count();
                    if told.as_ref() != Some(&error) {
                        tracing::error!(%error, "the certificates that were read before stay in force");
                        told = Some(error);
                    }
                }
            }
        }
    }

    fn current(&self) -> Arc<Loaded> {
        self.0
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

const CERT: &str = "session.tls_cert";
const KEY: &str = "session.tls_key";
const CA: &str = "session.tls_client_ca";

fn read(files: &SessionTls) -> Result<[Vec<u8>; 3], TlsError> {
    Ok([
        read_file(&files.cert).map_err(|error| wrong(CERT, &files.cert, &error))?,
        read_secret(&files.key).map_err(|error| wrong(KEY, &files.key, &error))?,
        read_file(&files.client_ca).map_err(|error| wrong(CA, &files.client_ca, &error))?,
    ])
}

fn load(files: &SessionTls, texts: [Vec<u8>; 3]) -> Result<Loaded, TlsError> {
    let [cert, key, ca] = &texts;
    let chain = certificates(CERT, &files.cert, cert)?;
    let ends = identity::ends(&chain[0]).map_err(|error| wrong(CERT, &files.cert, &error))?;
    // The error of the parser may quote what it read.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| wrong(KEY, &files.key, &"holds no private key (PEM)"))?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(CA, &files.client_ca, ca)? {
        roots
            .add(authority)
            .map_err(|error| wrong(CA, &files.client_ca, &error))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| wrong(CA, &files.client_ca, &error))?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(CERT, &files.cert, &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| wrong(KEY, &files.key, &error))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Loaded {
        texts,
        server: Arc::new(server),
        ends,
    })
}

/// At least one.
fn certificates(
    key: &'static str,
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(wrong(key, path, &"holds no certificate (PEM)")),
        Err(error) => Err(wrong(key, path, &error)),
    }
}

fn wrong(key: &'static str, path: &Path, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError {
        key,
        problem: format!("{}: {problem}", path.display()),
    }
}
