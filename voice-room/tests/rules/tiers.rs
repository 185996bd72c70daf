//! The tiers of a dependency, with DESIGN 6's numbers.

use proptest::{prelude::*, sample::select, test_runner::RngSeed};
use std::time::Duration;
use voice_room::{
    Mono,
    tier::{Change, Health, Limits, NotNow, Outcome, Tier, Why, Work},
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A dependency and its clock.
struct Watched {
    health: Health,
    now: Mono,
}

impl Watched {
    fn new(limits: Limits) -> Watched {
        let now = Mono(1_000_000_000);
        Watched {
            health: Health::new(limits, now),
            now,
        }
    }

    /// Time passes, with ticks each 100 ms and probes as they are due, all of which end so.
    fn pass(&mut self, millis: u64, probes: Outcome) -> Vec<(Tier, Why)> {
        let mut changes = Vec::new();
        for _ in 0..millis / 100 {
            self.now = self.now + ms(100);
            if self.health.probe_due(self.now) {
                self.health.probe_begins(self.now);
                changes.extend(self.health.probe(self.now, probes));
            }
            changes.extend(self.health.tick(self.now));
        }
        changes.into_iter().map(|c: Change| (c.to, c.why)).collect()
    }

    /// It does not answer until it is there.
    fn until(&mut self, tier: Tier) {
        let begun = self.now;
        while self.health.tier() != tier {
            self.pass(100, Outcome::Unavailable);
            assert!(self.now.since(begun) < ms(60_000), "never {tier}");
        }
    }

    fn fails(&mut self) {
        self.health.call(self.now, Outcome::Unavailable);
    }

    fn allows(&self, work: Work) -> Result<(), NotNow> {
        self.health.allows(self.now, work)
    }
}

#[test]
fn three_unavailable_in_a_row_start_a_backoff_of_500_ms_and_two_do_not() {
    let mut w = Watched::new(Limits::PROBED);
    w.fails();
    w.fails();
    assert_eq!(w.allows(Work::New), Ok(()));
    w.health.call(w.now, Outcome::Answered);
    w.fails();
    w.fails();
    assert_eq!(w.allows(Work::New), Ok(()), "not in a row");
    w.fails();
    let (tier, retry_after) = (Tier::Healthy, ms(500));
    assert_eq!(w.allows(Work::New), Err(NotNow { tier, retry_after }));
    w.now = w.now + ms(500);
    assert_eq!(w.allows(Work::Running), Ok(()), "one may try");
}

#[test]
fn retries_come_after_500_100_and_150_ms_and_then_they_are_spent() {
    let mut w = Watched::new(Limits::PROBED);
    (0..3).for_each(|_| w.fails());
    let mut waits = Vec::new();
    while !w.health.retries_spent() {
        let wait = w.allows(Work::New).unwrap_err().retry_after;
        waits.push(wait);
        w.now = w.now + wait;
        w.fails();
    }
    assert_eq!(waits, [ms(500), ms(100), ms(150)]);
    w.health.call(w.now, Outcome::Answered);
    assert!(!w.health.retries_spent(), "an answer ends the backoff");
    assert_eq!(w.allows(Work::New), Ok(()));
}

#[test]
fn calls_that_were_under_way_when_the_backoff_began_are_no_retries() {
    let mut w = Watched::new(Limits::PROBED);
    (0..30).for_each(|_| w.fails());
    assert!(!w.health.retries_spent());
}

#[test]
fn it_is_probed_every_500_ms_and_two_failed_checks_in_a_row_degrade_it() {
    let mut w = Watched::new(Limits::PROBED);
    assert_eq!(w.pass(60_000, Outcome::Answered), []);
    assert_eq!(w.pass(500, Outcome::Unavailable), [], "one failed");
    assert_eq!(w.pass(500, Outcome::Answered), []);
    assert_eq!(w.pass(500, Outcome::Unavailable), [], "not in a row");
    let degraded = (Tier::Degraded, Why::ChecksFailed);
    assert_eq!(w.pass(500, Outcome::Unavailable), [degraded]);
}

#[test]
fn degraded_refuses_what_is_new_and_lets_finish_what_runs() {
    let mut w = Watched::new(Limits::PROBED);
    w.pass(1_000, Outcome::Unavailable);
    assert_eq!(w.health.tier(), Tier::Degraded);
    assert!(w.allows(Work::New).is_err());
    assert_eq!(w.allows(Work::Running), Ok(()));
    let healthy = (Tier::Healthy, Why::Answers);
    assert_eq!(w.pass(500, Outcome::Answered), [healthy]);
    assert_eq!(w.allows(Work::New), Ok(()));
}

#[test]
fn silence_of_more_than_2_s_degrades_a_dependency_whose_probes_do_not_end() {
    let mut w = Watched::new(Limits::PROBED);
    let silent = |w: &mut Watched, millis| {
        let mut changes = Vec::new();
        for _ in 0..millis / 100 {
            w.now = w.now + ms(100);
            changes.extend(w.health.tick(w.now));
        }
        changes.into_iter().map(|c| (c.to, c.why)).collect::<Vec<_>>()
    };
    assert_eq!(silent(&mut w, 2_000), []);
    assert_eq!(silent(&mut w, 100), [(Tier::Degraded, Why::Silent)]);
}

#[test]
fn a_media_server_may_be_silent_for_two_and_a_half_heartbeats_and_is_not_probed() {
    let mut w = Watched::new(Limits::media(ms(5_000)));
    assert_eq!(w.pass(12_500, Outcome::Unavailable), []);
    assert_eq!(w.pass(100, Outcome::Unavailable), [(Tier::Degraded, Why::Silent)]);
    assert!(!w.health.probe_due(w.now));
    let answers = w.health.call(w.now, Outcome::Answered);
    assert_eq!(answers.map(|c| c.to), Some(Tier::Healthy));
}

#[test]
fn degraded_for_15_s_is_broken_and_for_10_s_if_retries_are_spent() {
    let mut w = Watched::new(Limits::PROBED);
    w.until(Tier::Degraded);
    assert_eq!(w.pass(14_900, Outcome::Unavailable), []);
    let too_long = (Tier::Broken, Why::DegradedTooLong);
    assert_eq!(w.pass(100, Outcome::Unavailable), [too_long]);

    let mut w = Watched::new(Limits::PROBED);
    (0..3).for_each(|_| w.fails());
    for _ in 0..3 {
        w.now = w.now + ms(500);
        w.fails();
    }
    assert!(w.health.retries_spent());
    w.until(Tier::Degraded);
    assert_eq!(w.pass(9_900, Outcome::Unavailable), []);
    let spent = (Tier::Broken, Why::RetriesSpent);
    assert_eq!(w.pass(100, Outcome::Unavailable), [spent]);
}

#[test]
fn broken_refuses_all_for_30_s_and_then_a_positive_probe_heals_it() {
    for limits in [Limits::PROBED, Limits::media(ms(5_000))] {
        let mut w = Watched::new(limits);
        w.until(Tier::Broken);
        assert!(w.allows(Work::Running).is_err() && w.allows(Work::New).is_err());
        assert_eq!(w.health.call(w.now, Outcome::Answered), None, "it cools down");
        assert_eq!(w.pass(29_900, Outcome::Answered), [], "nor is it probed");
        assert_eq!(w.pass(100, Outcome::Answered), [(Tier::Healthy, Why::Answers)]);
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Pass(u64, Outcome),
    Call(Outcome),
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        rng_seed: RngSeed::Fixed(0x7157),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_gets_worse_step_by_step_better_at_once_and_heals_whenever_probes_succeed_again(
        actions in prop::collection::vec(
            prop_oneof![
                (1..200_u64, select(vec![Outcome::Answered, Outcome::Unavailable]))
                    .prop_map(|(n, o)| Action::Pass(n * 100, o)),
                select(vec![Outcome::Answered, Outcome::Unavailable]).prop_map(Action::Call),
            ],
            1..60,
        ),
        media in any::<bool>(),
    ) {
        let mut w = Watched::new(if media { Limits::media(ms(5_000)) } else { Limits::PROBED });
        for action in actions {
            let before = w.health.tier();
            let changes = match action {
                Action::Pass(millis, probes) => w.pass(millis, probes),
                Action::Call(outcome) => {
                    w.health.call(w.now, outcome).map(|c| (c.to, c.why)).into_iter().collect()
                }
            };
            let mut tier = before;
            for (to, _) in changes {
                let step = matches!(
                    (tier, to),
                    (Tier::Healthy, Tier::Degraded) | (Tier::Degraded, Tier::Broken) | (_, Tier::Healthy)
                );
                prop_assert!(step && tier != to, "{tier} to {to}");
                tier = to;
            }
            prop_assert_eq!(tier, w.health.tier());
            if tier == Tier::Broken {
                prop_assert!(w.allows(Work::Running).is_err());
            }
            if w.allows(Work::New).is_ok() {
                prop_assert_eq!(tier, Tier::Healthy);
                prop_assert!(w.allows(Work::Running).is_ok());
            }
        }
        for _ in 0..20 {
            w.pass(5_000, Outcome::Answered);
            w.health.call(w.now, Outcome::Answered);
        }
        prop_assert_eq!(w.health.tier(), Tier::Healthy);
        prop_assert!(w.allows(Work::New).is_ok());
    }
}
