//! `cargo xtask demo` runs this. Exit codes: 0 all was shown, 1 something did not happen, 128 + n ended by signal n.

use clap::Parser;
use std::process::ExitCode;
use voice_tests::{
    demo::{self, Args, Report},
    interrupt,
};

fn main() -> ExitCode {
    let args = Args::parse();
    match demo::run(&args).and_then(|report| print(&args, &report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::from(interrupt::caught().map_or(1, |signal| 128 + signal as u8))
        }
    }
}

fn print(args: &Args, report: &Report) -> anyhow::Result<()> {
    if args.json {
        println!("{}", serde_json::to_string(report)?);
    }
    Ok(())
}
