//! Every STATE_EXPIRED that is not over: who was told, who acknowledged, who is to be told yet.

use crate::session::peer::PeerInfo;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use voice_room::{Epoch, PeerId, RoomId, Version, Wall, command::Expired};

/// Rooms with a pending STATE_EXPIRED; more than a node's default quota of rooms.
pub(super) const MAX_ROOMS: usize = 16_384;
/// Peers remembered per room.
const MAX_PEERS: usize = 16_384;

/// All of them, by room.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    rooms: BTreeMap<RoomId, Notice>,
}

/// One STATE_EXPIRED.
#[derive(Debug)]
pub(super) struct Notice {
    expired: Expired,
    /// Nobody who lets clients in is known to serve the room, so each of them is to be told.
    everyone: bool,
    waiting: BTreeSet<PeerId>,
    acked: BTreeSet<PeerId>,
}

impl Notice {
    fn tell(&mut self, peer: &PeerId) -> bool {
        let new = !self.acked.contains(peer) && !self.waiting.contains(peer);
        if new && self.waiting.len() + self.acked.len() < MAX_PEERS {
            self.waiting.insert(peer.clone());
        }
        new
    }

    /// Every peer that was told.
    pub(super) fn told(&self) -> impl Iterator<Item = &PeerId> {
        self.waiting.iter().chain(&self.acked)
    }
}

impl Ledger {
    /// Keeps a STATE_EXPIRED for these peers, and with `everyone` for each peer that lets clients in. The same one
    /// again keeps its acknowledgements. False: not kept, too many are.
    pub(super) fn keep(
        &mut self,
        expired: &Expired,
        everyone: bool,
        peers: impl Iterator<Item = PeerId>,
        now: Wall,
    ) -> bool {
        if self.rooms.len() >= MAX_ROOMS {
            self.purge(now);
        }
        if self.rooms.len() >= MAX_ROOMS && !self.rooms.contains_key(&expired.room) {
            return false;
        }
        let acked = self
            .rooms
            .remove(&expired.room)
            .filter(|old| old.expired.version == expired.version && old.expired.epoch == expired.epoch)
            .map_or_else(BTreeSet::new, |old| old.acked);
        let mut notice = Notice {
            expired: expired.clone(),
            everyone,
            waiting: BTreeSet::new(),
            acked,
        };
        for peer in peers {
            notice.tell(&peer);
        }
        self.rooms.insert(expired.room.clone(), notice);
        true
    }

    /// What a peer that connects is to be told.
    pub(super) fn due(&mut self, peer: &PeerInfo, now: Wall) -> Vec<Expired> {
        self.purge(now);
        self.rooms
            .values_mut()
            .filter_map(|notice| {
                let waits = notice.waiting.contains(&peer.id);
                let concerns = (notice.everyone && peer.role.lets_clients_in())
                    || peer.rooms.contains(&notice.expired.room);
                (waits || (concerns && notice.tell(&peer.id))).then(|| notice.expired.clone())
            })
            .collect()
    }

    /// What a peer that begins to serve `room` is to be told, once.
    pub(super) fn due_for(&mut self, peer: &PeerId, room: &RoomId, now: Wall) -> Option<Expired> {
        let notice = self.rooms.get_mut(room)?;
        (notice.expired.isolated_until > now && notice.tell(peer)).then(|| notice.expired.clone())
    }

    /// A peer took note. False: it was not waited for.
    pub(super) fn ack(&mut self, peer: &PeerId, room: &RoomId, version: Version, epoch: Epoch) -> bool {
        let Some(notice) = self.rooms.get_mut(room) else {
            return false;
        };
        let same = notice.expired.version == version && notice.expired.epoch == epoch;
        let was = same && notice.waiting.remove(peer);
        if was {
            notice.acked.insert(peer.clone());
        }
        was
    }

    /// The room was released: nobody is to be told any more.
    pub(super) fn withdraw(&mut self, room: &RoomId) -> Option<Notice> {
        self.rooms.remove(room)
    }

    /// Whether this peer has not acknowledged one.
    pub(super) fn waits_for(&self, peer: &PeerId) -> bool {
        self.rooms.values().any(|notice| notice.waiting.contains(peer))
    }

    fn purge(&mut self, now: Wall) {
        self.rooms.retain(|_, notice| notice.expired.isolated_until > now);
    }

    /// How many each peer has not acknowledged; one with none is left out.
    pub(super) fn pending(&self, now: Wall) -> HashMap<&PeerId, usize> {
        let mut counts = HashMap::new();
        let open = |notice: &&Notice| notice.expired.isolated_until > now;
        for peer in self
            .rooms
            .values()
            .filter(open)
            .flat_map(|notice| &notice.waiting)
        {
            *counts.entry(peer).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Role;

    fn expired(room: &str, version: u64) -> Expired {
        Expired {
            room: RoomId::new(room).unwrap(),
            incarnation: voice_room::Incarnation(1),
            version: Version(version),
            epoch: Epoch::default(),
            reason: "stuck".into(),
            isolated_until: Wall(1000),
        }
    }

    fn peer(name: &str) -> PeerId {
        PeerId::new(name).unwrap()
    }

    fn info(name: &str, role: Role) -> PeerInfo {
        PeerInfo {
            id: peer(name),
            role,
            tag: String::new(),
            weight: None,
            rooms: Vec::new(),
            trace: None,
            parent: None,
            source: voice_room::SourceId::new("peer/x").unwrap(),
        }
    }

    fn pending(ledger: &Ledger, now: Wall) -> usize {
        ledger.pending(now).get(&peer("gw")).copied().unwrap_or_default()
    }

    #[test]
    fn a_peer_is_told_again_on_each_connect_until_it_acknowledged() {
        let mut ledger = Ledger::default();
        let e = expired("r", 4);
        assert!(ledger.keep(&e, false, [peer("gw")].into_iter(), Wall(0)));
        let gw = info("gw", Role::Gateway);
        assert_eq!(ledger.due(&gw, Wall(1)), std::slice::from_ref(&e));
        assert_eq!(ledger.due(&gw, Wall(2)), std::slice::from_ref(&e));
        assert!(
            !ledger.ack(&gw.id, &e.room, Version(3), e.epoch),
            "another version"
        );
        assert!(ledger.ack(&gw.id, &e.room, e.version, e.epoch));
        assert!(!ledger.ack(&gw.id, &e.room, e.version, e.epoch), "a repeat");
        assert_eq!(ledger.due(&gw, Wall(3)), []);
        assert!(ledger.keep(&e, false, [gw.id.clone()].into_iter(), Wall(4)));
        assert_eq!(ledger.due(&gw, Wall(5)), [], "the same one again");
    }

    #[test]
    fn nothing_is_told_after_the_isolation_ended_or_the_room_was_released() {
        let mut ledger = Ledger::default();
        ledger.keep(&expired("r", 4), true, [].into_iter(), Wall(0));
        let gw = info("gw", Role::Gateway);
        assert_eq!(ledger.due(&gw, Wall(999)).len(), 1);
        assert_eq!(pending(&ledger, Wall(999)), 1);
        assert_eq!(pending(&ledger, Wall(1000)), 0);
        assert!(ledger.withdraw(&expired("r", 4).room).is_some());
        assert_eq!(ledger.due(&gw, Wall(1)), []);
        assert_eq!(pending(&ledger, Wall(1)), 0);
        ledger.keep(&expired("r", 4), true, [].into_iter(), Wall(0));
        assert_eq!(ledger.due(&gw, Wall(1000)), []);
    }

    #[test]
    fn a_room_nobody_serves_is_told_to_those_who_let_clients_in_and_not_to_media_servers() {
        let mut ledger = Ledger::default();
        ledger.keep(&expired("r", 4), true, [].into_iter(), Wall(0));
        assert_eq!(ledger.due(&info("gw", Role::Gateway), Wall(1)).len(), 1);
        assert_eq!(ledger.due(&info("sig", Role::Signalling), Wall(1)).len(), 1);
        assert_eq!(ledger.due(&info("sfu", Role::Media), Wall(1)).len(), 0);
        assert!(
            ledger
                .due_for(&peer("sfu"), &expired("r", 4).room, Wall(1))
                .is_some()
        );
        assert!(
            ledger
                .due_for(&peer("sfu"), &expired("r", 4).room, Wall(1))
                .is_none(),
            "once"
        );
    }

    #[test]
    fn too_many_are_not_kept_and_ended_ones_make_room() {
        let mut ledger = Ledger::default();
        for n in 0..MAX_ROOMS {
            assert!(ledger.keep(&expired(&format!("r{n}"), 1), true, [].into_iter(), Wall(0)));
        }
        assert!(!ledger.keep(&expired("more", 1), true, [].into_iter(), Wall(0)));
        let mut later = expired("more", 1);
        later.isolated_until = Wall(3000);
        assert!(ledger.keep(&later, true, [].into_iter(), Wall(2000)));
        assert_eq!(ledger.rooms.len(), 1);
    }
}
