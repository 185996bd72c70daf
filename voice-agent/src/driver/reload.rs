//! SIGHUP: the configuration is read again and handed to whom it concerns. With one mistake in it nothing changes.

use super::{Driver, Handle, Stopped, clock::now, start::rules};
use crate::{
    config::reload::{Changed, NotReloaded, Reloaded, Reloader},
    session::Sessions,
    supervisor::Supervisor,
    telemetry::{Counter, audit::Line, logs::Filter},
};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::signal::unix::Signal;
use voice_room::{Input, Rules, timeline::Actor};

/// Who is told of another configuration.
pub(super) struct Reload {
    pub(super) reloader: Reloader,
    pub(super) handle: Handle,
    pub(super) sessions: Sessions,
    pub(super) log: Filter,
    pub(super) supervisor: Supervisor,
    /// `kernel.detach_on_stop`
    pub(super) detach: Arc<AtomicBool>,
}

impl Reload {
    /// Reads it again at each signal, until the driver ends.
    pub(super) async fn at_each(mut self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            self.supervisor.reloading(now().mono);
            let taken = match self.reloader.reload() {
                Ok(reloaded) => self.take(reloaded).await,
                Err(problem) => {
                    self.refuse(&problem);
                    Ok(())
                }
            };
            self.supervisor.ready().await;
            if taken == Err(Stopped) {
                return;
            }
        }
    }

    async fn take(&self, reloaded: Reloaded) -> Result<(), Stopped> {
        let Reloaded {
            config,
            tokens,
            changed,
            waiting,
        } = reloaded;
        for Changed { key, from, to } in &changed {
            tracing::info!(key, from, to, "reloaded");
        }
        if !waiting.is_empty() {
            tracing::warn!(keys = waiting.join(", "), "other values wait for a restart");
        }
        if let Err(error) = self.log.set(&config.log.filter) {
            tracing::error!(%error, "log.filter is as before");
        }
        let note = match waiting.join(", ") {
            keys if keys.is_empty() => keys,
            keys => format!("; waits for a restart: {keys}"),
        };
        self.supervisor.note(&note);
        if !config.tokens.keys.is_empty() {
            let keys: Vec<String> = tokens
                .keys()
                .map(|(id, algorithm)| format!("{id}:{algorithm}"))
                .collect();
            tracing::info!(keys = keys.join(", "), "the key files of tokens were read again");
        }
        self.sessions.set_tokens(tokens);
        self.detach.store(config.kernel.detach_on_stop, Ordering::Relaxed);
        self.handle.reload(rules(&config), changed).await?;
        Counter::ConfigReloaded.count();
        tracing::info!("the configuration was read again");
        Ok(())
    }

    fn refuse(&self, problem: &NotReloaded) {
        Counter::ConfigRefused.count();
        tracing::error!("reload refused, nothing was changed: {problem}");
        self.supervisor
            .note("; the last reload was refused: voice-agent config check");
    }
}

impl Driver {
    /// Goes on under these rules. Who sent the signal is not known.
    pub(super) fn reload(&mut self, rules: Rules, changed: &[Changed]) {
        self.mode.set(rules.mode);
        self.take(Input::Rules(Box::new(rules)));
        let somebody = Actor::Operator { uid: None };
        let line = Line::new("config_reloaded", somebody, now().wall);
        self.audit.write(line.arguments(json!({ "changed": changed })));
    }
}
