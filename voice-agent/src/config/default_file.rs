//! The documented configuration file, written from the table of keys.

use super::{Config, keys};
use std::fmt::Write;

const HEAD: &str = "\
# The configuration of voice-agent. Every key is shown with its default; take away the `#` before a key to set it.
# A value is looked for in this file, then in the environment, then in `--set section.name=value`: the last one wins.
# The environment's name of `section.name` is VOICE_AGENT_SECTION_NAME; lists are separated by commas there.
# Keys marked `Reloaded` are taken while the agent runs, by `systemctl reload voice-agent` or SIGHUP: all of them, or none when the
# configuration has a mistake. The others are read at start only; a reload names those that wait for a restart.
# Durations are written as \"500ms\", \"90s\", \"5m\" or \"1h 30m\".
";

impl Config {
    /// What `voice-agent config default` prints: every key, commented out, with its documentation, its default and
    /// what is allowed.
    pub fn default_file() -> String {
        let mut file = String::from(HEAD);
        for (section, about) in keys::SECTIONS {
            line(&mut file, &format!("\n# {about}\n[{section}]"));
            for key in keys::KEYS.iter().filter(|key| key.section() == *section) {
                line(&mut file, "");
                for doc in key.doc.lines() {
                    line(&mut file, &format!("# {doc}"));
                }
                let reloaded = if key.live { " Reloaded." } else { "" };
                line(
                    &mut file,
                    &format!("# Allowed: {}.{reloaded}", key.kind.allowed()),
                );
                line(&mut file, &format!("#{} = {}", key.name(), key.default));
            }
        }
        file
    }
}

fn line(file: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(file, "{text}");
}
