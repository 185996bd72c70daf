//! Once a heartbeat: the kernel's counters, sockets, releases by map; and desired against actual state.

use super::{Driver, clock::now};
use std::time::Duration;
use voice_room::{
    Input,
    input::{Ask, Request, Traffic},
    patrol::{Class, Difference, Place, Right},
    timeline::Actor,
};

impl Driver {
    pub(super) fn sample(&mut self) {
        self.sampled = now().mono;
        self.reconcile();
        self.bind_again();
        self.let_others_go();
        self.read_counters();
        match self.kernel.sockets() {
            Ok(ports) => self.take(Input::Sockets(ports)),
            Err(error) => {
                tracing::debug!(%error, "cannot list UDP sockets; a silent media server is judged without them");
            }
        }
        for room in self.kernel.released() {
            let release = Ask::Release {
                reason: "released through the pinned maps".into(),
            };
            self.take(Input::Request(Request::by_map(room, release)));
        }
        self.tell_supervisor();
    }

    /// Once the cuts found in the journal are armed, programs of another ABI version have nothing left to do.
    pub(super) fn let_others_go(&mut self) {
        match self.kernel.let_others_go() {
            Ok(gone) => gone.iter().for_each(|line| tracing::info!("kernel: {line}")),
            Err(error) => tracing::error!(
                %error,
                "an agent of another ABI version left programs attached, which may cut ports that have moved; tried again"
            ),
        }
    }

    /// What was not as it was written is set right at once, and told like patrol's repairs: of these words there is one writer,
    /// so nothing can be under way.
    fn reconcile(&mut self) {
        for repair in self.kernel.reconcile() {
            tracing::warn!(%repair, "the kernel side was not as it should be");
        }
        let mended = self.kernel.take_mended().into_iter();
        let known = mended.filter(|mended| self.core.knows(&mended.room));
        let fields = known.map(|mended| Difference {
            room: mended.room,
            place: Place::Kernel,
            path: mended.path,
            here: mended.wanted,
            there: mended.found,
            right: Right::Here,
            class: Class::Repairable,
            why: String::new(),
        });
        let fields = fields.collect();
        self.tell_repaired(fields, &Actor::Agent, &Ok("set right at the heartbeat".into()));
    }

    /// A lift is recorded with what was dropped until then: the counters are read anew before one, ten times a second at
    /// the most.
    pub(super) fn read_counters_before_lift(&mut self) {
        if now().mono.since(self.counted) >= Duration::from_millis(100) {
            self.read_counters();
        }
    }

    fn read_counters(&mut self) {
        self.counted = now().mono;
        match self.kernel.traffic() {
            Ok(traffic) => {
                self.unbind_strangers(&traffic);
                self.take(Input::Traffic(traffic));
            }
            Err(error) => {
                tracing::warn!(%error, "no kernel counters; rooms have no witness while this lasts");
            }
        }
    }

    /// Rooms that pins brought over a restart and no record knows: their slots go back.
    fn unbind_strangers(&mut self, traffic: &[Traffic]) {
        for stranger in traffic.iter().filter(|t| !self.core.knows(&t.room)) {
            tracing::warn!(room = %stranger.room, "bound in the pinned maps, but no record knows it; unbound");
            self.kernel.unbind(&stranger.room);
        }
    }

    fn bind_again(&mut self) {
        for (room, (incarnation, binding)) in std::mem::take(&mut self.unbound) {
            self.bind(room, incarnation, binding);
        }
    }

    pub(super) fn first_drops(&mut self) {
        for drop in self.kernel.first_drops() {
            let (room, deadline, ingress, at) = (drop.room, drop.deadline, drop.ingress, drop.at);
            self.take(Input::FirstDrop {
                room,
                deadline,
                ingress,
                at,
            });
        }
    }
}
