//! Arguments in, exit code out. What the commands do is in `cli`.

use clap::Parser;
use std::{
    io::{self, Write},
    process::ExitCode,
};
use voice_agent::cli::{self, Cli, Code, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let (text, failure) = match cli::execute(&cli) {
        Ok(text) => (text, None),
        Err(failure) => (failure.done.clone(), Some(failure)),
    };
    if let Some(problem) = show(&text) {
        return problem.report(cli.global.json);
    }
    failure.map_or(ExitCode::SUCCESS, |failure| failure.report(cli.global.json))
}

/// Writes to stdout. A reader that has seen enough (`| head`) is no failure.
fn show(text: &str) -> Option<Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Some(Failure::new(Code::Failed, format!("writing to stdout: {e}")))
        }
        _ => None,
    }
}

/// Help and version go to stdout; a wrong argument is reported as clap words it, or as JSON when that was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    let asked_json = std::env::args_os().any(|arg| arg == "--json");
    if !error.use_stderr() || !asked_json {
        // A closed stdout or stderr leaves nobody to tell.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Code::Usage.exit()));
    }
    let text = error.render().to_string();
    let message = text
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ");
    Failure::new(Code::Usage, message).report(true)
}
