//! The configuration: load it for every command, print its default file, check it, show what is in force.

use super::{
    Code, Failure,
    args::Global,
    output::{Output, Tone},
};
use crate::{
    config::{
        self, Config, ConfigErrors, HistoryConfig, HistoryKind, RegistryConfig, RegistryKind, SessionConfig,
        SessionTls, StoreKind, XdpPolicy,
        redis::RedisConfig,
        reload::{Reloader, Sources},
    },
    tokens::Tokens,
};
use humantime::format_duration;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// File, environment, flags.
pub(super) fn load(global: &Global) -> Result<Config, Failure> {
    Config::load(global.config.as_deref(), config::environment(), &sets(global)).map_err(mistaken)
}

/// The same, and the keys of host device tokens.
pub(super) fn load_with_tokens(global: &Global) -> Result<(Config, Tokens), Failure> {
    Config::load_with_tokens(global.config.as_deref(), config::environment(), &sets(global)).map_err(mistaken)
}

/// The same, for who runs by it.
pub(super) fn load_to_run(global: &Global) -> Result<(Config, Tokens, Reloader), Failure> {
    let sources = Sources {
        file: global.config.clone(),
        env: config::environment().collect(),
        sets: sets(global),
    };
    Config::load_to_run(sources).map_err(mistaken)
}

fn sets(global: &Global) -> Vec<String> {
    let mut sets = global.set.clone();
    sets.extend(global.instance.iter().map(|name| format!("node.instance={name}")));
    sets
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn mistaken(mistakes: ConfigErrors) -> Failure {
    Failure::new(Code::Config, mistakes.to_string())
}

/// The documented default file.
pub(super) fn default_file() -> String {
    Config::default_file()
}

/// Says that all is well, or lists every mistake.
pub(super) fn check(global: &Global, out: Output) -> Result<String, Failure> {
    load_with_tokens(global)?;
    out.print(&json!({ "ok": true }), |_, out| {
        out.tone(Tone::Good, "The configuration is valid.") + "\n"
    })
}

/// What is in force. Paths are shown with the instance applied; secrets are not shown.
pub(super) fn show(global: &Global, out: Output) -> Result<String, Failure> {
    let shown = shown(&load(global)?);
    let text = toml::to_string(&shown);
    let text = text.map_err(|e| Failure::new(Code::Failed, format!("writing the configuration: {e}")))?;
    out.print(&shown, |_, _| text)
}

fn shown(c: &Config) -> Value {
    json!({
        "node": { "name": c.node, "instance": c.instance.as_deref().unwrap_or("") },
        "paths": { "state": c.paths.state, "run": c.paths.run, "bpffs": c.paths.bpffs.parent() },
        "rooms": rooms(c),
        "trip": trip(c),
        "kernel": kernel(c),
        "session": session(&c.session),
        "tokens": tokens(c),
        "store": { "kind": store_kind(c.store.kind), "redis": redis(&c.store.redis) },
        "registry": registry(&c.registry),
        "history": history(&c.history),
        "patrol": { "every": format_duration(c.patrol.every).to_string() },
        "janus": janus(c),
        "livekit": livekit(c),
        "metrics": {
            "listen": c.metrics.listen.map_or("off".into(), |listen| listen.to_string()),
            "insecure": c.metrics.insecure,
        },
        "traces": {
            "endpoint": c.traces.endpoint.as_deref().unwrap_or_default(),
            "sample_percent": c.traces.sample_percent,
            "headers_file": c.traces.headers_file.clone().unwrap_or_default(),
            "ca_file": c.traces.ca_file.clone().unwrap_or_default(),
        },
        "health": {
            "listen": c.health.listen.map_or("off".into(), |listen| listen.to_string()),
            "insecure": c.health.insecure,
        },
        "audit": {
            "file": c.audit.file.as_ref().map_or("off".into(), |file| file.display().to_string()),
            "max_bytes": c.audit.max_bytes,
            "keep": c.audit.keep,
        },
        "log": { "filter": c.log.filter, "format": if c.log.json { "json" } else { "text" } },
    })
}

fn session(c: &SessionConfig) -> Value {
    let file = |pick: fn(&SessionTls) -> &PathBuf| c.tls.as_ref().map_or(Path::new(""), |tls| pick(tls));
    json!({
        "listen": c.listen,
        "insecure": c.insecure,
        "tls_cert": file(|tls| &tls.cert),
        "tls_key": file(|tls| &tls.key),
        "tls_client_ca": file(|tls| &tls.client_ca),
        "ping_every": format_duration(c.ping_every).to_string(),
        "pong_within": format_duration(c.pong_within).to_string(),
        "max_peers": c.max_peers,
        "admit_per_second": c.admit_per_second,
        "admit_burst": c.admit_burst,
        "max_rooms": c.max_rooms,
        "events_per_second": c.events_per_second,
        "event_burst": c.event_burst,
    })
}

fn rooms(c: &Config) -> Value {
    let r = &c.rules;
    json!({
        "heartbeat": format_duration(r.heartbeat).to_string(),
        "misses": r.misses,
        "warn_misses": r.warn_misses,
        "host_silence": format_duration(r.host_silence).to_string(),
        "idle": format_duration(r.idle).to_string(),
        "quota": r.quota,
        "prepare_within": format_duration(r.prepare_within).to_string(),
    })
}

fn trip(c: &Config) -> Value {
    let r = &c.rules;
    let after = r.trip_on_contradiction_after;
    json!({
        "mode": r.mode,
        "stuck_after": format_duration(r.stuck_after).to_string(),
        "isolation": format_duration(r.isolation).to_string(),
        "witness_window": format_duration(r.witness_window).to_string(),
        "release_fresh": format_duration(r.release_fresh).to_string(),
        "never_cut": r.never_cut,
        "cap_percent": r.cap_percent,
        "cap_window": format_duration(r.cap_window).to_string(),
        "trip_on_contradiction_after": after.map_or("off".into(), |d| format_duration(d).to_string()),
    })
}

fn kernel(c: &Config) -> Value {
    let k = &c.kernel;
    json!({
        "interfaces": k.interfaces,
        "xdp": match k.xdp {
            XdpPolicy::OnTrip => "on-trip",
            XdpPolicy::Always => "always",
            XdpPolicy::Off => "off",
        },
        "ports": format!("{}-{}", k.ports.start(), k.ports.end()),
        "max_slots": k.max_slots,
        "detach_on_stop": k.detach_on_stop,
        "log": k.log,
    })
}

fn tokens(c: &Config) -> Value {
    let t = &c.tokens;
    json!({
        "keys": t.keys.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "issuer": t.issuer.as_deref().unwrap_or(""),
        "audience": t.audience.as_deref().unwrap_or(""),
        "leeway": format_duration(t.leeway).to_string(),
    })
}

fn store_kind(kind: StoreKind) -> &'static str {
    match kind {
        StoreKind::Embedded => "embedded",
        StoreKind::Redis => "redis",
    }
}

fn registry(r: &RegistryConfig) -> Value {
    let kind = match r.kind {
        RegistryKind::Local => "local",
        RegistryKind::Etcd => "etcd",
    };
    let file = |file: &Option<PathBuf>| file.clone().unwrap_or_default();
    json!({
        "kind": kind,
        "etcd": {
            "endpoints": r.etcd.endpoints,
            "era": r.etcd.era,
            "ttl": format_duration(r.etcd.ttl).to_string(),
            "grace": format_duration(r.etcd.grace).to_string(),
            "username": r.etcd.username.clone().unwrap_or_default(),
            "password_file": file(&r.etcd.password_file),
            "ca_file": file(&r.etcd.ca_file),
            "cert_file": file(&r.etcd.cert_file),
            "key_file": file(&r.etcd.key_file),
        },
    })
}

fn history(h: &HistoryConfig) -> Value {
    let kind = match h.kind {
        HistoryKind::Embedded => "embedded",
        HistoryKind::Influx => "influx",
        HistoryKind::Off => "off",
    };
    let influx = &h.influx;
    json!({
        "kind": kind,
        "every": format_duration(h.every).to_string(),
        "max_age": format_duration(h.max_age).to_string(),
        "max_mib": h.max_mib,
        "reserve_mib": h.reserve_mib,
        "probes": h.probes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "influx": {
            "address": influx.address.as_ref().map(ToString::to_string).unwrap_or_default(),
            "database": influx.database,
            "username": influx.username.clone().unwrap_or_default(),
            "password_file": influx.password_file.clone().unwrap_or_default(),
            "spool_mib": influx.spool_mib,
        },
    })
}

fn redis(r: &RedisConfig) -> Value {
    let file = |path: &Option<PathBuf>| {
        path.as_ref()
            .map_or(String::new(), |path| path.display().to_string())
    };
    json!({
        "addresses": r.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cluster": r.cluster,
        "username": r.username.as_deref().unwrap_or(""),
        "password_file": file(&r.password_file),
        "tls": r.tls,
        "tls_ca": file(&r.tls_ca),
        "tls_cert": file(&r.tls_identity.0),
        "tls_key": file(&r.tls_identity.1),
        "timeout": format_duration(r.timeout).to_string(),
        "record_ttl": format_duration(r.record_ttl).to_string(),
        "events_kept": format_duration(r.events_kept).to_string(),
    })
}

fn livekit(c: &Config) -> Value {
    match &c.livekit {
        None => json!({ "api": "", "api_key": "", "api_secret_file": "" }),
        Some(l) => json!({
            "api": l.api,
            "api_key": l.api_key,
            "api_secret_file": l.api_secret_file,
            "webhook_listen": l.webhook_listen,
        }),
    }
}

fn janus(c: &Config) -> Value {
    match &c.janus {
        None => json!({ "admin_socket": "" }),
        Some(j) => json!({
            "admin_socket": j.admin_socket,
            "admin_secret": if j.admin_secret.0.is_empty() { "" } else { "***" },
            "events_listen": j.events_listen,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(sets: &[&str]) -> Value {
        let sets: Vec<String> = sets.iter().map(|s| (*s).into()).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = Config::load(Some(file.path()), std::iter::empty(), &sets).unwrap();
        shown(&config)
    }

    #[test]
    fn what_is_in_force_names_every_key_of_the_default_file_and_never_the_secret() {
        let shown = loaded(&[
            "janus.admin_socket=/run/janus.sock",
            "janus.admin_secret=hush",
            "livekit.api=127.0.0.1:7880",
            "livekit.api_key=key",
            "livekit.api_secret_file=/etc/voice-agent/livekit",
        ]);
        let file = Config::default_file().replace("\n#", "\n");
        let mut section = "";
        for line in file.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = name;
            } else if let Some((key, _)) = line.split_once(" = ")
                && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            {
                assert!(!shown[section][key].is_null(), "{section}.{key} is not shown");
            }
        }
        assert_eq!(shown["paths"]["bpffs"], "/sys/fs/bpf");
        assert!(!shown.to_string().contains("hush"));
    }

    #[test]
    fn what_is_shown_can_be_given_back_as_a_file() {
        let shown = loaded(&["node.name=n1", "trip.mode=shadow"]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml::to_string(&shown).unwrap()).unwrap();
        let again = Config::load(Some(file.path()), std::iter::empty(), &[]).unwrap();
        assert_eq!(super::shown(&again), shown);
    }

    #[test]
    fn values_are_shown_as_they_are_written_in_the_file() {
        let shown = loaded(&[
            "node.name=n1",
            "node.instance=two",
            "trip.stuck_after=2m",
            "kernel.xdp=off",
        ]);
        let text = toml::to_string(&shown).unwrap();
        assert!(text.contains("stuck_after = \"2m\"\n"));
        assert!(text.contains("xdp = \"off\"\n"));
        assert!(text.contains("run = \"/run/voice-agent-two\"\n"));
    }
}
