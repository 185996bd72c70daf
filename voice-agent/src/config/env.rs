//! Environment variables: VOICE_AGENT_SECTION_NAME for the key `section.name`.

use super::{
    error::{Mistake, Origin},
    keys::{self, Key},
};

const PREFIX: &str = "VOICE_AGENT_";
/// Names the configuration file; read by the command line, not a key.
const CONFIG_FILE: &str = "VOICE_AGENT_CONFIG";

/// The variables of this process that begin with VOICE_AGENT_. What is not UTF-8 is kept with replacement characters,
/// so that it is reported as a mistake and not lost.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .filter(|(name, _)| name.starts_with(PREFIX))
}

/// The key a variable stands for; `None` for a variable that is none of ours.
pub(super) fn key_of(name: &str, value: &str) -> Option<Result<&'static Key, Mistake>> {
    if !name.starts_with(PREFIX) || name == CONFIG_FILE {
        return None;
    }
    if let Some(key) = keys::KEYS.iter().find(|key| key.env() == name) {
        return Some(Ok(key));
    }
    if is_kubernetes_service_link(name, value) {
        return None;
    }
    let all: Vec<String> = keys::KEYS.iter().map(Key::env).collect();
    let problem = keys::unknown("variable", name, all.iter().map(String::as_str));
    Some(Err(Mistake::key(name, Origin::Env(name.into()), problem)))
}

/// Kubernetes gives every pod variables about the services of its namespace. For a service called `voice-agent` (or
/// `voice-agent-…`) these begin with our prefix: VOICE_AGENT_SERVICE_HOST, VOICE_AGENT_PORT_7400_TCP_ADDR, ….
fn is_kubernetes_service_link(name: &str, value: &str) -> bool {
    let digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split("_PORT_").skip(1).any(digit)
        || (name.ends_with("_PORT") && value.contains("://"))
}
