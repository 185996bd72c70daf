//! Adding up the result lines of test binaries.

use std::process::ExitStatus;

/// How `timeout` says that it had to stop a program.
const TIMED_OUT: i32 = 124;

/// What one or more test binaries said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
    /// Names of tests that failed, and binaries that ended without a result.
    pub(super) problems: Vec<String>,
}

impl Summary {
    /// Reads a line of a test binary's output; most say nothing.
    pub(super) fn read(&mut self, line: &str) {
        let line = plain(line);
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            self.ignored += count(result, "ignored");
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|test| test.strip_suffix(" ... FAILED"))
        {
            self.problems.push(name.to_string());
        }
    }

    /// Reads how the binary ended. One that hung is a failure, and so is one that fails without having counted any.
    pub(super) fn end(&mut self, status: ExitStatus) {
        let problem = match status.code() {
            Some(TIMED_OUT) => "the test binary hung and was stopped".to_string(),
            _ if status.success() || self.failed > 0 => return,
            _ => format!("the test binary ended without a result ({status})"),
        };
        self.failed += 1;
        self.problems.push(problem);
    }

    /// Adds another's numbers.
    pub(super) fn add(&mut self, other: &Summary) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.problems.extend(other.problems.iter().cloned());
    }
}

/// The number before a word, as in "3 passed"; zero when it is not there.
fn count(result: &str, word: &str) -> u64 {
    let mut words = result.split([' ', ';', '.']).filter(|part| !part.is_empty());
    let mut last = None;
    words
        .find_map(|part| {
            if part == word {
                Some(last)
            } else {
                last = part.parse().ok();
                None
            }
        })
        .flatten()
        .unwrap_or(0)
}

/// The line without the escapes of colours.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, escape)) = rest.split_once('\x1b') {
        text.push_str(before);
        // "[32m", or terminfo's reset "(B"
        rest = escape
            .strip_prefix("(B")
            .or_else(|| escape.split_once('m').map(|(_, after)| after))
            .unwrap_or_default();
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn read(output: &str) -> Summary {
        let mut summary = Summary::default();
        output.lines().for_each(|line| summary.read(line));
        summary
    }

    #[test]
    fn result_lines_of_several_binaries_are_added_up() {
        let summary = read(
            "running 3 tests\n\
             test a ... ok\n\
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s\n\
             test result: FAILED. 30 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.30s\n",
        );
        assert_eq!((summary.passed, summary.failed, summary.ignored), (42, 2, 1));
    }

    #[test]
    fn a_test_that_failed_is_named_and_its_own_output_is_not_taken_for_a_result() {
        let summary = read("test core::a_room_is_cut ... FAILED\nit said: test result: 9 failed\n");
        assert_eq!(summary.problems, ["core::a_room_is_cut"]);
        assert_eq!(summary.failed, 0);
    }

    #[test]
    fn colours_do_not_hide_a_result() {
        let summary = read(
            "test a ... \x1b[31mFAILED\x1b(B\x1b[m\n\
             test result: \x1b[31mFAILED\x1b[m. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((summary.passed, summary.failed), (1, 1));
        assert_eq!(summary.problems, ["a"]);
    }

    #[test]
    fn a_binary_that_dies_counts_as_a_failure() {
        let mut summary = read("running 9 tests\n");
        summary.end(ExitStatus::from_raw(9));
        assert_eq!(summary.failed, 1);
        assert_eq!(summary.problems.len(), 1);
    }

    #[test]
    fn a_counted_failure_is_not_counted_again_by_the_exit_code() {
        let mut summary = read("test result: FAILED. 0 passed; 2 failed; 0 ignored\n");
        summary.end(ExitStatus::from_raw(101 << 8));
        assert_eq!(summary.failed, 2);
    }

    #[test]
    fn a_binary_that_hangs_after_a_failure_counts_besides_it() {
        let mut summary = read("test a ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n");
        summary.end(ExitStatus::from_raw(TIMED_OUT << 8));
        assert_eq!(summary.failed, 2);
    }

    #[test]
    fn a_good_end_adds_nothing() {
        let mut summary = Summary::default();
        summary.end(ExitStatus::from_raw(0));
        assert_eq!(summary, Summary::default());
    }
}
