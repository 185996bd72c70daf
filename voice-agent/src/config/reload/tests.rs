use super::*;
use std::{fs, time::Duration};
use voice_room::config::Mode;

/// A file, and an agent that was started with it.
struct Started {
    file: tempfile::NamedTempFile,
    reloader: Reloader,
}

fn started(text: &str, sets: &[&str]) -> Started {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let sources = Sources {
        file: Some(file.path().into()),
        env: Vec::new(),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
    };
    let (_, _, reloader) = Config::load_to_run(sources).unwrap();
    Started { file, reloader }
}

impl Started {
    fn reload(&mut self, text: &str) -> Result<Reloaded, NotReloaded> {
        fs::write(self.file.path(), text).unwrap();
        self.reloader.reload()
    }
}

#[test]
fn a_live_key_is_taken_and_told_and_the_next_reload_compares_with_it() {
    let mut agent = started("[trip]\nmode = \"shadow\"\n", &[]);
    let reloaded = agent.reload("[trip]\nmode = \"enforce\"\n").unwrap();
    let change = Changed {
        key: "trip.mode",
        from: "shadow".into(),
        to: "enforce".into(),
    };
    assert_eq!((reloaded.changed, reloaded.waiting), (vec![change], vec![]));
    assert_eq!(reloaded.config.rules.mode, Mode::Enforce);
    let again = agent.reload("[trip]\nmode = \"enforce\"\n").unwrap();
    assert_eq!((again.changed, again.waiting), (vec![], vec![]));
}

#[test]
fn a_key_that_needs_a_restart_keeps_its_value_and_is_named_until_there_is_one() {
    let mut agent = started("", &[]);
    let text = "[session]\nlisten = \"127.0.0.1:9\"\n[rooms]\nidle = \"7s\"\n";
    for changes in [1, 0] {
        let reloaded = agent.reload(text).unwrap();
        assert_eq!(reloaded.changed.len(), changes);
        assert_eq!(reloaded.waiting, ["session.listen"]);
        assert_eq!(reloaded.config.session.listen.port(), 7400);
        assert_eq!(reloaded.config.rules.idle, Duration::from_secs(7));
    }
}

#[test]
fn a_configuration_with_one_mistake_changes_nothing_not_even_what_is_right_in_it() {
    let mut agent = started("", &[]);
    let wrong = "[trip]\nmode = \"shadow\"\n[kernel]\nports = \"no\"\n[rooms]\nmises = 3\n";
    let NotReloaded::Mistakes(mistakes) = agent.reload(wrong).unwrap_err() else {
        panic!("not the mistakes");
    };
    assert_eq!(mistakes.0.len(), 2, "{mistakes}");
    let after = agent.reload("").unwrap();
    assert_eq!((after.changed, after.config.rules.mode), (vec![], Mode::Enforce));
}

#[test]
fn a_file_that_is_gone_is_a_mistake_and_not_a_return_to_the_defaults() {
    let mut agent = started("[trip]\nmode = \"shadow\"\n", &[]);
    fs::remove_file(agent.file.path()).unwrap();
    let said = agent.reloader.reload().unwrap_err().to_string();
    assert!(said.contains("cannot be read"), "{said}");
}

#[test]
fn what_fits_the_file_but_not_the_values_that_wait_for_a_restart_is_refused() {
    let mut agent = started("", &[]);
    let text = "[rooms]\nheartbeat = \"1s\"\n[trip]\nstuck_after = \"10s\"\n";
    let said = agent.reload(text).unwrap_err().to_string();
    for part in [
        "only a restart changes (rooms.heartbeat)",
        "trip.stuck_after",
        "at least \"25s\"",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(agent.reload("").unwrap().changed, []);
}

#[test]
fn flags_stay_above_the_file() {
    let mut agent = started("", &["trip.mode=shadow"]);
    let reloaded = agent.reload("[trip]\nmode = \"off\"\n").unwrap();
    assert_eq!(
        (reloaded.changed, reloaded.config.rules.mode),
        (vec![], Mode::Shadow)
    );
}

#[test]
fn the_key_files_of_tokens_are_read_again_and_one_that_cannot_be_used_refuses_the_reload() {
    let key = tempfile::NamedTempFile::new().unwrap();
    let line = |id: &str| format!("[tokens]\nkeys = [\"{id}:HS256:{}\"]\n", key.path().display());
    fs::write(key.path(), "a-secret-of-more-than-32-characters").unwrap();
    let mut agent = started(&line("a"), &[]);
    let reloaded = agent.reload(&line("b")).unwrap();
    assert_eq!(
        reloaded.tokens.keys().map(|(id, _)| id).collect::<Vec<_>>(),
        ["b"]
    );
    assert_eq!(reloaded.changed[0].key, "tokens.keys");

    fs::write(key.path(), "short").unwrap();
    let wrong = line("b") + "[trip]\nmode = \"off\"\n";
    let said = agent.reload(&wrong).unwrap_err().to_string();
    assert!(
        said.contains("tokens.keys") && said.contains("at least 32"),
        "{said}"
    );
    assert!(!said.contains("short"), "{said}");
    fs::write(key.path(), "another-secret-of-more-than-32-characters").unwrap();
    let after = agent.reload(&line("b")).unwrap();
    assert_eq!((after.changed, after.config.rules.mode), (vec![], Mode::Enforce));
}

#[test]
fn only_rules_the_log_filter_and_the_keys_of_tokens_are_live_and_operations_names_them() {
    let live: Vec<&str> = keys::KEYS
        .iter()
        .filter(|key| key.live)
        .map(|key| key.path)
        .collect();
    assert!(
        live.iter().all(
            |key| ["rooms.", "trip.", "log.", "tokens.", "kernel.detach_on_stop"]
                .iter()
                .any(|part| key.starts_with(part))
        ),
        "{live:?}"
    );
    assert!(!live.contains(&"rooms.heartbeat") && !live.contains(&"rooms.quota"));
    let doc = include_str!("../../../../docs/OPERATIONS.md");
    let whole = |key: &str| key.starts_with("trip.") || key.starts_with("tokens.");
    let told = |key: &&&str| whole(key) || doc.contains(&format!("`{key}`"));
    assert!(live.iter().all(|key| told(&key)), "{live:?}");
    let file = Config::default_file();
    assert_eq!(file.matches(" Reloaded.\n").count(), live.len());
}
