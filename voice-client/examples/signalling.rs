//! A signalling server: announces a room, and has a say in what becomes of it. With `--veto` it agrees to nothing.
//!
//! `cargo run --example signalling -- --agent http://127.0.0.1:7400 --id sig-1 --room r-1`

use clap::Parser;
use std::error::Error;
use voice_client::{
    Event, Handle, Peer, RequestError, Role,
    proto::v1::{EventType, RoomEvent},
};
use voice_room::RoomId;

#[derive(Parser)]
struct Args {
    /// Where the agent listens
    #[arg(long, default_value = "http://127.0.0.1:7400")]
    agent: String,
    /// This process' name, the same after a restart
    #[arg(long)]
    id: String,
    /// The room to announce
    #[arg(long)]
    room: RoomId,
    /// The host, if the room is to go live
    #[arg(long, requires = "token")]
    host: Option<String>,
    /// The host's device token
    #[arg(long)]
    token: Option<String>,
    /// Refuse every change that others ask for
    #[arg(long)]
    veto: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let mut peer = Peer::builder(Role::Signalling, &args.id)
        .endpoint(&args.agent)
        .software("example-signalling", "1")
        .decides()
        .start()?;
    let agent = peer.handle();
    let mut announced = false;
    loop {
        tokio::select! {
            event = peer.next() => match event {
                Some(Event::Connected(up)) => {
                    println!("connected to {} (protocol {})", up.node, up.protocol_version);
                    if !announced {
                        announced = announce(&agent, &args).await;
                    }
                }
                Some(Event::Prepare(prepare)) => {
                    let what = prepare.proposal();
                    println!("prepare {}: {} -> {}, agreed: {}", what.room, what.event, what.state, !args.veto);
                    if args.veto {
                        prepare.refuse("this signalling server was started with --veto");
                    } else {
                        prepare.agree();
                    }
                }
                Some(Event::Changed(update)) => println!("changed {}: {}", update.room, update.state),
                Some(Event::RolledBack { room, reason, .. }) => println!("rolled back {room}: {reason}"),
                Some(Event::Expired(expired)) => println!("expired {}: {}", expired.room, expired.reason),
                Some(Event::Disconnected(end)) => println!("disconnected: {}", end.why),
                Some(other) => println!("{other:?}"),
                None => return Err("the peer has ended".into()),
            },
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// Announces the room and, with a host, takes it live. Each is applied once, however often the stream breaks meanwhile.
async fn announce(agent: &Handle, args: &Args) -> bool {
    let mut steps = vec![EventType::Create];
    steps.extend(args.host.as_ref().map(|_| EventType::StartLive));
    for step in steps {
        let event = RoomEvent {
            room: args.room.to_string(),
            event: step.into(),
            host: args.host.clone().filter(|_| step == EventType::StartLive),
            token: args.token.clone().filter(|_| step == EventType::StartLive),
            ..Default::default()
        };
        match agent.room_event(event).await {
            Ok(accepted) => println!(
                "{} {}: version {}",
                step.as_str_name(),
                args.room,
                accepted.version
            ),
            // Somebody announced it before us, or it is live already.
            Err(RequestError::Refused { code, .. }) if code == "not_in_table" => {}
            Err(error) => {
                println!("{} {}: {error}", step.as_str_name(), args.room);
                return false;
            }
        }
    }
    true
}
