//! The configuration as users meet it.

use super::{Config, XdpPolicy, file, load::Loader};
use crate::config::{ConfigErrors, Mistake, Origin};
use proptest::prelude::*;
use std::{path::Path, time::Duration};
use voice_room::{Rules, config::Mode};

fn load(toml: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Config, ConfigErrors> {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    Loader::new()
        .file(file::parse(toml, Path::new("test.toml")))
        .environment(env)
        .flags(&sets)
        .finish()
}

fn mistakes(toml: &str, env: &[(&str, &str)], sets: &[&str]) -> Vec<Mistake> {
    load(toml, env, sets).unwrap_err().0
}

fn only_mistake(toml: &str) -> Mistake {
    let mut all = mistakes(toml, &[], &[]);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.rules, Rules::default());
    assert_eq!(config.kernel.ports, 50_000..=60_000);
    assert_eq!(config.kernel.max_slots, 4_096);
    assert_eq!(config.session.listen.to_string(), "127.0.0.1:7400");
    assert_eq!(config.session.ping_every, Duration::from_secs(30));
    assert_eq!(config.session.pong_within, Duration::from_secs(15));
    assert_eq!(config.paths.state, Path::new("/var/lib/voice-agent"));
    assert_eq!(config.paths.bpffs, Path::new("/sys/fs/bpf/voice-agent"));
    assert!(config.janus.is_none());
    assert_eq!(config.metrics.listen, Some(([127, 0, 0, 1], 7402).into()));
    assert_eq!(config.log.filter, "info,fjall=warn,lsm_tree=warn");
}

#[test]
fn every_mistake_about_redis_is_told_at_once_with_its_key() {
    let file = "store.redis.tls_key = \"/etc/key\"\nstore.redis.username = \"agent\"\nstore.redis.addresses = [\"a:1\", \"b:2\"]\n\
                [store.redis.nothing]\n";
    let said = load(file, &[], &[]).unwrap_err().to_string();
    for key in ["tls_key", "username", "addresses"] {
        assert!(said.contains(&format!("store.redis.{key}")), "{said}");
    }
    assert!(said.contains("store.redis.nothing"), "{said}");
    let said = load(
        "[store]\nkind = \"redis\"\n[store.redis]\ntimeout = \"1ms\"\n",
        &[],
        &[],
    );
    let said = said.unwrap_err().to_string();
    assert!(said.contains("store.redis.timeout"), "{said}");
    let said = load("[store]\nkind = \"redis\"\n", &[], &[])
        .unwrap_err()
        .to_string();
    assert!(said.contains("name the server"), "{said}");
    let kept = load(
        "[store]\nkind = \"redis\"\n[store.redis]\naddresses = [\"[::1]:6379\"]\n",
        &[],
        &[],
    )
    .unwrap();
    assert_eq!(kept.store.redis.addresses[0].to_string(), "[::1]:6379");
}

#[test]
fn the_default_file_uncommented_gives_the_defaults_and_commented_does_too() {
    let commented = Config::default_file();
    let is_key = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|l| l.starts_with(char::is_alphabetic))
    };
    let uncommented: String = commented
        .lines()
        .map(|line| if is_key(line) { &line[1..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(
        uncommented
            .lines()
            .filter(|l| l.contains(" = ") && !l.starts_with('#'))
            .count(),
        98
    );
    let defaults = format!("{:?}", load("", &[], &[]).unwrap());
    assert_eq!(format!("{:?}", load(&commented, &[], &[]).unwrap()), defaults);
    assert_eq!(format!("{:?}", load(&uncommented, &[], &[]).unwrap()), defaults);
}

#[test]
fn every_key_has_a_known_section_a_name_of_its_own_and_documentation() {
    let mut seen = std::collections::BTreeSet::new();
    for key in super::keys::KEYS {
        assert!(
            super::keys::SECTIONS.iter().any(|(s, _)| *s == key.section()),
            "{}",
            key.path
        );
        assert!(seen.insert(key.env()), "{} twice", key.env());
        assert!(
            !key.doc.is_empty() && key.doc.lines().all(|l| l.len() <= 118),
            "{}",
            key.path
        );
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let toml = "[trip]\nstuck_after = \"100s\"\nisolation = \"100s\"\ncap_window = \"100s\"\n";
    let env = [
        ("VOICE_AGENT_TRIP_ISOLATION", "200s"),
        ("VOICE_AGENT_TRIP_CAP_WINDOW", "200s"),
        ("HOME", "/root"),
    ];
    let rules = load(toml, &env, &["trip.cap_window=300s"]).unwrap().rules;
    let times = [rules.stuck_after, rules.isolation, rules.cap_window].map(|t| t.as_secs());
    assert_eq!(times, [100, 200, 300]);
}

#[test]
fn every_kind_of_key_is_read_from_the_file_and_from_a_flag() {
    let toml = "[trip]\nmode = \"shadow\"\nnever_cut = [\"a\", \"b\"]\ntrip_on_contradiction_after = \"1h\"\n\
                [kernel]\nxdp = \"off\"\nports = \"40000-40010\"\nlog = true\ninterfaces = [\"eth0\"]\n\
                [janus]\nadmin_socket = \"/run/janus\"\nadmin_secret = \"x\"\n";
    let sets = [
        "trip.mode=shadow",
        "trip.never_cut=a, b",
        "trip.trip_on_contradiction_after=1h",
        "kernel.xdp=off",
        "kernel.ports=40000-40010",
        "kernel.log=true",
        "kernel.interfaces=eth0",
        "janus.admin_socket=/run/janus",
        "janus.admin_secret=x",
    ];
    let (file, flags) = (load(toml, &[], &[]).unwrap(), load("", &[], &sets).unwrap());
    assert_eq!(format!("{file:?}"), format!("{flags:?}"));
    assert_eq!(file.rules.mode, Mode::Shadow);
    assert_eq!(file.rules.never_cut.len(), 2);
    assert_eq!(file.kernel.xdp, XdpPolicy::Off);
    assert_eq!(file.kernel.ports, 40_000..=40_010);
    assert_eq!(file.janus.unwrap().admin_secret.0, "x");
}

#[test]
fn every_mistake_is_reported_at_once_with_its_key_its_place_and_what_is_allowed() {
    let toml =
        "[rooms]\nheartbeat = 5\nhartbeat = \"5s\"\n\n[tripp]\nmode = \"on\"\n[trip]\ncap_percent = 101\n";
    let env = [
        ("VOICE_AGENT_TRIP_STUCK_AFTR", "1s"),
        ("VOICE_AGENT_KERNEL_LOG", "yes"),
    ];
    let said = ConfigErrors(mistakes(toml, &env, &["session.max_peers", "log.format=xml"])).to_string();
    let expected = "the configuration has 8 mistakes:\n  \
        rooms.hartbeat (test.toml:3): no such key; did you mean rooms.heartbeat?\n  \
        tripp (test.toml:5): no such section; did you mean trip?\n  \
        rooms.heartbeat = \"5\" (test.toml:2): allowed: a duration from \"100ms\" to \"1m\"\n  \
        trip.cap_percent = \"101\" (test.toml:8): allowed: a whole number from 1 to 100\n  \
        VOICE_AGENT_TRIP_STUCK_AFTR (environment VOICE_AGENT_TRIP_STUCK_AFTR): no such variable; did you mean \
        VOICE_AGENT_TRIP_STUCK_AFTER?\n  \
        kernel.log = \"yes\" (environment VOICE_AGENT_KERNEL_LOG): allowed: true or false\n  \
        session.max_peers (--set): is not of the form section.name=value\n  \
        log.format = \"xml\" (--set): allowed: one of \"text\", \"json\"";
    assert_eq!(said, expected);
}

#[test]
fn a_key_outside_its_section_is_answered_with_the_key_that_was_meant() {
    let mistake = only_mistake("stuck_after = \"90s\"\n");
    assert_eq!(mistake.problem, "no such key; did you mean trip.stuck_after?");
}

#[test]
fn text_that_is_not_toml_is_reported_by_line_beside_the_other_mistakes() {
    let all = mistakes("[trip]\nmode = \nisolation = \"0s\"\n", &[], &[]);
    assert_eq!(all[0].key, "mode");
    assert_eq!(
        all[0].origin,
        Origin::File {
            path: "test.toml".into(),
            line: 2
        }
    );
    assert_eq!(all[1].key, "trip.isolation");
    assert_eq!(all.len(), 2, "{all:?}");
}

#[test]
fn the_audit_log_lies_in_the_state_directory_of_its_instance_unless_said_otherwise() {
    let of = |text: &str| load(text, &[], &[]).unwrap().audit.file;
    assert_eq!(of(""), Some("/var/lib/voice-agent/audit.jsonl".into()));
    assert_eq!(
        of("[node]\ninstance = \"two\"\n"),
        Some("/var/lib/voice-agent-two/audit.jsonl".into())
    );
    assert_eq!(of("[audit]\nfile = \"off\"\n"), None);
    assert_eq!(of("[audit]\nfile = \"/srv/a\"\n"), Some("/srv/a".into()));
    assert!(load("[audit]\nfile = \"a\"\n", &[], &[]).is_err());
}

#[test]
fn metrics_can_be_off_and_beyond_loopback_need_the_word_insecure() {
    let off = load("[metrics]\nlisten = \"off\"\n", &[], &[]).unwrap();
    assert_eq!(off.metrics.listen, None);
    let open = "[metrics]\nlisten = \"0.0.0.0:7402\"\n";
    let refused = load(open, &[], &[]).unwrap_err().to_string();
    assert!(refused.contains("metrics.insecure = true"), "{refused}");
    let accepted = load(&format!("{open}insecure = true\n"), &[], &[]).unwrap();
    assert!(accepted.metrics.insecure);
    assert!(load("[metrics]\nlisten = \"7402\"\n", &[], &[]).is_err());
}

#[test]
fn a_listener_beyond_loopback_needs_the_word_insecure() {
    let mistake = only_mistake("[session]\nlisten = \"0.0.0.0:7400\"\n");
    assert_eq!(mistake.key, "session.listen");
    assert_eq!(
        mistake.origin,
        Origin::File {
            path: "test.toml".into(),
            line: 2
        }
    );
    assert!(mistake.problem.contains("session.insecure = true"));
    assert!(
        load(
            "[session]\nlisten = \"0.0.0.0:7400\"\ninsecure = true\n",
            &[],
            &[]
        )
        .is_ok()
    );
}

#[test]
fn keys_that_do_not_fit_together_are_refused() {
    let broken = [
        (
            "[janus]\nevents_listen = \"10.0.0.1:7401\"\n",
            "janus.events_listen",
        ),
        ("[rooms]\nwarn_misses = 5\n", "rooms.warn_misses"),
        ("[trip]\nstuck_after = \"24s\"\n", "trip.stuck_after"),
        ("[rooms]\nheartbeat = \"19s\"\n", "trip.stuck_after"),
        ("[janus]\nadmin_secret = \"x\"\n", "janus.admin_secret"),
    ];
    for (toml, key) in broken {
        assert_eq!(only_mistake(toml).key, key);
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let broken = [
        "trip.cap_percent=0",
        "trip.isolation=0s",
        "trip.isolation=1y",
        "trip.isolation=5",
        "kernel.ports=60000-50000",
        "kernel.ports=80-60000",
        "kernel.ports=50000",
        "kernel.ports=50000-70000",
        "kernel.interfaces=eth0/1",
        "kernel.interfaces=averyverylonginterface",
        "node.instance=A",
        "node.instance=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "node.name=a b",
        "paths.state=relative",
        "paths.state=/",
        "trip.never_cut=a/b",
        "rooms.misses=-1",
        "session.listen=localhost:1",
        "log.filter=a=b=c",
    ];
    for set in broken {
        let all = mistakes("", &[], &[set]);
        assert_eq!(all.len(), 1, "{set}: {all:?}");
        assert_eq!(all[0].key, set.split('=').next().unwrap());
    }
}

#[test]
fn an_instance_is_part_of_every_directory() {
    let config = load("", &[], &["node.instance=b2", "paths.state=/data/va"]).unwrap();
    assert_eq!(config.paths.state, Path::new("/data/va-b2"));
    assert_eq!(config.paths.run, Path::new("/run/voice-agent-b2"));
    assert_eq!(config.paths.pin_root(), Path::new("/sys/fs/bpf/voice-agent-b2"));
}

#[test]
fn a_secret_is_in_no_message_and_no_debug_output() {
    let config = load(
        "",
        &[],
        &["janus.admin_secret=hunter2", "janus.admin_socket=/run/janus"],
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    for wrong in [
        "[janus]\nadmin_secret = [\"hunter2\"]\n",
        "[janus]\nadmin_secret: hunter2\n",
        "[janus]\nadmin_secret = hunter2\n",
    ] {
        let said = load(wrong, &[], &[]).unwrap_err().to_string();
        assert!(
            said.contains("admin_secret") && !said.contains("hunter2"),
            "{said}"
        );
    }
    assert!(
        !load(
            "",
            &[],
            &["janus.admin_secret=hunter2", "janus.admin_secret hunter2"]
        )
        .unwrap_err()
        .to_string()
        .contains("hunter2")
    );
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_of_our_name_are_not_mistakes() {
    let env = [
        ("VOICE_AGENT_SERVICE_HOST", "10.0.0.1"),
        ("VOICE_AGENT_SERVICE_PORT_GRPC", "7400"),
        ("VOICE_AGENT_PORT", "tcp://10.0.0.1:7400"),
        ("VOICE_AGENT_PORT_7400_TCP_ADDR", "10.0.0.1"),
        ("VOICE_AGENT_METRICS_PORT_9100_TCP", "tcp://10.0.0.1:9100"),
        ("VOICE_AGENT_CONFIG", "/etc/x.toml"),
    ];
    assert!(load("", &env, &[]).is_ok());
}

#[test]
fn an_empty_key_is_a_mistake_that_is_still_named() {
    assert_eq!(mistakes("\"\" = 1\n", &[], &["", "=1"]).len(), 3);
    assert!(
        mistakes("\"\" = 1\n", &[], &["", "=1"])
            .iter()
            .all(|m| m.key == "(no key)")
    );
}

#[test]
fn a_named_file_must_exist_and_the_default_file_need_not() {
    let missing = Path::new("/nonexistent/config.toml");
    let err = Config::load(Some(missing), std::iter::empty(), &[]).unwrap_err();
    assert!(err.to_string().contains("/nonexistent/config.toml"), "{err}");
    assert!(file::read(missing, false).mistakes.is_empty());
}

#[test]
fn a_file_that_is_not_text_or_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bytes in [vec![0xff_u8; 10], vec![b'\n'; (1 << 20) + 1]] {
        let path = dir.path().join("config.toml");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(file::read(&path, true).mistakes.len(), 1);
    }
}

proptest! {
    #[test]
    fn garbage_in_the_file_never_panics_and_every_mistake_names_a_key(text in "\\PC*|[a-z.\\[\\]=\" \n0-9#{}',]{0,200}") {
        if let Err(errors) = load(&text, &[], &[]) {
            prop_assert!(!errors.0.is_empty());
            prop_assert!(errors.0.iter().all(|m| !m.key.is_empty() && !m.problem.is_empty()));
        }
    }

    #[test]
    fn a_garbage_value_never_panics_and_a_refusal_names_its_key(
        at in 0..super::keys::KEYS.len(), value in "\\PC*|-?[0-9]{1,30}(s|ms|y|h)?", as_toml in any::<bool>(),
    ) {
        let key = &super::keys::KEYS[at];
        let toml = format!("[{}]\n{} = {value}\n", key.section(), key.name());
        let set = format!("{}={value}", key.path);
        let result = if as_toml { load(&toml, &[], &[]) } else { load("", &[], &[&set]) };
        if let Err(errors) = result {
            prop_assert!(errors.0.iter().all(|m| !m.key.is_empty()));
            // A value may break a rule that is blamed on another key, or end the line and begin another.
            let cross = ["trip.stuck_after", "rooms.warn_misses"];
            let ours = |m: &Mistake| m.key == key.path || cross.contains(&m.key.as_str());
            prop_assert!(as_toml || errors.0.iter().all(ours), "{errors}");
        }
    }
}

/// A store for agents that share rooms.
const REDIS: &str = "[store]\nkind = \"redis\"\nredis.addresses = [\"10.0.0.2:6379\"]\n";

#[test]
fn etcd_with_a_store_that_no_other_agent_can_read_is_refused() {
    let etcd = "[registry]\nkind = \"etcd\"\netcd.endpoints = [\"http://10.0.0.1:2379\"]\n";
    let refused = mistakes(etcd, &[], &[]);
    assert_eq!(refused.len(), 1, "{refused:?}");
    let told = refused[0].to_string();
    assert!(
        told.contains("registry.kind") && told.contains("store.kind to redis"),
        "{told}"
    );
    assert!(load(&format!("{REDIS}{etcd}"), &[], &[]).is_ok());
}

#[test]
fn etcd_keys_are_read_from_a_section_of_their_own() {
    let toml = "[registry]\nkind = \"etcd\"\n[registry.etcd]\nendpoints = [\"http://10.0.0.1:2379\"]\nera = 3\nttl = \"10s\"\n";
    let registry = load(&format!("{REDIS}{toml}"), &[], &[]).unwrap().registry;
    assert_eq!(registry.kind, crate::config::RegistryKind::Etcd);
    assert_eq!(
        (
            registry.etcd.era,
            registry.etcd.ttl.as_secs(),
            registry.etcd.grace.as_secs()
        ),
        (3, 10, 300)
    );
    let env = [("VOICE_AGENT_REGISTRY_ETCD_ENDPOINTS", "http://a:1,http://b:2")];
    assert_eq!(load("", &env, &[]).unwrap().registry.etcd.endpoints.len(), 2);
}

#[test]
fn what_does_not_fit_together_in_the_etcd_keys_is_told_all_at_once() {
    let keys = |toml: &str| {
        let all = mistakes(
            &format!("{REDIS}[registry]\nkind = \"etcd\"\n[registry.etcd]\n{toml}"),
            &[],
            &[],
        );
        all.into_iter()
            .map(|m| m.key.replace("registry.etcd.", ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(""), ["endpoints"]);
    let bad = "endpoints = [\"10.0.0.1:2379\"]\nttl = \"1s\"\nera = -1\nca_file = \"relative\"\n";
    let mut told = keys(bad);
    told.sort();
    assert_eq!(told, ["ca_file", "endpoints", "era", "ttl"]);
    for endpoint in [
        "http://h",
        "ftp://h:1",
        "http://u:p@h:1",
        "http://h:1/path",
        "http://h:1?x=1",
        "",
    ] {
        assert_eq!(
            keys(&format!("endpoints = [\"{endpoint}\"]\n")),
            ["endpoints"],
            "{endpoint}"
        );
    }
    let one = "endpoints = [\"http://127.0.0.1:2379\"]\n";
    assert_eq!(keys(&format!("{one}ttl = \"2500ms\"\n")), ["ttl"]);
    assert_eq!(keys(&format!("{one}username = \"u\"\n")), ["username"]);
    assert_eq!(keys(&format!("{one}password_file = \"/p\"\n")), ["password_file"]);
    assert_eq!(keys(&format!("{one}cert_file = \"/c\"\n")), ["cert_file"]);
    assert_eq!(keys(&format!("{one}ca_file = \"/c\"\n")), ["ca_file"]);
    assert_eq!(keys("endpoints = [\"https://h:1\"]\n"), ["endpoints"]);
    // Readable for all on the way.
    assert_eq!(
        keys("endpoints = [\"http://h:1\"]\nusername = \"u\"\npassword_file = \"/p\"\n"),
        ["endpoints"]
    );
}
