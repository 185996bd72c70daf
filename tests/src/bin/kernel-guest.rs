//! `cargo xtask kernel-matrix` runs this inside a virtual machine. Exit codes: 0 every check holds, 1 one does not.

use std::{io, process::ExitCode};

fn main() -> ExitCode {
    match voice_tests::guest::run(&mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kernel-guest: {error}");
            ExitCode::FAILURE
        }
    }
}
