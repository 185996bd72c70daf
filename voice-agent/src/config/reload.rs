//! Reading the configuration again while the agent runs: keys that are `live` in the table are taken, all of them or none;
//! those that are not are named, and wait for a restart. The key files of tokens are read again too.

use super::{
    Config,
    error::{ConfigErrors, Origin},
    keys,
    load::Loader,
    value::Given,
};
use crate::tokens::Tokens;
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf};

/// What each key was given last, and where.
pub(super) type Values = BTreeMap<&'static str, (Given, Origin)>;

/// Where a configuration is read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `None`: [`DEFAULT_FILE`](super::DEFAULT_FILE), if it exists.
    pub file: Option<PathBuf>,
    /// The VOICE_AGENT_* variables.
    pub env: Vec<(String, String)>,
    /// Each `section.name=value`.
    pub sets: Vec<String>,
}

impl Sources {
    pub(super) fn read(&self) -> Loader {
        Loader::with(self.file.as_deref(), self.env.iter().cloned(), &self.sets)
    }
}

/// What a running agent goes by, and where to read it again.
#[derive(Debug)]
pub struct Reloader {
    sources: Sources,
    values: Values,
}

/// A configuration that was read again.
#[derive(Debug)]
pub struct Reloaded {
    /// What is in force now.
    pub config: Config,
    /// The keys of host device tokens, as their files hold them now.
    pub tokens: Tokens,
    /// The keys that have another value now.
    pub changed: Vec<Changed>,
    /// Keys that were given another value, which only a restart takes.
    pub waiting: Vec<&'static str>,
}

/// A key that was given another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// `section.name`
    pub key: &'static str,
    /// As it was written before.
    pub from: String,
    /// As it is written now.
    pub to: String,
}

/// Why a configuration was not taken. Nothing has changed then.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReloaded {
    /// It would not do for a start either.
    #[error(transparent)]
    Mistakes(#[from] ConfigErrors),
    /// It would do for a start, but not for this agent, which goes on with some of the old values.
    #[error("together with the values that only a restart changes ({waiting}), {mistakes}")]
    Together {
        /// Those keys.
        waiting: String,
        /// What does not fit.
        mistakes: ConfigErrors,
    },
}

impl Reloader {
    pub(super) fn new(sources: Sources, values: Values) -> Reloader {
        Reloader { sources, values }
    }

    /// Reads everything again. From then on what it returns counts as in force.
    ///
    /// # Errors
    /// Every mistake, as at a start, those in the key files of tokens too; or what does not fit to the values that stay.
    pub fn reload(&mut self) -> Result<Reloaded, NotReloaded> {
        let mut fresh = self.sources.read();
        let read = fresh.values.clone();
        let tokens = fresh.tokens();
        fresh.finish()?;
        let mut merged = Loader::new();
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        for key in keys::KEYS {
            // Both have every key, as each has a default.
            let (Some(before), Some(now)) = (self.values.get(key.path), read.get(key.path)) else {
                continue;
            };
            let (from, to) = (before.0.shown(), now.0.shown());
            match (from != to, key.live) {
                (false, _) => {}
                (true, true) => changed.push(Changed {
                    key: key.path,
                    from,
                    to,
                }),
                (true, false) => waiting.push(key.path),
            }
            let (given, origin) = if key.live { now } else { before };
            merged.set(key, given, origin.clone());
        }
        let values = merged.values.clone();
        let config = merged.finish().map_err(|mistakes| NotReloaded::Together {
            waiting: waiting.join(", "),
            mistakes,
        })?;
        self.values = values;
        Ok(Reloaded {
            config,
            tokens,
            changed,
            waiting,
        })
    }
}

#[cfg(test)]
mod tests;
