//! Takes spans to an OTLP receiver over gRPC, in batches, on a task of its own. What the receiver does not take in time is
//! dropped and counted; it is never tried again, so that one that hangs holds nothing up.

use crate::{
    config::{TracesConfig, read_authorities, read_file},
    telemetry::Counter,
};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter},
};
use std::{io, path::Path, time::Duration};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    metadata::{MetadataKey, MetadataMap},
    transport::{Certificate, ClientTlsConfig},
};
use voice_room::NodeName;

/// Spans in one message.
const BATCH: usize = 512;
/// Spans are gathered for so long.
const GATHER: Duration = Duration::from_millis(500);
/// A receiver that takes longer has not taken them.
const WITHIN: Duration = Duration::from_secs(5);
/// What waits at the end has so long to leave.
const AT_THE_END: Duration = Duration::from_secs(1);

/// Why spans cannot be sent anywhere.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// A file that is configured cannot be used.
    #[error("{key} = {path:?}: {problem}")]
    File {
        /// Which.
        key: &'static str,
        /// As configured.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The client cannot be made.
    #[error("traces.endpoint = {endpoint:?}: {problem}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The way to the receiver.
#[derive(Debug)]
pub struct Exporter {
    otlp: Otlp,
    spans: mpsc::Receiver<SpanData>,
    failing: bool,
}

impl Exporter {
    /// Prepares it; connects when there is something to send.
    ///
    /// # Errors
    /// Files that cannot be read or are not what they should be.
    pub fn new(
        config: &TracesConfig,
        endpoint: &str,
        node: &NodeName,
        spans: mpsc::Receiver<SpanData>,
    ) -> Result<Exporter, TracesError> {
        let mut builder = Otlp::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(WITHIN);
        if let Some(file) = &config.headers_file {
            let text = read("traces.headers_file", file)?;
            let headers = headers(&text).map_err(|problem| TracesError::File {
                key: "traces.headers_file",
                path: file.display().to_string(),
                problem,
            })?;
            builder = builder.with_metadata(headers);
        }
        if endpoint.starts_with("https:") {
            let mut tls = ClientTlsConfig::new();
            if let Some(file) = &config.ca_file {
                tls = tls.ca_certificate(authority(file)?);
            }
            builder = builder.with_tls_config(tls);
        }
        let mut otlp = builder.build().map_err(|e| TracesError::Endpoint {
            endpoint: endpoint.into(),
            problem: e.to_string(),
        })?;
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", "voice-agent"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.to_string()),
            KeyValue::new("host.name", node.to_string()),
        ]);
        otlp.set_resource(&resource.build());
        Ok(Exporter {
            otlp,
            spans,
            failing: false,
        })
    }

    /// Sends what comes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let ended = stop.run_until_cancelled(self.on_and_on()).await;
        if ended.is_none() {
            // What is waiting now; nobody ends anything any more.
            let mut last = Vec::new();
            while let Ok(span) = self.spans.try_recv() {
                last.push(span);
            }
            if !last.is_empty() {
                self.send(last, AT_THE_END).await;
            }
        }
    }

    async fn on_and_on(&mut self) {
        loop {
            let mut batch = Vec::new();
            if self.spans.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            if batch.len() < BATCH {
                sleep(GATHER).await;
                while batch.len() < BATCH
                    && let Ok(span) = self.spans.try_recv()
                {
                    batch.push(span);
                }
            }
            self.send(batch, WITHIN).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>, within: Duration) {
        let spans = batch.len();
        let problem = match timeout(within, self.otlp.export(batch)).await {
            Ok(Ok(())) => {
                Counter::SpansSent.add(spans);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("spans are sent again");
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {within:?}"),
        };
        Counter::SpansDropped.add(spans);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                problem,
                "spans are not taken by traces.endpoint; they are dropped and counted"
            );
        }
    }
}

/// Who may have signed the receiver's certificate.
fn authority(file: &Path) -> Result<Certificate, TracesError> {
    let pem = read_authorities(file).map_err(|e| unusable("traces.ca_file", file, &e))?;
    Ok(Certificate::from_pem(pem))
}

fn read(key: &'static str, file: &Path) -> Result<String, TracesError> {
    let text = read_file(file).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    text.map_err(|e| unusable(key, file, &e))
}

fn unusable(key: &'static str, file: &Path, error: &io::Error) -> TracesError {
    TracesError::File {
        key,
        path: file.display().to_string(),
        problem: error.to_string(),
    }
}

/// A header a line: `authorization: Bearer SECRET`. What is wrong is told by the line's number, as it may hold a secret.
pub(super) fn headers(text: &str) -> Result<MetadataMap, String> {
    let mut headers = MetadataMap::new();
    for (n, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let wrong = || {
            format!(
                "line {} is not a header: allowed is NAME: VALUE in visible ASCII",
                n + 1
            )
        };
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = name.trim().to_ascii_lowercase();
        let name = MetadataKey::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let value = Some(value.trim())
            .filter(|value| value.is_ascii())
            .ok_or_else(wrong)?;
        headers.insert(name, value.parse().map_err(|_| wrong())?);
    }
    Ok(headers)
}
