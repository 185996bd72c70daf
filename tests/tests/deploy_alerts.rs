//! The alert rules and the dashboard: Prometheus takes them, they name figures that there are, and each alert is tested and
//! says what to do.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    clock,
    commons::Commons,
    metrics,
    netns::{Netns, Pair},
    stage::SOON,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn promtool(args: &[&str]) {
    let out = Command::new("promtool")
        .args(args)
        .current_dir(root().join("deploy/prometheus"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "promtool {args:?}: {said}");
}

/// What stands behind a key, wherever it stands.
fn all<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(move |line| line.trim().strip_prefix(key)?.strip_prefix(' '))
}

fn alerts() -> Vec<String> {
    let rules = read("deploy/prometheus/rules.yaml");
    let names: Vec<String> = all(&rules, "- alert:").map(str::to_owned).collect();
    let once: BTreeSet<_> = names.iter().collect();
    assert!(names.len() > 20 && once.len() == names.len(), "{names:?}");
    names
}

#[test]
fn prometheus_takes_the_rules_and_each_alert_fires_in_one_of_their_tests_and_stays_quiet_in_another() {
    promtool(&["check", "rules", "rules.yaml"]);
    promtool(&["test", "rules", "rules.test.yaml"]);
    let tests = read("deploy/prometheus/rules.test.yaml");
    let tests: Vec<&str> = tests.split("\n  - name: ").skip(1).collect();
    for alert in alerts() {
        let of_it = |test: &&&str| all(test, "alertname:").any(|name| name == alert);
        let of_it: Vec<_> = tests.iter().filter(of_it).collect();
        let quiet = of_it
            .iter()
            .filter(|test| test.contains("exp_alerts: []"))
            .count();
        assert!(
            quiet > 0 && quiet < of_it.len(),
            "{alert}: {quiet} of {} stay quiet",
            of_it.len()
        );
    }
}

#[test]
fn each_alert_links_to_its_entry_in_the_runbook_which_says_what_to_do_and_has_no_other() {
    let rules = read("deploy/prometheus/rules.yaml");
    let links: BTreeSet<String> = all(&rules, "runbook:").map(str::to_owned).collect();
    let book = read("docs/OPERATIONS.md");
    let mut entries = BTreeSet::new();
    for entry in book.split("\n### VoiceAgent").skip(1) {
        let (name, said) = entry.split_once('\n').unwrap();
        let said = said.split("\n#").next().unwrap();
        assert!(
            said.contains("\nDo: "),
            "VoiceAgent{name} says nothing to do: {said}"
        );
        entries.insert(format!("VoiceAgent{name}"));
    }
    let names: BTreeSet<String> = alerts().into_iter().collect();
    assert_eq!(names, entries);
    let expected = names
        .iter()
        .map(|name| format!("docs/OPERATIONS.md#{}", name.to_lowercase()));
    assert_eq!(links, expected.collect());
}

/// Names of our figures in a text.
fn figures(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !word(c));
    words
        .filter(|w| w.starts_with("voice_agent_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_figure_that_a_rule_or_the_dashboard_names_is_one_that_an_agent_tells() {
    let board: serde_json::Value = serde_json::from_str(&read("deploy/grafana/voice-agent.json")).unwrap();
    assert!(board["panels"].as_array().unwrap().len() > 20);
    let mut named = figures(&board.to_string());
    named.extend(figures(&read("deploy/prometheus/rules.yaml")));
    named.extend(figures(&read("deploy/prometheus/rules.test.yaml")));
    assert!(named.len() > 50, "{named:?}");

    let pair = Pair::new().unwrap();
    let commons = Commons::start(&pair).unwrap();
    let shared = commons.shared(Settings::new(Times::TEST), "n1");
    let agent = Agent::start(&pair.node, &shared).unwrap();
    // What is left out on purpose is told by its code, once there is one.
    agent.cli(&["block", "nobody", "--reason", "a test"]).unwrap();
    let on_disk = told(&pair.node, &named);
    // The database need not be there for its figures to be.
    let influx = shared
        .set("history.kind", "\"influx\"")
        .set("history.influx.address", "\"http://127.0.0.1:9\"");
    agent.configure(&influx).unwrap();
    agent.terminate().unwrap();
    agent.run().unwrap();
    let in_influx = told(&pair.node, &named);
    let missing: Vec<_> = named
        .iter()
        .filter(|n| !on_disk.contains(*n) && !in_influx.contains(*n))
        .collect();
    assert!(missing.is_empty(), "no agent tells {missing:?}");
}

/// What the agent tells; some figures begin with the first answer of Redis and etcd.
fn told(ns: &Netns, wanted: &BTreeSet<String>) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    clock::poll(SOON, || {
        // Also the names that have no value yet: their `# TYPE` is there.
        told = figures(&metrics::page(ns, "/metrics").ok()?);
        wanted.is_subset(&told).then_some(())
    });
    told
}
