//! File, then environment, then flags: the later one wins. Every mistake is collected before any is reported.

use super::{
    Config, check,
    draft::Draft,
    env,
    error::{ConfigErrors, Mistake, Origin},
    file,
    keys::{self, Key},
    reload::{Reloader, Sources, Values},
    value::Given,
};
use crate::{
    media::livekit::Credentials,
    session::tls::{Tls, TlsError},
    tokens::{KeyMistake, Tokens},
};
use std::path::Path;

/// Read when no file is named; it need not exist then.
pub const DEFAULT_FILE: &str = "/etc/voice-agent/config.toml";

impl Config {
    /// Loads `file` (`None`: [`DEFAULT_FILE`], if it exists), then the VOICE_AGENT_* variables in `env` (see
    /// [`environment`](super::environment)), then `sets`, each `section.name=value`. Lists are separated by commas in
    /// the last two.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<Config, ConfigErrors> {
        Loader::with(file, env, sets).finish()
    }

    /// As [`Config::load`], and reads the key files of tokens and TLS: for who runs, and for who wants to know whether that would
    /// work. They need not be readable for others.
    ///
    /// # Errors
    /// Every mistake at once, those in the key files too.
    pub fn load_with_tokens(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<(Config, Tokens), ConfigErrors> {
        Loader::with(file, env, sets).finish_with_tokens()
    }

    /// As [`Config::load_with_tokens`], for who runs by it, and may be told to read it again.
    ///
    /// # Errors
    /// Every mistake at once, those in the key files too.
    pub fn load_to_run(sources: Sources) -> Result<(Config, Tokens, Reloader), ConfigErrors> {
        let loader = sources.read();
        let values = loader.values.clone();
        let (config, tokens) = loader.finish_with_tokens()?;
        Ok((config, tokens, Reloader::new(sources, values)))
    }
}

/// A draft, where each of its values came from, and what was wrong.
pub(super) struct Loader {
    draft: Draft,
    /// What was set last.
    pub(super) values: Values,
    mistakes: Vec<Mistake>,
}

impl Loader {
    pub(super) fn with(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        sets: &[String],
    ) -> Loader {
        let read = file::read(file.unwrap_or(Path::new(DEFAULT_FILE)), file.is_some());
        Loader::new().file(read).environment(env).flags(sets)
    }

    /// With every default.
    pub(super) fn new() -> Loader {
        let mut loader = Loader {
            draft: Draft::new(),
            values: Values::new(),
            mistakes: Vec::new(),
        };
        let defaults = keys::default_values();
        loader.mistakes.extend(defaults.mistakes);
        for (key, given, _) in defaults.values {
            loader.set(key, &given, Origin::Default);
        }
        loader
    }

    pub(super) fn file(mut self, read: file::FileValues) -> Loader {
        self.mistakes.extend(read.mistakes);
        for (key, given, origin) in read.values {
            self.set(key, &given, origin);
        }
        self
    }

    pub(super) fn environment(mut self, env: impl Iterator<Item = (String, String)>) -> Loader {
        for (name, value) in env {
            match env::key_of(&name, &value) {
                Some(Ok(key)) => self.set(key, &Given::Plain(value), Origin::Env(name)),
                Some(Err(mistake)) => self.mistakes.push(mistake),
                None => {}
            }
        }
        self
    }

    pub(super) fn flags(mut self, sets: &[String]) -> Loader {
        for set in sets {
            let Some((path, value)) = set.split_once('=') else {
                let problem = "is not of the form section.name=value";
                self.mistakes
                    .push(Mistake::key(keys::leading_name(set), Origin::Flag, problem));
                continue;
            };
            match keys::find(path.trim()) {
                Some(key) => self.set(key, &Given::Plain(value.into()), Origin::Flag),
                None => {
                    let problem = keys::unknown("key", path, keys::KEYS.iter().map(|key| key.path));
                    self.mistakes.push(Mistake::key(path, Origin::Flag, problem));
                }
            }
        }
        self
    }

    pub(super) fn set(&mut self, key: &'static Key, given: &Given, origin: Origin) {
        if key.kind.apply(given, &mut self.draft).is_some() {
            self.values.insert(key.path, (given.clone(), origin));
            return;
        }
        let shown = if key.secret { "***".into() } else { given.shown() };
        let problem = format!("allowed: {}", key.kind.allowed());
        self.mistakes
            .push(Mistake::value(key.path, origin, &shown, problem));
    }

    /// Reads the key files of tokens; what is wrong with them is among the mistakes.
    pub(super) fn tokens(&mut self) -> Tokens {
        Tokens::load(&self.draft.tokens).unwrap_or_else(|mistakes| {
            let origin = self.origin("tokens.keys");
            let mistake =
                |KeyMistake { key, problem }| Mistake::value("tokens.keys", origin.clone(), &key, problem);
            self.mistakes.extend(mistakes.into_iter().map(mistake));
            Tokens::default()
        })
    }

    fn finish_with_tokens(mut self) -> Result<(Config, Tokens), ConfigErrors> {
        let tokens = self.tokens();
        if let Err(TlsError { key, problem }) = self.draft.tls().as_ref().map_or(Ok(()), Tls::check) {
            let origin = self.origin(key);
            self.mistakes.push(Mistake::key(key, origin, problem));
        }
        if let Some(livekit) = self.draft.livekit.whole()
            && let Err(problem) = Credentials::read(&livekit.api_key, &livekit.api_secret_file)
        {
            let key = "livekit.api_secret_file";
            self.mistakes.push(Mistake::key(key, self.origin(key), problem));
        }
        self.finish().map(|config| (config, tokens))
    }

    fn origin(&self, key: &str) -> Origin {
        let given = self.values.get(key);
        given.map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    pub(super) fn finish(mut self) -> Result<Config, ConfigErrors> {
        self.mistakes.extend(check::together(&self.draft, &self.values));
        let node = check::node_name(self.draft.node.as_ref());
        match node {
            Ok(node) if self.mistakes.is_empty() => Ok(self.draft.finish(node)),
            Ok(_) => Err(ConfigErrors(self.mistakes)),
            Err(mistake) => {
                self.mistakes.push(mistake);
                Err(ConfigErrors(self.mistakes))
            }
        }
    }
}
