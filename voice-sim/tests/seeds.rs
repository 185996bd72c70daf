//! The seeds that are run with every change, and more of them with `--full`.

use voice_sim::{Failure, Plant, Tally, run, run_with};

/// Every invariant holds in these seeds; a seed that fails names the command that shows it.
fn hold(seeds: std::ops::Range<u64>) -> Tally {
    let mut total = Tally::default();
    for seed in seeds {
        match run(seed) {
            Ok(tally) => total += tally,
            Err(failure) => {
                let last = failure.trace.len().saturating_sub(40);
                let last = failure.trace[last..].join("\n");
                let what = failure.what;
                panic!("{last}\nseed {seed}: {what}\nall of it: cargo xtask simulate --seed {seed}");
            }
        }
    }
    total
}

#[test]
fn every_invariant_holds_in_200_seeds_and_they_are_not_idle() {
    let total = hold(0..200);
    assert!(total.stored > 10_000, "{total:?}");
    assert!(total.prepared > 4_000, "{total:?}");
    assert!(total.rolled_back > 400, "{total:?}");
    assert!(total.trips > 100, "{total:?}");
    assert!(total.lost > 10, "{total:?}");
}

#[test]
#[ignore = "takes minutes; run by --full"]
fn every_invariant_holds_in_1000_seeds() {
    hold(200..1_200);
}

#[test]
fn a_seed_means_the_same_run_each_time() {
    let (first, second) = (voice_sim::trace(7), voice_sim::trace(7));
    assert!(first.len() > 1_000, "{} lines", first.len());
    assert!(first == second);
}

/// The first failure by this invariant, with this fault in the system.
fn caught(plant: Plant, invariant: &str) -> Failure {
    let failures = (0..200).filter_map(|seed| run_with(seed, Some(plant)).err());
    let mut others = Vec::new();
    for failure in failures {
        if failure.what.starts_with(invariant) {
            return failure;
        }
        others.push(failure.what);
        assert!(others.len() < 100, "{plant:?} is found otherwise: {others:?}");
    }
    panic!("{plant:?} is not found; {others:?}")
}

#[test]
fn each_invariant_finds_the_fault_it_is_for_and_a_seed_that_fails_replays_exactly() {
    for (plant, invariant) in [
        (
            Plant::TellsAnother,
            "no two participants commit different states for one version",
        ),
        (Plant::TakesWhatItRefuses, "no commit after rollback"),
        (Plant::NeverAnswers, "every transition ends"),
        (Plant::ForgetsEpochs, "nobody acts on a lower epoch"),
        (Plant::StaysCut, "a healed system converges"),
        (Plant::LetsAllIn, "isolation always refuses"),
        (
            Plant::SeesNothing,
            "a room that its media server serves is never expired",
        ),
    ] {
        let first = caught(plant, invariant);
        let again = run_with(first.seed, Some(plant)).unwrap_err();
        assert_eq!(first.what, again.what, "{plant:?}");
        assert!(first.trace.len() > 100, "{} lines", first.trace.len());
        assert!(
            first.trace == again.trace,
            "seed {} of {plant:?} ran otherwise",
            first.seed
        );
        assert_eq!(run(first.seed).map(drop).map_err(|f| f.what), Ok(()));
    }
}
