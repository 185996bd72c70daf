//! The gRPC health service on a listener of its own, which serves nothing else: for probes of Kubernetes, which come from
//! the node and know no TLS. What it tells is what /livez and /readyz tell.

use crate::driver::Vitals;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::{
    ServingStatus::{NotServing, Serving},
    server::{HealthReporter, health_reporter},
};

/// How often what is told is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// The wait after a listener that cannot be had.
const RETRY: Duration = Duration::from_secs(1);

/// Serves until `shutdown`. While the address cannot be had, tries again: a probe that fails meanwhile is right, and the log
/// says why.
pub async fn serve(address: SocketAddr, vitals: Vitals, shutdown: CancellationToken) {
    let serve = async {
        loop {
            let (reporter, service) = health_reporter();
            let served = async {
                let listener = TcpListener::bind(address).await.map_err(|e| e.to_string())?;
                let server = Server::builder()
                    .add_service(service)
                    .serve_with_incoming(TcpListenerStream::new(listener));
                server.await.map_err(|e| e.to_string())
            };
            tokio::select! {
                ended = served => {
                    let problem = ended.err().unwrap_or_default();
                    tracing::error!(%address, problem, "cannot serve health.listen; trying again");
                }
                () = report(&reporter, &vitals) => {}
            }
            sleep(RETRY).await;
        }
    };
    shutdown.run_until_cancelled(serve).await;
}

/// The services of grpc.health.v1: `liveness`; `readiness` and, the same, the empty name.
async fn report(reporter: &HealthReporter, vitals: &Vitals) {
    let mut look = interval(EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let status = |good| if good { Serving } else { NotServing };
        for (name, good) in [
            ("liveness", vitals.is_alive()),
            ("readiness", vitals.is_ready()),
            ("", vitals.is_ready()),
        ] {
            reporter.set_service_status(name, status(good)).await;
        }
    }
}

#[cfg(test)]
mod tests;
