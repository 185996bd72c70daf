//! A media server: says every heartbeat which rooms it serves, on which ports. Those that nobody owns go live by that. A room that
//! was tripped is served no more.
//!
//! `cargo run --example media -- --agent http://127.0.0.1:7400 --id sfu-1 --room r-1:50000,50002`

use clap::Parser;
use std::{
    error::Error,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use voice_client::{
    Event, Peer, Role,
    proto::v1::{MediaHeartbeat, ServedRoom},
};

#[derive(Parser)]
struct Args {
    /// Where the agent listens
    #[arg(long, default_value = "http://127.0.0.1:7400")]
    agent: String,
    /// This process' name, the same after a restart
    #[arg(long)]
    id: String,
    /// Rooms it serves, each with its local UDP ports: ROOM:PORT,PORT
    #[arg(long)]
    room: Vec<Served>,
    /// The agent's rooms.heartbeat, in milliseconds
    #[arg(long, default_value_t = 5000)]
    heartbeat_ms: u64,
}

/// What another part of a media server keeps up to date.
type Rooms = Arc<Mutex<Vec<Served>>>;

#[derive(Clone)]
struct Served(ServedRoom);

impl FromStr for Served {
    type Err = String;

    fn from_str(text: &str) -> Result<Served, String> {
        let (room, ports) = text.split_once(':').ok_or("expected ROOM:PORT,PORT")?;
        let ports: Result<Vec<u32>, _> = ports.split(',').map(str::parse).collect();
        Ok(Served(ServedRoom {
            room: room.to_owned(),
            ports: ports.map_err(|e| format!("{text}: {e}"))?,
            participants: 1,
            ..Default::default()
        }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let rooms: Rooms = Arc::new(Mutex::new(args.room));
    let served = rooms.clone();
    let mut peer = Peer::builder(Role::Media, &args.id)
        .endpoint(&args.agent)
        .software("example-media", "1")
        .heartbeat_every(Duration::from_millis(args.heartbeat_ms))
        .heartbeat(move || listing(&served))
        .start()?;
    loop {
        tokio::select! {
            event = peer.next() => match event {
                Some(Event::Connected(up)) => println!("connected to {} (protocol {})", up.node, up.protocol_version),
                Some(Event::Expired(expired)) => {
                    println!("expired {}: {}", expired.room, expired.reason);
                    let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
                    rooms.retain(|served| served.0.room != expired.room.as_str());
                }
                Some(Event::Refused { code, message }) => println!("refused ({code}): {message}"),
                Some(Event::Changed(update)) => println!("changed {}: {}", update.room, update.state),
                Some(Event::Disconnected(end)) => println!("disconnected: {}", end.why),
                Some(other) => println!("{other:?}"),
                None => return Err("the peer has ended".into()),
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// A copy of what is served: this is called on the peer's own task, which must not wait.
fn listing(rooms: &Rooms) -> MediaHeartbeat {
    let rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
    MediaHeartbeat {
        rooms: rooms.iter().map(|served| served.0.clone()).collect(),
        capacity: None,
    }
}
