//! The seeds that are run with every change, and more of them with `--full`.

use voice_sim::{Tally, run};

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
