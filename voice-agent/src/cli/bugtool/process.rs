//! Our own commands, as processes with a bound: what hangs or fails there ends only its own part.

use super::Part;
use crate::cli::args::Global;
use std::{
    io::{self, Read},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Of an output, from its end: `events` has the newest last.
const OUTPUT: usize = 8 << 20;

/// This program, with the arguments that this process was given for every command.
#[derive(Debug)]
pub(super) struct Ours(Vec<String>);

impl Ours {
    pub(super) fn new(global: &Global) -> Ours {
        let mut args = vec!["--json".to_owned()];
        if let Some(config) = &global.config {
            args.extend(["--config".into(), config.display().to_string()]);
        }
        args.extend(global.set.iter().flat_map(|set| ["--set".into(), set.clone()]));
        args.extend(
            global
                .instance
                .iter()
                .flat_map(|name| ["--instance".into(), name.clone()]),
        );
        Ours(args)
    }

    /// What it prints. A command that prints before it fails (`doctor`) is as good as one that does not fail.
    pub(super) fn run(&self, args: &[&str], within: Duration) -> Part {
        let what = args.join(" ");
        let mut command = Command::new("/proc/self/exe");
        command.args(args).args(&self.0).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.map_err(|e| format!("starting `{what}`: {e}"))?;
        let (out, err) = finished(child, within).map_err(|e| format!("`{what}`: {e}"))?;
        if out.is_empty() {
            return Err(format!("`{what}`: {}", String::from_utf8_lossy(&err).trim()));
        }
        Ok(out)
    }
}

/// Stdout and stderr of a process that ended in time; one that did not is killed.
fn finished(mut child: Child, within: Duration) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let readers = (child.stdout.take().map(read), child.stderr.take().map(read));
    let end = Instant::now() + within;
    while child.try_wait()?.is_none() {
        if Instant::now() >= end {
            // It may have ended just now.
            drop(child.kill());
            child.wait()?;
            return Err(io::Error::other(format!(
                "not done within {} s",
                within.as_secs()
            )));
        }
        thread::sleep(Duration::from_millis(5));
    }
    let read = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        let joined = reader.and_then(|reader| reader.join().ok());
        joined.unwrap_or_default()
    };
    Ok((read(readers.0), read(readers.1)))
}

/// Reads to the end and keeps the last [`OUTPUT`] bytes, from the beginning of a line.
fn read(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut kept, mut some) = (Vec::new(), vec![0; 64 << 10]);
        // A read that fails ends the output, as its end does.
        while let Ok(n @ 1..) = from.read(&mut some) {
            kept.extend(some.iter().take(n));
            if kept.len() > 2 * OUTPUT {
                cut(&mut kept);
            }
        }
        cut(&mut kept);
        kept
    })
}

fn cut(kept: &mut Vec<u8>) {
    if let Some(more) = kept.len().checked_sub(OUTPUT).filter(|more| *more > 0) {
        // The byte before may end a line.
        let line = kept.iter().skip(more - 1).position(|byte| *byte == b'\n');
        kept.drain(..line.map_or(more, |line| more + line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_output_the_last_whole_lines_are_kept() {
        let line = "0123456789abcde\n";
        let text = line.repeat(3 * OUTPUT / line.len());
        let kept = read(io::Cursor::new(text.into_bytes())).join().unwrap();
        assert!(
            kept.len() <= OUTPUT && kept.len() > OUTPUT - line.len(),
            "{}",
            kept.len()
        );
        assert!(kept.starts_with(line.as_bytes()) && kept.ends_with(line.as_bytes()));
    }

    #[test]
    fn a_process_that_does_not_end_is_killed_and_told() {
        let mut sleep = Command::new("sleep");
        let child = sleep.arg("600").stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        let ended = finished(child, Duration::from_millis(50));
        assert_eq!(ended.unwrap_err().to_string(), "not done within 0 s");
    }
}
