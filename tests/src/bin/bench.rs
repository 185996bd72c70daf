//! `cargo xtask bench NAME` runs this. Exit codes: 0 every goal holds, 1 one does not or nothing could be measured,
//! 128 + n ended by signal n.

use clap::Parser;
use std::process::ExitCode;
use voice_tests::{
    bench::{self, Args, Report, table},
    interrupt,
};

fn main() -> ExitCode {
    let args = Args::parse();
    match bench::run(&args).and_then(|report| print(&args, &report)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(interrupt::caught().map_or(1, |signal| 128 + signal as u8))
        }
    }
}

/// Prints the result. True: every goal holds.
fn print(args: &Args, report: &Report) -> anyhow::Result<bool> {
    if args.json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        anstream::print!("{}", table::table(report));
    }
    Ok(report.figures.iter().all(|figure| figure.holds))
}
