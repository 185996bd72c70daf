//! What is wrong with a configuration: every mistake, each with its key, where it was made and what is allowed.

use std::{fmt, path::PathBuf};

/// So many mistakes are printed; the rest is counted.
const SHOWN: usize = 50;
/// What was given is cut to so many characters.
const GIVEN_MAX: usize = 80;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file; line 0 means the file as a whole.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// `--set`.
    Flag,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, as `section.name`; for text that is not TOML, what stands where a key should.
    pub key: String,
    /// Where it was made.
    pub origin: Origin,
    /// What was given, cut to 80 characters; secrets as `***`. `None`: the key itself is wrong.
    pub given: Option<String>,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

/// Every mistake of a configuration. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Mistake>);

impl Mistake {
    /// A value that is not allowed.
    pub(super) fn value(key: &str, origin: Origin, given: &str, problem: impl Into<String>) -> Mistake {
        Mistake {
            key: key.into(),
            origin,
            given: Some(cut(given)),
            problem: problem.into(),
        }
    }

    /// A key that is not known, or text where none should be.
    pub(super) fn key(key: &str, origin: Origin, problem: impl Into<String>) -> Mistake {
        Mistake {
            key: if key.is_empty() {
                "(no key)".into()
            } else {
                cut(key)
            },
            origin,
            given: None,
            problem: problem.into(),
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(GIVEN_MAX).collect()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line: 0 } => write!(f, "{}", path.display()),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => write!(f, "environment {name}"),
            Origin::Flag => f.write_str("--set"),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if let Some(given) = &self.given {
            write!(f, " = {given:?}")?;
        }
        write!(f, " ({}): {}", self.origin, self.problem)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} mistake{many}:", self.0.len())?;
        for mistake in self.0.iter().take(SHOWN) {
            write!(f, "\n  {mistake}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}
