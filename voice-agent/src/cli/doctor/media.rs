//! Where rooms come from: the Janus on this host, or connected media servers; and the listener peers connect to.

use super::{Finding, Known};
use crate::{
    config::{Config, JanusConfig, LivekitConfig},
    media::{
        janus::{
            admin::{Admin, AdminError},
            counters::Counters,
        },
        livekit::{Api, Credentials},
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(2);
/// JANUS_ERROR_UNAUTHORIZED
const UNAUTHORIZED: i64 = 403;

pub(super) async fn check(config: &Config, known: &Known) -> Vec<Finding> {
    let alive = known.agent.is_some();
    let listen = config.session.listen;
    let mut found = vec![listener(
        "session listener",
        "session.listen",
        listen,
        alive,
        reach(listen, alive).await,
    )];
    match &config.janus {
        Some(janus) => {
            found.push(admin(janus, ask(janus).await));
            let listen = janus.events_listen;
            let reached = reach(listen, alive).await;
            found.push(listener(
                "janus events",
                "janus.events_listen",
                listen,
                alive,
                reached,
            ));
        }
        None if config.livekit.is_some() => {}
        None if alive => found.push(peers(&known.peers)),
        None => found.push(Finding::info(
            "media source",
            "no Janus and no LiveKit configured: media servers have to connect",
        )),
    }
    if let Some(livekit) = &config.livekit {
        found.push(api(livekit, ask_livekit(livekit).await));
        let listen = livekit.webhook_listen;
        let reached = reach(listen, alive).await;
        found.push(listener(
            "livekit webhooks",
            "livekit.webhook_listen",
            listen,
            alive,
            reached,
        ));
    }
    found
}

/// Why LiveKit's server API does not answer.
async fn ask_livekit(livekit: &LivekitConfig) -> Result<(), String> {
    let credentials = Credentials::read(&livekit.api_key, &livekit.api_secret_file)?;
    let mut api = Api::new(livekit.api, Arc::new(credentials));
    api.probe().await.map_err(|error| error.to_string())
}

fn api(livekit: &LivekitConfig, answered: Result<(), String>) -> Finding {
    let check = "livekit api";
    match answered {
        Ok(()) => Finding::ok(check, format!("{} answers, the key is right", livekit.api)),
        Err(problem) => {
            let advice = "start LiveKit; set livekit.api to its `port`, and livekit.api_key and livekit.api_secret_file to one of its `keys`";
            Finding::fail(check, problem, advice)
        }
    }
}

async fn ask(janus: &JanusConfig) -> Result<(), AdminError> {
    Admin::new(janus, Arc::new(Counters::default())).probe().await
}

/// The agent alive: somebody answers. Dead: the address is free.
async fn reach(address: SocketAddr, alive: bool) -> io::Result<()> {
    if !alive {
        return TcpListener::bind(address).await.map(drop);
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let connecting = TcpStream::connect((ip, address.port()));
    timeout(PATIENCE, connecting)
        .await
        .map_err(io::Error::from)?
        .map(drop)
}

fn listener(check: &str, key: &str, address: SocketAddr, alive: bool, reached: io::Result<()>) -> Finding {
    match (reached, alive) {
        (Ok(()), true) => Finding::ok(check, format!("{address} answers")),
        (Ok(()), false) => Finding::ok(check, format!("{address} is free for the agent")),
        (Err(e), true) => {
            let advice = format!("see the agent's log; is {key} what it was started with?");
            Finding::fail(check, format!("{address} does not answer: {e}"), advice)
        }
        (Err(e), false) => {
            let advice =
                format!("stop who has it (`ss -ltnp`), or set {key} to another address of this host");
            Finding::fail(check, format!("{address} cannot be listened on: {e}"), advice)
        }
    }
}

fn admin(janus: &JanusConfig, answered: Result<(), AdminError>) -> Finding {
    let check = "janus admin";
    match answered {
        Ok(()) => Finding::ok(
            check,
            format!("{} answers, the secret is right", janus.admin_socket.display()),
        ),
        Err(
            e @ AdminError::Refused {
                code: UNAUTHORIZED, ..
            },
        ) => {
            let advice = "set janus.admin_secret to admin_secret of janus.jcfg";
            Finding::fail(check, format!("the secret is wrong: {e}"), advice)
        }
        Err(e @ AdminError::Connect { .. }) => {
            let advice = "start Janus; in janus.transport.pfunix.jcfg set admin_enabled, admin_path and admin_type = \"SOCK_SEQPACKET\", \
                          and let the agent's user write to the socket";
            Finding::fail(check, e.to_string(), advice)
        }
        Err(e) => Finding::fail(
            check,
            e.to_string(),
            "see the log of Janus; restart it if it hangs",
        ),
    }
}

fn peers(roles: &[String]) -> Finding {
    let check = "media source";
    let media = roles.iter().filter(|role| *role == "media").count();
    if media > 0 {
        return Finding::ok(
            check,
            format!(
                "{media} media servers are connected, {} peers in all",
                roles.len()
            ),
        );
    }
    let said = format!(
        "no media server is connected ({} peers in all), and no Janus is configured",
        roles.len()
    );
    let advice =
        "connect one to session.listen, or set janus.admin_socket; without it no room has ports to cut";
    Finding::warn(check, said, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::doctor::Level, config::Secret};

    fn janus() -> JanusConfig {
        JanusConfig {
            admin_socket: "/nowhere/janus.sock".into(),
            admin_secret: Secret("x".into()),
            events_listen: "127.0.0.1:0".parse().unwrap(),
        }
    }

    #[test]
    fn a_wrong_secret_says_which_key_to_set() {
        let refused = AdminError::Refused {
            question: "list_sessions",
            code: UNAUTHORIZED,
            reason: "Unauthorized".into(),
        };
        let found = admin(&janus(), Err(refused));
        assert_eq!(found.level, Level::Fail);
        assert!(found.advice.unwrap().contains("janus.admin_secret"));
        assert_eq!(admin(&janus(), Ok(())).level, Level::Ok);
    }

    #[tokio::test]
    async fn a_janus_that_is_not_there_fails_with_its_socket() {
        let found = admin(&janus(), ask(&janus()).await);
        assert_eq!(found.level, Level::Fail);
        assert!(found.said.contains("/nowhere/janus.sock"), "{}", found.said);
    }

    #[tokio::test]
    async fn the_address_of_a_live_agent_has_to_answer_and_that_of_a_dead_one_to_be_free() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        reach(address, true).await.unwrap();
        reach(address, false).await.unwrap_err();
        drop(taken);
        reach(address, true).await.unwrap_err();
        reach(address, false).await.unwrap();
    }

    #[test]
    fn gateways_alone_are_no_media_source() {
        assert_eq!(peers(&["gateway".into()]).level, Level::Warn);
        assert_eq!(peers(&["gateway".into(), "media".into()]).level, Level::Ok);
    }
}
