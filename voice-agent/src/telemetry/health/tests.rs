use super::*;
use crate::driver::now;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus as Status, health_client::HealthClient,
};
use voice_room::Mono;

/// What the listener says of a service.
async fn ask(address: SocketAddr, service: &str) -> Result<Status, tonic::Code> {
    let endpoint = tonic::transport::Endpoint::try_from(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    let service = service.to_owned();
    let answer = client.check(HealthCheckRequest { service }).await;
    answer.map(|a| a.into_inner().status()).map_err(|e| e.code())
}

/// Asks until the answer is this one.
async fn wait(address: SocketAddr, service: &str, wanted: Status) {
    let asked = async {
        while ask(address, service).await != Ok(wanted) {
            sleep(EVERY / 5).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(5), asked).await;
    assert!(told.is_ok(), "{service:?} is not {wanted:?}");
}

#[tokio::test]
async fn liveness_follows_the_ticks_and_readiness_the_life_of_the_agent() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (vitals, stop) = (Vitals::new().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(serve(address, vitals.clone(), stop.clone()));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        sleep(EVERY / 5).await;
    }
    wait(address, "liveness", Status::Serving).await;
    wait(address, "readiness", Status::NotServing).await;
    vitals.ticked(now().mono);
    wait(address, "readiness", Status::Serving).await;
    wait(address, "", Status::Serving).await;
    vitals.ticked(Mono(0));
    wait(address, "liveness", Status::NotServing).await;
    wait(address, "readiness", Status::NotServing).await;
    assert_eq!(ask(address, "admission").await, Err(tonic::Code::NotFound));
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn an_address_that_another_program_has_is_waited_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, stop) = (taken.local_addr().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(serve(address, Vitals::new().unwrap(), stop.clone()));
    sleep(EVERY).await;
    drop(taken);
    let open = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            sleep(EVERY).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), open).await.is_ok());
    stop.cancel();
    serving.await.unwrap();
}
