//! A media server: binds the ports of its rooms, counts what arrives, mixes back, and lists its rooms every heartbeat.
//! Each of these can stop by itself, which is what being stuck means.

use super::{Connection, Identity};
use crate::{
    netns::{NODE_IP, Netns},
    rtp::{Endpoint, Task, lock, packet::Packet},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use voice_agent::proto::v1::{MediaHeartbeat, ServedRoom, peer_message::Message as ToAgent};
use voice_room::Mono;

/// What an audio mixer sends each participant.
const MIX_EVERY: Duration = Duration::from_millis(20);

/// A media server on the session stream.
#[derive(Debug)]
pub struct MediaServer {
    rooms: Arc<Mutex<Vec<Arc<MediaRoom>>>>,
    answering: Arc<AtomicBool>,
    // Dropped in this order: the task sends on the connection.
    _task: Task,
    connection: Arc<Connection>,
}

/// One room of it: listed in heartbeats and mixed until told otherwise.
#[derive(Debug)]
pub struct MediaRoom {
    /// The room id.
    pub name: String,
    ports: Vec<Endpoint>,
    listed: AtomicBool,
    mixed: AtomicBool,
    mix: Mutex<Packet>,
}

impl MediaServer {
    /// Connects from inside the agent's namespace and heartbeats from then on.
    pub fn start(ns: &Netns, id: &str, heartbeat: Duration) -> anyhow::Result<MediaServer> {
        let who = Identity {
            role: "media",
            id: id.to_owned(),
            rooms: Vec::new(),
        };
        let connection = Arc::new(Connection::open(ns, who)?);
        let rooms: Arc<Mutex<Vec<Arc<MediaRoom>>>> = Arc::default();
        let answering = Arc::new(AtomicBool::new(true));
        let (r, a, c) = (rooms.clone(), answering.clone(), connection.clone());
        let task = Task::start(move |stop| serve(&r, &a, &c, heartbeat, stop));
        Ok(MediaServer {
            rooms,
            answering,
            _task: task,
            connection,
        })
    }

    /// Opens a room with one participant on each of `ports`, which are bound in `ns`.
    pub fn open(&self, ns: &Netns, name: &str, ports: &[u16]) -> anyhow::Result<Arc<MediaRoom>> {
        let ip: IpAddr = NODE_IP.parse()?;
        let bound: anyhow::Result<Vec<Endpoint>> = ports
            .iter()
            .map(|port| Endpoint::bind(ns, SocketAddr::new(ip, *port)))
            .collect();
        let room = Arc::new(MediaRoom {
            name: name.to_owned(),
            ports: bound?,
            listed: AtomicBool::new(true),
            mixed: AtomicBool::new(true),
            mix: Mutex::new(Packet::first(0x4d49_5800)),
        });
        lock(&self.rooms).push(room.clone());
        Ok(room)
    }

    /// Stuck as a whole: no heartbeats, no mix, no answers. Its sockets and its stream stay open and arrivals are
    /// still counted.
    pub fn stop_answering(&self) {
        self.answering.store(false, Ordering::Relaxed);
        self.connection.set_mute(true);
        for room in lock(&self.rooms).iter() {
            room.set_mixed(false);
        }
    }

    /// Only the control path is lost: no heartbeats and no answers, but the mix goes on.
    pub fn lose_control(&self) {
        self.answering.store(false, Ordering::Relaxed);
        self.connection.set_mute(true);
    }

    /// Heartbeats and answers again.
    pub fn answer(&self) {
        self.connection.set_mute(false);
        self.answering.store(true, Ordering::Relaxed);
    }
}

impl MediaRoom {
    /// The server forgets the room: not listed, not mixed; the sockets stay and count.
    pub fn fail(&self) {
        self.set_listed(false);
        self.set_mixed(false);
    }

    /// Whether heartbeats list it.
    pub fn set_listed(&self, listed: bool) {
        self.listed.store(listed, Ordering::Relaxed);
    }

    /// Whether the mix is sent.
    pub fn set_mixed(&self, mixed: bool) {
        self.mixed.store(mixed, Ordering::Relaxed);
    }

    /// Where each participant's media goes.
    pub fn addrs(&self) -> anyhow::Result<Vec<SocketAddr>> {
        self.ports.iter().map(Endpoint::addr).collect()
    }

    /// Packets that arrived, in all.
    pub fn delivered(&self) -> u64 {
        self.ports.iter().map(Endpoint::count).sum()
    }

    /// Mixed packets that were sent, in all.
    pub fn mix_sent(&self) -> u64 {
        self.ports.iter().map(Endpoint::sent).sum()
    }

    /// Packets that arrived in `from..to` and were sent at `from` or later.
    pub fn delivered_within(&self, from: Mono, to: Mono) -> u64 {
        self.ports.iter().map(|p| p.count_within(from, to)).sum()
    }

    /// When the first packet arrived at `t` or later.
    pub fn first_from(&self, t: Mono) -> Option<Mono> {
        self.ports.iter().filter_map(|p| Some(p.first_from(t)?.at)).min()
    }

    fn served(&self) -> anyhow::Result<ServedRoom> {
        Ok(ServedRoom {
            room: self.name.clone(),
            ports: self.addrs()?.iter().map(|a| u32::from(a.port())).collect(),
            participants: u32::try_from(self.ports.len())?,
            host: None,
            ..Default::default()
        })
    }

    fn send_mix(&self) {
        if !self.mixed.load(Ordering::Relaxed) {
            return;
        }
        let mut mix = lock(&self.mix);
        for port in &self.ports {
            if let Some(to) = port.last_from() {
                port.send(to, *mix);
            }
        }
        *mix = mix.next();
    }
}

/// The server's own loop: the mix every 20 ms, the listing every heartbeat.
fn serve(
    rooms: &Mutex<Vec<Arc<MediaRoom>>>,
    answering: &AtomicBool,
    connection: &Connection,
    heartbeat: Duration,
    stop: &AtomicBool,
) {
    let mut beat = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(MIX_EVERY);
        let rooms = lock(rooms).clone();
        rooms.iter().for_each(|r| r.send_mix());
        if beat.elapsed() >= heartbeat && answering.load(Ordering::Relaxed) {
            beat = Instant::now();
            connection.send(listing(&rooms));
        }
    }
}

fn listing(rooms: &[Arc<MediaRoom>]) -> ToAgent {
    let listed = rooms.iter().filter(|r| r.listed.load(Ordering::Relaxed));
    ToAgent::MediaHeartbeat(MediaHeartbeat {
        rooms: listed.filter_map(|r| r.served().ok()).collect(),
        capacity: None,
    })
}
