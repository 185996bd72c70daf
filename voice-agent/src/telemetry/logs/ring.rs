//! The last lines of the agent's own log, kept in memory for `bugtool`: where standard error goes, the agent cannot know.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Mutex, PoisonError},
};

/// Lines that are kept.
const LINES: usize = 2_000;
/// Bytes of them all.
const BYTES: usize = 1 << 20;
/// Bytes of one; the rest of a longer one is left out.
const LINE: usize = 4_096;

/// One for the process, as the log is.
pub(super) static RING: Ring = Ring(Mutex::new(Kept {
    lines: VecDeque::new(),
    bytes: 0,
}));

/// See the file's head.
#[derive(Debug)]
pub(super) struct Ring(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Ring {
    pub(super) fn lines(&self) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lines.iter().cloned().collect()
    }

    fn keep(&self, line: &[u8]) {
        let mut text = String::from_utf8_lossy(&line[..line.len().min(LINE)]).into_owned();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += text.len();
        kept.lines.push_back(text);
        while kept.bytes > BYTES || kept.lines.len() > LINES {
            let Some(oldest) = kept.lines.pop_front() else {
                return;
            };
            kept.bytes -= oldest.len();
        }
    }
}

/// The log hands over each line by one write.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingWriter;

impl Write for RingWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        RING.keep(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_are_kept_by_number_and_by_bytes() {
        let ring = || {
            Ring(Mutex::new(Kept {
                lines: VecDeque::new(),
                bytes: 0,
            }))
        };
        let many = ring();
        (0..3 * LINES).for_each(|n| many.keep(format!("line {n}\n").as_bytes()));
        let lines = many.lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines.last().unwrap(), &format!("line {}\n", 3 * LINES - 1));
        let long = ring();
        (0..LINES).for_each(|_| long.keep(&[b'x'; 2 * LINE]));
        let bytes: usize = long.lines().iter().map(String::len).sum();
        assert!(bytes <= BYTES && bytes > BYTES - 2 * LINE, "{bytes}");
    }
}
