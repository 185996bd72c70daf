//! The address of the metrics: free for an agent that is to start, and answered by the agent that lives and by nobody else.

use super::Finding;
use crate::config::Config;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

const CHECK: &str = "metrics listener";
const PATIENCE: Duration = Duration::from_secs(2);
/// Of an answer; ours is a line.
const ANSWER: u64 = 4096;
/// What our page of liveness says, alive or not.
const OURS: &str = "the driver's last tick was";

pub(super) async fn check(config: &Config, alive: bool) -> Finding {
    let Some(address) = config.metrics.listen else {
        return Finding::info(CHECK, "off (metrics.listen): nobody can watch this agent");
    };
    if alive {
        live(address, asked(address).await)
    } else {
        free(address, TcpListener::bind(address).await.map(drop))
    }
}

/// Of an agent that is to start. It would run without metrics, and try again.
fn free(address: SocketAddr, bound: io::Result<()>) -> Finding {
    match bound {
        Ok(()) => Finding::ok(CHECK, format!("{address} is free for the agent")),
        Err(e) => Finding::warn(
            CHECK,
            format!("{address} cannot be listened on: {e}"),
            "stop who has it (`ss -ltnp`), or set metrics.listen to another address of this host; until then the agent works unwatched",
        ),
    }
}

/// Of an agent that lives, by what its page of liveness says.
fn live(address: SocketAddr, answer: io::Result<String>) -> Finding {
    let advice = "stop who has it (`ss -ltnp`), or set metrics.listen to another address; the agent tries again each second";
    match answer {
        Ok(said) if said.contains(OURS) => Finding::ok(CHECK, format!("{address} answers")),
        Ok(_) => Finding::warn(
            CHECK,
            format!("{address} is somebody else's: what answers there is no voice-agent"),
            advice,
        ),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Finding::warn(
            CHECK,
            format!("{address} does not answer: {e}"),
            "see the agent's log; is metrics.listen what it was started with?",
        ),
        Err(e) => Finding::warn(
            CHECK,
            format!("{address} does not answer as ours does: {e}"),
            advice,
        ),
    }
}

async fn asked(address: SocketAddr) -> io::Result<String> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let exchange = async {
        let mut stream = TcpStream::connect((ip, address.port())).await?;
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: doctor\r\nConnection: close\r\n\r\n")
            .await?;
        let mut said = Vec::new();
        stream.take(ANSWER).read_to_end(&mut said).await?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    };
    timeout(PATIENCE, exchange).await.map_err(io::Error::from)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[tokio::test]
    async fn an_address_that_somebody_else_has_warns_before_the_start_and_on_a_live_agent() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let found = free(address, TcpListener::bind(address).await.map(drop));
        assert_eq!(found.level, Level::Warn);
        assert!(found.said.contains(&address.to_string()), "{}", found.said);
        let other = tokio::spawn(async move {
            let (mut stream, _) = taken.accept().await.unwrap();
            // Reads what it is asked: a connection closed before that is reset, and its answer lost.
            let mut question = [0; 4096];
            assert!(stream.read(&mut question).await.unwrap() > 0);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nanother's page")
                .await
                .unwrap();
        });
        let found = live(address, asked(address).await);
        other.await.unwrap();
        assert_eq!(found.level, Level::Warn);
        assert!(found.said.contains("somebody else's"), "{}", found.said);
        assert_eq!(
            live(address, asked(address).await).level,
            Level::Warn,
            "nobody answers now"
        );
        assert_eq!(
            free(address, TcpListener::bind(address).await.map(drop)).level,
            Level::Ok
        );
    }

    #[test]
    fn our_page_is_known_whether_it_says_alive_or_not() {
        let address = "127.0.0.1:7402".parse().unwrap();
        for page in [
            "alive: the driver's last tick was 3 ms ago",
            "not alive: the driver's last tick was 9000 ms ago",
        ] {
            assert_eq!(live(address, Ok(page.into())).level, Level::Ok, "{page}");
        }
    }
}
