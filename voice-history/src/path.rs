//! A way through the states, such as `LIVEING>EXPIRED`, as people write it.

use crate::Transition;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use voice_room::State;

/// The longest way that can be asked for.
const MAX_STATES: usize = 8;
/// What a room comes from that was not there before.
const NONE: &str = "NONE";

/// At least two states, one after the other with none between. Only the first may be none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Path {
    first: Option<State>,
    then: Vec<State>,
}

/// A text that is no way through the states.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "path {given:?} is not valid: {problem}; write states with > between, such as LIVEING>EXPIRED or NONE>CREATED>LIVEING; \
     the states are CREATED, LIVEING, GRACE_CLOSING, EXPIRED and DESTROYED"
)]
pub struct PathError {
    given: String,
    problem: String,
}

impl Path {
    /// Its legs: from where to where.
    pub fn legs(&self) -> impl Iterator<Item = (Option<State>, State)> + '_ {
        let from = std::iter::once(self.first).chain(self.then.iter().copied().map(Some));
        from.zip(self.then.iter().copied())
    }

    /// The first leg.
    pub fn first_leg(&self) -> (Option<State>, State) {
        // Parsing leaves at least one.
        self.legs().next().unwrap_or((None, State::Created))
    }

    /// Whether these changes are this way, leg by leg, of one life.
    pub fn is(&self, changes: &[Transition]) -> bool {
        let life = changes.first().map(|c| c.incarnation);
        self.then.len() == changes.len()
            && self.legs().zip(changes).all(|((from, to), change)| {
                change.old_state == from && change.new_state == to && Some(change.incarnation) == life
            })
    }

    /// How many changes it is.
    pub fn changes(&self) -> usize {
        self.then.len()
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Path, PathError> {
        let wrong = |problem: String| PathError {
            given: text.chars().take(80).collect(),
            problem,
        };
        let mut names = text.split('>').map(str::trim);
        let first = match names.next() {
            Some(NONE) => None,
            name => Some(state(name.unwrap_or_default()).map_err(wrong)?),
        };
        let then: Vec<State> = names
            .take(MAX_STATES)
            .map(state)
            .collect::<Result<_, _>>()
            .map_err(wrong)?;
        if then.is_empty() {
            return Err(wrong("it has one state only".into()));
        }
        if then.len() >= MAX_STATES {
            return Err(wrong(format!("it has more than {MAX_STATES} states")));
        }
        Ok(Path { first, then })
    }
}

fn state(name: &str) -> Result<State, String> {
    let found = State::ALL
        .into_iter()
        .find(|s| s.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| match name {
        "" => "a state is missing".into(),
        NONE => "only the first state may be NONE".into(),
        other => format!(
            "there is no state {:?}",
            other.chars().take(40).collect::<String>()
        ),
    })
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.first.map_or(NONE, State::name))?;
        self.then.iter().try_for_each(|state| write!(f, ">{state}"))
    }
}

impl TryFrom<String> for Path {
    type Error = PathError;

    fn try_from(text: String) -> Result<Path, PathError> {
        text.parse()
    }
}

impl From<Path> for String {
    fn from(path: Path) -> String {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_is_written_and_spaces_and_small_letters_do_not_matter() {
        for text in ["LIVEING>EXPIRED", "NONE>CREATED>LIVEING>GRACE_CLOSING>DESTROYED"] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
        assert_eq!(
            " liveing > expired ".parse::<Path>().unwrap().to_string(),
            "LIVEING>EXPIRED"
        );
    }

    #[test]
    fn what_is_no_path_is_refused_with_what_is_wrong_and_how_to_write_one() {
        let long = ["LIVEING"; 9].join(">");
        for (text, problem) in [
            ("", "a state is missing"),
            ("LIVEING", "it has one state only"),
            ("LIVEING>", "a state is missing"),
            (">EXPIRED", "a state is missing"),
            ("LIVEING>DEAD", "there is no state \"DEAD\""),
            ("LIVEING>NONE", "only the first state may be NONE"),
            (&long, "it has more than 8 states"),
        ] {
            let said = text.parse::<Path>().unwrap_err().to_string();
            assert!(
                said.contains(problem) && said.contains("such as LIVEING>EXPIRED"),
                "{said}"
            );
        }
    }
}
