//! Turns what was given for a key into a value of its kind, or says what is allowed.

use super::draft::Draft;
use std::{fmt::Write, time::Duration};

/// What was given for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// Untyped text, from the environment or a flag.
    Plain(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer; `None` when it does not fit.
    Number(Option<i64>, String),
    /// A TOML boolean.
    Switch(bool),
    /// A TOML array of strings.
    List(Vec<String>),
    /// Some other TOML value, as text.
    Other(String),
}

type Set = fn(&mut Draft);

/// What a key takes, and where it puts it.
pub(super) enum Kind {
    /// A duration, such as "90s".
    Time {
        from: Duration,
        to: Duration,
        set: fn(&mut Draft, Duration),
    },
    /// A duration, or "off".
    TimeOrOff {
        from: Duration,
        to: Duration,
        set: fn(&mut Draft, Option<Duration>),
    },
    Number {
        from: u32,
        to: u32,
        set: fn(&mut Draft, u32),
    },
    Switch(fn(&mut Draft, bool)),
    /// One of several words, each with what it sets.
    Choice(&'static [(&'static str, Set)]),
    /// Text; the setter answers whether it is allowed.
    Text {
        allowed: &'static str,
        set: fn(&mut Draft, &str) -> bool,
    },
    /// Several texts; the setter answers whether all are allowed.
    List {
        allowed: &'static str,
        set: fn(&mut Draft, &[String]) -> bool,
    },
}

impl Given {
    /// As it is shown in a message.
    pub(super) fn shown(&self) -> String {
        match self {
            Given::Plain(text) | Given::Text(text) | Given::Number(_, text) | Given::Other(text) => {
                text.clone()
            }
            Given::Switch(on) => on.to_string(),
            Given::List(items) => items.join(","),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Given::Plain(text) | Given::Text(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<u32> {
        match self {
            Given::Plain(text) => text.trim().parse().ok(),
            Given::Number(number, _) => number.and_then(|n| u32::try_from(n).ok()),
            _ => None,
        }
    }

    fn switch(&self) -> Option<bool> {
        match self {
            Given::Plain(text) => text.trim().parse().ok(),
            Given::Switch(on) => Some(*on),
            _ => None,
        }
    }

    /// From the environment and flags, a list is separated by commas.
    fn list(&self) -> Option<Vec<String>> {
        match self {
            Given::Plain(text) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(items.map(str::to_owned).collect())
            }
            Given::List(items) => Some(items.clone()),
            _ => None,
        }
    }
}

impl Kind {
    /// Puts the value where it belongs; `None` when it is not allowed.
    pub(super) fn apply(&self, given: &Given, draft: &mut Draft) -> Option<()> {
        match self {
            Kind::Time { from, to, set } => set(draft, time(given, *from, *to)?),
            Kind::TimeOrOff { set, .. } if given.text() == Some("off") => set(draft, None),
            Kind::TimeOrOff { from, to, set } => set(draft, Some(time(given, *from, *to)?)),
            Kind::Number { from, to, set } => {
                set(draft, given.number().filter(|n| (*from..=*to).contains(n))?);
            }
            Kind::Switch(set) => set(draft, given.switch()?),
            Kind::Choice(choices) => {
                let text = given.text()?;
                let (_, set) = choices.iter().find(|(name, _)| *name == text)?;
                set(draft);
            }
            Kind::Text { set, .. } => return set(draft, given.text()?).then_some(()),
            Kind::List { set, .. } => return set(draft, &given.list()?).then_some(()),
        }
        Some(())
    }

    /// What is allowed, in words.
    pub(super) fn allowed(&self) -> String {
        let span = |from: &Duration, to: &Duration| {
            let (from, to) = (humantime::format_duration(*from), humantime::format_duration(*to));
            format!("a duration from \"{from}\" to \"{to}\"")
        };
        match self {
            Kind::Time { from, to, .. } => span(from, to),
            Kind::TimeOrOff { from, to, .. } => format!("\"off\" or {}", span(from, to)),
            Kind::Number { from, to, .. } => format!("a whole number from {from} to {to}"),
            Kind::Switch(_) => "true or false".into(),
            Kind::Choice(choices) => choices.iter().fold(String::from("one of"), |mut all, (name, _)| {
                let comma = if all.ends_with('f') { "" } else { "," };
                // Writing to a String cannot fail.
                let _ = write!(all, "{comma} \"{name}\"");
                all
            }),
            Kind::Text { allowed, .. } | Kind::List { allowed, .. } => (*allowed).into(),
        }
    }
}

fn time(given: &Given, from: Duration, to: Duration) -> Option<Duration> {
    let time = humantime::parse_duration(given.text()?).ok()?;
    (from..=to).contains(&time).then_some(time)
}
