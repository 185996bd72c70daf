//! The users of a room: one endpoint each, which sends RTP to the media server and records the mix that comes back.

use crate::{
    netns::{Netns, USER_IP},
    peer::MediaRoom,
    rtp::{Endpoint, Sender},
};
use std::net::{IpAddr, SocketAddr};
use voice_room::Mono;

/// Taken from the media port for the user's own port: one user for each port of the node.
pub(crate) const PORT_OFFSET: u16 = 10_000;

/// The users of one room. They stop on drop.
#[derive(Debug)]
pub struct Callers {
    // Dropped first: a sender ends before its socket does.
    senders: Vec<Sender>,
    users: Vec<Endpoint>,
}

impl Callers {
    /// One user for each port of the room, each sending `pps` packets a second from inside `ns`.
    pub fn start(ns: &Netns, room: &MediaRoom, pps: u32) -> anyhow::Result<Callers> {
        let mut callers = Callers {
            senders: Vec::new(),
            users: Vec::new(),
        };
        let ip: IpAddr = USER_IP.parse()?;
        for to in room.addrs()? {
            let user = Endpoint::bind(ns, SocketAddr::new(ip, to.port() - PORT_OFFSET))?;
            callers.senders.push(user.sender(to, u32::from(to.port()), pps));
            callers.users.push(user);
        }
        Ok(callers)
    }

    /// Ends the senders and waits for their last packets; what was sent stays countable.
    pub fn stop(&mut self) {
        self.senders.drain(..).for_each(Sender::stop);
    }

    /// Packets sent, in all.
    pub fn sent(&self) -> u64 {
        self.users.iter().map(Endpoint::sent).sum()
    }

    /// Packets sent in `from..to`.
    pub fn sent_between(&self, from: Mono, to: Mono) -> u64 {
        self.users.iter().map(|u| u.sent_between(from, to)).sum()
    }

    /// Mixed packets heard, in all.
    pub fn heard(&self) -> u64 {
        self.users.iter().map(Endpoint::count).sum()
    }

    /// When the first packet was sent at `t` or later.
    pub fn first_sent_from(&self, t: Mono) -> Option<Mono> {
        self.users.iter().filter_map(|u| u.first_sent(t)).min()
    }

    /// Mixed packets that were sent and heard in `from..to`.
    pub fn heard_within(&self, from: Mono, to: Mono) -> u64 {
        self.users.iter().map(|u| u.count_within(from, to)).sum()
    }
}
