//! `cargo xtask simulate`: any number of seeds, or one of them again with its trace.

use clap::Parser;
use std::{process::ExitCode, time::Instant};
use voice_sim::{Tally, run, trace};

/// Runs the simulation
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one only, and print all that happens in it
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        trace(seed).iter().for_each(|line| println!("{line}"));
        return match run(seed) {
            Ok(tally) => {
                println!("seed {seed}: every invariant holds; {tally:?}");
                ExitCode::SUCCESS
            }
            Err(failure) => {
                println!("seed {seed}: {}", failure.what);
                ExitCode::FAILURE
            }
        };
    }
    let (start, mut failed, mut total) = (Instant::now(), 0_u64, Tally::default());
    for seed in args.from..args.from.saturating_add(args.seeds) {
        match run(seed) {
            Ok(tally) => total += tally,
            Err(failure) => {
                failed += 1;
                println!("seed {seed}: {}", failure.what);
                println!("  again, with all that happens: cargo xtask simulate --seed {seed}");
            }
        }
    }
    let seconds = start.elapsed().as_secs_f32();
    println!(
        "{} seeds in {seconds:.1} s, {failed} failed; in the others {total:?}",
        args.seeds
    );
    ExitCode::from(u8::from(failed > 0))
}
