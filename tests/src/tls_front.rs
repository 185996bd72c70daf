//! TLS in front of a server that has none: what comes over TLS goes on as it is, and back. For rotel, which takes traces without
//! TLS only.

use crate::{certs::Issued, netns::Netns};
use anyhow::Context;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{net::Ipv4Addr, sync::Arc};
use tokio::{io::copy_bidirectional, net::TcpListener, net::TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The front; it ends with this.
#[derive(Debug)]
pub struct TlsFront {
    port: u16,
    _ends: DropGuard,
}

impl TlsFront {
    /// Before the server on port `to` of 127.0.0.1 in `ns`, with this certificate; speaks HTTP/2.
    pub fn before(ns: &Netns, to: u16, issued: &Issued) -> anyhow::Result<TlsFront> {
        let acceptor = acceptor(issued)?;
        let listener = ns.run(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))??;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let ended = CancellationToken::new();
        let ends = ended.clone().drop_guard();
        drop(ns.spawn(move || runtime.block_on(ended.run_until_cancelled(serve(listener, acceptor, to)))));
        Ok(TlsFront { port, _ends: ends })
    }

    /// As `traces.endpoint` has it.
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

fn acceptor(issued: &Issued) -> anyhow::Result<TlsAcceptor> {
    let certs = CertificateDer::pem_file_iter(&issued.cert)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&issued.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .context("use the certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listener: std::net::TcpListener, acceptor: TlsAcceptor, to: u16) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not trust the certificate hangs up: that is its own to tell.
            let mut client = acceptor.accept(client).await?;
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
