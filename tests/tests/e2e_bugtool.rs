//! The archive of `bugtool`, with the agent alive and dead. Planted secrets must not be in it.

use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};
use voice_tests::{
    agent::{Settings, settings::Times},
    bpffs::Scratch,
    stage::{ALPHA, Stage},
};

const SECRET: &str = "planted-secret-7291";

/// Every file below `dir`, by its path.
fn files(dir: &Path, found: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            found.push((path.display().to_string(), text));
        }
    }
    Ok(())
}

/// Makes the archive, and unpacks it with the system's tar.
fn parts(stage: &Stage) -> anyhow::Result<Vec<(String, String)>> {
    let dir = Scratch::new("bugtool")?;
    let archive = dir.path().join("bug.tar.gz");
    let bugtool = ["bugtool", "-o", &archive.display().to_string()];
    stage.agent.text(&bugtool)?;
    let again = stage.agent.cli(&bugtool)?;
    assert_eq!(
        again.status.code(),
        Some(1),
        "an existing file is not overwritten"
    );
    let mut tar = Command::new("tar");
    let tar = tar.arg("-xzf").arg(&archive).arg("-C").arg(dir.path());
    assert!(tar.status()?.success());
    let mut found = Vec::new();
    files(&dir.path().join("voice-agent-bug"), &mut found)?;
    for (name, text) in &found {
        assert!(!text.contains(SECRET), "the secret is in {name}");
    }
    Ok(found)
}

fn part<'a>(parts: &'a [(String, String)], name: &str) -> &'a str {
    let of = |(path, _): &&(String, String)| path.ends_with(name);
    let found = parts.iter().find(of);
    &found
        .unwrap_or_else(|| panic!("no {name}: {}", part(parts, "MANIFEST.json")))
        .1
}

fn missing(parts: &[(String, String)]) -> Vec<String> {
    let manifest: Value = serde_json::from_str(part(parts, "MANIFEST.json")).unwrap_or_default();
    let parts = manifest["parts"].as_array().cloned().unwrap_or_default();
    let missing = parts.iter().filter(|part| part["missing"].is_string());
    missing
        .map(|part| part["part"].to_string().replace('"', ""))
        .collect()
}

#[test]
fn the_archive_tells_all_without_secrets_with_the_agent_alive_and_what_the_host_knows_with_it_dead() {
    let keys = Scratch::new("keys").unwrap();
    let key = keys.path().join("key");
    fs::write(&key, format!("{SECRET}-{SECRET}\n")).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let settings = Settings::new(Times::TEST)
        .set("janus.admin_socket", "\"/nowhere/janus\"")
        .set("janus.admin_secret", &format!("\"{SECRET}\""))
        .set("tokens.keys", &format!("[\"main:HS256:{}\"]", key.display()));
    let stage = Stage::new(settings);
    stage.block(ALPHA, 300);
    let alive = parts(&stage).unwrap();
    assert_eq!(missing(&alive), [""; 0], "{}", part(&alive, "MANIFEST.json"));
    for name in [
        "config.json",
        "status.json",
        "doctor.json",
        "blocked.json",
        "rooms.json",
        "topology.json",
    ] {
        serde_json::from_str::<Value>(part(&alive, name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert!(part(&alive, "logs.txt").contains("voice-agent runs"));
    assert!(part(&alive, "audit.jsonl").contains("\"action\":\"block\""));
    assert!(part(&alive, "explain/alpha.json").contains("a test"));
    assert!(part(&alive, "metrics.txt").contains("voice_agent_trips_total"));
    let pins: Value = serde_json::from_str(part(&alive, "pinned-maps.json")).unwrap();
    let slots = pins["slots"].as_array().unwrap();
    let slot = slots
        .iter()
        .find(|slot| slot["room"][0] == ALPHA)
        .unwrap_or_else(|| panic!("{pins}"));
    assert!(slot["binding"]["ports"][0].is_number(), "{slot}");
    assert!(part(&alive, "events.jsonl").contains("STUCK"));
    assert!(part(&alive, "kernel-facts.txt").contains("uname: Linux"));

    stage.agent.kill().unwrap();
    let dead = parts(&stage).unwrap();
    for name in [
        "config.json",
        "doctor.json",
        "audit.jsonl",
        "pinned-maps.json",
        "kernel.json",
    ] {
        assert!(!part(&dead, name).is_empty());
    }
    assert!(part(&dead, "blocked.json").contains(ALPHA));
    let missing = missing(&dead);
    for name in [
        "status.json",
        "logs.txt",
        "rooms.json",
        "metrics.txt",
        "explain/alpha.json",
    ] {
        assert!(missing.iter().any(|part| part == name), "{name} in {missing:?}");
    }
}

#[test]
fn on_a_terminal_no_archive_is_shown_and_it_is_said_how_to_get_one() {
    let stage = Stage::new(Settings::new(Times::TEST));
    let (shown, code) = stage.agent.on_terminal(&["bugtool"]).unwrap();
    assert_eq!(code, Some(2), "{shown}");
    assert!(
        shown.contains("not for a terminal") && shown.contains("-o FILE"),
        "{shown}"
    );
    assert!(shown.len() < 500 && !shown.contains('\u{1f}'), "{shown:?}");
    // Into a file it tells a person what it does.
    let dir = Scratch::new("bugtool").unwrap();
    let file = dir.path().join("bug.tar.gz").display().to_string();
    let (shown, code) = stage.agent.on_terminal(&["bugtool", "-o", &file]).unwrap();
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("bugtool: status.json") && shown.contains(&format!("Wrote {file}")),
        "{shown}"
    );
    assert!(
        Command::new("tar")
            .args(["-tzf", &file])
            .output()
            .unwrap()
            .status
            .success()
    );
}
