//! A real Janus with real Opus senders. Nothing of it counts packets for us, so taps on both sides do.

use super::{Which, World};
use crate::{
    agent::{Settings, settings::Times},
    janus::JanusLab,
    netns::Netns,
    tap::Taps,
};
use std::time::Duration;
use voice_room::Mono;

const STUCK: &str = "1001";
const HEALTHY: &str = "1002";
/// Signalling that is gone for this long ends its session; Janus then forgets the participants.
const SHORT_SESSION: Duration = Duration::from_secs(4);
/// What Janus itself defaults to.
const SESSION: Duration = Duration::from_secs(60);

/// See the file's head.
pub(crate) struct JanusWorld {
    taps: Taps,
    ports: [Vec<u16>; 2],
    node: Netns,
    lab: JanusLab,
}

impl JanusWorld {
    pub(crate) fn new(times: Times) -> anyhow::Result<JanusWorld> {
        let session = if times == Times::REAL {
            SESSION
        } else {
            SHORT_SESSION
        };
        let lab = JanusLab::up(2, 3, session)?;
        Ok(JanusWorld {
            taps: Taps::start(&lab.node()?, &lab.users()?)?,
            ports: [lab.ports(STUCK)?, lab.ports(HEALTHY)?],
            node: lab.node()?,
            lab,
        })
    }

    fn ports(&self, which: Which) -> &[u16] {
        let [stuck, healthy] = &self.ports;
        match which {
            Which::Stuck => stuck,
            Which::Healthy => healthy,
        }
    }
}

impl World for JanusWorld {
    fn scene(&self) -> String {
        "a real Janus with two rooms of three ffmpeg senders each, 50 packets/s a sender".into()
    }

    fn node(&self) -> &Netns {
        &self.node
    }

    fn room(&self, which: Which) -> &str {
        match which {
            Which::Stuck => STUCK,
            Which::Healthy => HEALTHY,
        }
    }

    fn settings(&self, settings: Settings) -> Settings {
        self.lab.settings(settings)
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn break_stuck(&mut self) -> anyhow::Result<String> {
        self.lab.verb(&["kill-sig", STUCK])?;
        Ok("all its signalling is killed; Janus will forget its participants. Their ffmpeg send on".into())
    }

    fn counts(&self, which: Which) -> (u64, u64) {
        let ports = self.ports(which);
        (self.taps.sent(ports), self.taps.arrived(ports))
    }

    fn healthy(&self) -> (u64, u64) {
        let ports = self.ports(Which::Healthy);
        (self.taps.sent(ports), self.taps.delivered(ports))
    }

    fn sent_within(&self, from: Mono, to: Mono) -> u64 {
        self.taps.sent_between(self.ports(Which::Stuck), from, to)
    }

    fn delivered_within(&self, from: Mono, to: Mono) -> u64 {
        self.taps.delivered_within(self.ports(Which::Stuck), from, to)
    }

    fn first_sent_from(&self, t: Mono) -> Option<Mono> {
        self.taps.first_sent_from(self.ports(Which::Stuck), t)
    }

    fn first_from(&self, t: Mono) -> Option<Mono> {
        self.taps.first_from(self.ports(Which::Stuck), t)
    }

    fn end(&mut self) {
        for room in [STUCK, HEALTHY] {
            // Its processes may be gone already; `down` ends what is left.
            let _ = self.lab.verb(&["stop-media", room]);
        }
        let ports = self.ports.concat();
        self.taps.wait_quiet(&ports, Duration::from_secs(10));
    }
}
