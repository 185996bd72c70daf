//! The kernel's testimony on a room: samples of its counters over the window.

use crate::{Incarnation, Mono, input::Counts, timeline::Testimony};
use alloc::collections::VecDeque;
use core::time::Duration;

/// Samples kept per room; the window is divided so that they suffice whatever the sampling rate.
const SAMPLES: u32 = 12;

#[derive(Debug, Default)]
pub(crate) struct Witness {
    incarnation: Incarnation,
    /// Older samples, at least a twelfth of the window apart.
    past: VecDeque<Rtp>,
    latest: Option<(Mono, Counts)>,
    last_rtp: Option<Mono>,
    /// Packets dropped in a second, between the last two samples.
    drop_rate: Option<u32>,
}

/// What of an older sample is asked for.
#[derive(Debug, Clone, Copy)]
struct Rtp {
    at: Mono,
    rtp_in: u64,
    rtp_out: u64,
}

impl Rtp {
    fn of(at: Mono, counts: &Counts) -> Rtp {
        let (rtp_in, rtp_out) = (counts.rtp_in, counts.rtp_out);
        Rtp { at, rtp_in, rtp_out }
    }
}

impl Witness {
    /// Takes a sample. Counters of another life, or that went back, start the testimony anew.
    pub(crate) fn push(&mut self, now: Mono, incarnation: Incarnation, counts: &Counts, window: Duration) {
        let restarted = match &self.latest {
            Some((_, last)) => {
                incarnation != self.incarnation
                    || counts.rtp_in < last.rtp_in
                    || counts.rtp_out < last.rtp_out
            }
            None => true,
        };
        if restarted {
            let same_life = incarnation == self.incarnation;
            *self = Witness {
                incarnation,
                last_rtp: self.last_rtp.filter(|_| same_life),
                ..Witness::default()
            };
        }
        let moved = self
            .latest
            .as_ref()
            .is_some_and(|(_, last)| last.rtp_in < counts.rtp_in || last.rtp_out < counts.rtp_out);
        if moved {
            self.last_rtp = Some(now);
        }
        self.drop_rate = self.latest.as_ref().and_then(|(at, last)| {
            let elapsed = now.since(*at).as_millis();
            let dropped = u128::from(counts.dropped.saturating_sub(last.dropped));
            let a_second = (dropped * 1000).checked_div(elapsed)?;
            Some(u32::try_from(a_second).unwrap_or(u32::MAX))
        });
        self.thin(now, window);
        self.latest = Some((now, counts.clone()));
    }

    fn thin(&mut self, now: Mono, window: Duration) {
        if let Some((at, counts)) = self.latest.take()
            && self
                .past
                .back()
                .is_none_or(|last| at.since(last.at) >= window / SAMPLES)
        {
            self.past.push_back(Rtp::of(at, &counts));
        }
        // The newest sample that is a whole window old is the base; what is older than it has served.
        while self.past.get(1).is_some_and(|next| now.since(next.at) >= window) {
            self.past.pop_front();
        }
    }

    /// What the counters say about the last `window`; `None` when the latest sample is older than `fresh`.
    pub(crate) fn testimony(&self, now: Mono, window: Duration, fresh: Duration) -> Option<Testimony> {
        let (at, latest) = self.latest.as_ref().filter(|(at, _)| now.since(*at) <= fresh)?;
        let base = self.past.front().copied().unwrap_or(Rtp::of(*at, latest));
        Some(Testimony {
            window: now.since(base.at).min(window.max(at.since(base.at))),
            rtp_in: latest.rtp_in.saturating_sub(base.rtp_in),
            rtp_out: latest.rtp_out.saturating_sub(base.rtp_out),
            saw_egress: latest.rtp_out > 0,
        })
    }

    /// Packets dropped in a second, between the last two samples; `None` with fewer, or when the latest is older than `fresh`.
    pub(crate) fn drop_rate(&self, now: Mono, fresh: Duration) -> Option<u32> {
        let (at, _) = self.latest.as_ref()?;
        self.drop_rate.filter(|_| now.since(*at) <= fresh)
    }

    /// The latest counters.
    pub(crate) fn counts(&self) -> Option<&Counts> {
        self.latest.as_ref().map(|(_, c)| c)
    }

    /// When RTP was last seen to move.
    pub(crate) fn last_rtp(&self) -> Option<Mono> {
        self.last_rtp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(25);

    fn at(s: u64) -> Mono {
        Mono(s * 1_000_000_000)
    }

    fn counts(rtp_in: u64, rtp_out: u64) -> Counts {
        Counts {
            rtp_in,
            rtp_out,
            ..Counts::default()
        }
    }

    fn sampled(every: u64, until: u64, f: impl Fn(u64) -> Counts) -> Witness {
        let mut w = Witness::default();
        for s in (0..=until).step_by(usize::try_from(every).unwrap()) {
            w.push(at(s), Incarnation(1), &f(s), WINDOW);
        }
        w
    }

    #[test]
    fn traffic_before_the_window_is_not_in_the_testimony() {
        // 50 packets a second until second 60, then silence.
        let w = sampled(5, 90, |s| counts(s.min(60) * 50, s.min(60) * 50));
        let t = w.testimony(at(90), WINDOW, Duration::from_secs(10)).unwrap();
        assert_eq!((t.rtp_in, t.rtp_out, t.saw_egress), (0, 0, true));
        assert_eq!(t.window, WINDOW);
    }

    #[test]
    fn the_window_is_the_same_however_often_the_counters_are_read() {
        for every in [1, 5] {
            let w = sampled(every, 100, |s| counts(s * 50, 0));
            let t = w.testimony(at(100), WINDOW, Duration::from_secs(10)).unwrap();
            assert!((1250..=1400).contains(&t.rtp_in), "{t:?}");
            assert!(w.past.len() <= 14, "{} samples", w.past.len());
        }
    }

    #[test]
    fn counters_that_were_not_read_lately_say_nothing() {
        let w = sampled(5, 50, |s| counts(s, s));
        assert_eq!(w.testimony(at(61), WINDOW, Duration::from_secs(10)), None);
    }

    #[test]
    fn drops_a_second_are_those_between_the_last_two_readings_of_one_life_while_they_are_fresh() {
        let fresh = Duration::from_secs(10);
        let dropped = |n: u64| Counts {
            dropped: n,
            ..counts(9, 9)
        };
        let mut w = Witness::default();
        w.push(at(0), Incarnation(1), &dropped(70), WINDOW);
        assert_eq!(w.drop_rate(at(0), fresh), None, "one reading has no rate");
        w.push(at(5), Incarnation(1), &dropped(570), WINDOW);
        assert_eq!(w.drop_rate(at(6), fresh), Some(100));
        w.push(at(10), Incarnation(1), &dropped(570), WINDOW);
        assert_eq!(w.drop_rate(at(10), fresh), Some(0));
        assert_eq!(w.drop_rate(at(21), fresh), None, "nobody reads any more");
        w.push(at(22), Incarnation(2), &dropped(900), WINDOW);
        assert_eq!(w.drop_rate(at(22), fresh), None, "another life");
    }

    #[test]
    fn counters_of_another_life_start_the_testimony_anew() {
        let mut w = sampled(5, 50, |s| counts(s, s));
        w.push(at(51), Incarnation(2), &counts(3, 0), WINDOW);
        let t = w.testimony(at(51), WINDOW, Duration::from_secs(10)).unwrap();
        assert_eq!((t.rtp_in, t.rtp_out, t.saw_egress), (0, 0, false));
    }
}
