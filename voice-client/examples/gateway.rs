//! A gateway: asks before it lets a client in, keeps its clients known to the agent, and throws them out when their room is tripped.
//!
//! `cargo run --example gateway -- --agent http://127.0.0.1:7400 --id gw-1 --room r-1 --client alice`

use clap::Parser;
use std::{collections::BTreeSet, error::Error, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use voice_client::{
    Event, Handle, Peer, Role,
    proto::v1::{ClientEvent, ClientEventKind},
};
use voice_room::RoomId;

/// A client that is silent for 30 s counts as gone.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

#[derive(Parser)]
struct Args {
    /// Where the agent listens
    #[arg(long, default_value = "http://127.0.0.1:7400")]
    agent: String,
    /// This process' name, the same after a restart
    #[arg(long)]
    id: String,
    /// Rooms its client wants to join
    #[arg(long)]
    room: Vec<RoomId>,
    /// The client
    #[arg(long, default_value = "alice")]
    client: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut peer = Peer::builder(Role::Gateway, &args.id)
        .endpoint(&args.agent)
        .software("example-gateway", "1")
        .start()?;
    let mut inside = BTreeSet::new();
    let mut tick = interval(KEEPALIVE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let agent = peer.handle();
    loop {
        tokio::select! {
            event = peer.next() => match event {
                // Clients knock as soon as there is an agent to ask.
                Some(Event::Connected(up)) => {
                    println!("connected to {} (protocol {})", up.node, up.protocol_version);
                    for room in &args.room {
                        knock(&agent, room, &args.client, &mut inside).await;
                    }
                }
                Some(Event::Expired(expired)) => {
                    let had = inside.remove(&expired.room);
                    println!("expired {}: {}; clients thrown out: {}", expired.room, expired.reason, usize::from(had));
                }
                Some(Event::Restored(update)) => println!("restored {}: {}", update.room, update.state),
                Some(Event::Changed(update)) => println!("changed {}: {}", update.room, update.state),
                Some(Event::Disconnected(end)) => println!("disconnected: {}", end.why),
                Some(other) => println!("{other:?}"),
                None => return Err("the peer has ended".into()),
            },
            _ = tick.tick() => for room in &inside {
                say(&agent, room, &args.client, ClientEventKind::Keepalive).await;
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// Lets the client in, if the agent allows it.
async fn knock(agent: &Handle, room: &RoomId, client: &str, inside: &mut BTreeSet<RoomId>) {
    let join = agent.may_join(room).await;
    if !join.allowed {
        let after = join.retry_after.as_secs();
        println!("refused {room}: {}; again in {after} s", join.reason);
        return;
    }
    if say(agent, room, client, ClientEventKind::Join).await {
        println!("joined {room}");
        inside.insert(room.clone());
    }
}

async fn say(agent: &Handle, room: &RoomId, client: &str, kind: ClientEventKind) -> bool {
    let event = ClientEvent {
        room: room.to_string(),
        client_id: client.to_owned(),
        kind: kind.into(),
        ..Default::default()
    };
    let answer = agent.client_event(event).await;
    if let Err(error) = &answer {
        println!("{} of {client} in {room}: {error}", kind.as_str_name());
    }
    answer.is_ok()
}
