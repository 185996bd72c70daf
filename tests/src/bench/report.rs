//! The result of a bench, as `--json` prints it.

use super::{Machine, Name};
use serde::{Serialize, Serializer};
use std::fmt;

/// One run of one bench.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which.
    pub bench: Name,
    /// Where.
    pub machine: Machine,
    /// What came out.
    pub figures: Vec<Figure>,
}

/// One measured value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// Stable, for programs.
    pub name: String,
    /// Rounded to three digits after the point.
    pub value: f64,
    /// Of the value.
    pub unit: &'static str,
    /// What it should be; `None` (null): only shown.
    pub goal: Option<Goal>,
    /// Whether it is; true without a goal.
    pub holds: bool,
    /// What it was compared with in the same run.
    #[serde(flatten)]
    pub peer: Option<Peer>,
}

/// Something else that does the same, measured in the same run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Peer {
    /// What it is.
    #[serde(rename = "peer")]
    pub name: &'static str,
    /// Its value.
    #[serde(rename = "peer_value")]
    pub value: f64,
    /// Ours divided by the peer's.
    pub ratio: f64,
}

/// A bound. As text `<= 5` or `>= 1.5`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Goal {
    /// Whether a value keeps it. What is no number keeps none.
    fn holds(self, value: f64) -> bool {
        match self {
            Goal::AtMost(most) => value <= most,
            Goal::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::AtMost(most) => write!(f, "<= {most}"),
            Goal::AtLeast(least) => write!(f, ">= {least}"),
        }
    }
}

impl Serialize for Goal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Figure {
    /// A value that is only shown.
    pub fn shown(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
        Figure {
            name: name.into(),
            value: rounded(value),
            unit,
            goal: None,
            holds: true,
            peer: None,
        }
    }

    /// A value that has a goal. The goal is judged before rounding.
    pub fn with_goal(name: impl Into<String>, value: f64, unit: &'static str, goal: Goal) -> Figure {
        Figure {
            goal: Some(goal),
            holds: goal.holds(value),
            ..Figure::shown(name, value, unit)
        }
    }

    /// The same beside a peer.
    #[must_use]
    pub fn beside(mut self, name: &'static str, value: f64, ratio: f64) -> Figure {
        self.peer = Some(Peer {
            name,
            value: rounded(value),
            ratio: rounded(ratio),
        });
        self
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_printed_as_promised() {
        let report = Report {
            bench: Name::Kernel,
            machine: Machine::default(),
            figures: vec![
                Figure::with_goal("blocked_ns", 20.1234, "ns", Goal::AtMost(25.0)),
                Figure::shown("rooms", 4000.0, "rooms"),
                Figure::with_goal("drop_pps_vs_nftables", 1.4, "ratio", Goal::AtLeast(1.5))
                    .beside("nftables", 1e6, 1.4),
            ],
        };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            concat!(
                r#"{"bench":"kernel","machine":{"cpu":"","cores":0,"memory_mib":0,"kernel":"","rustc":"","commit":"","date":""},"figures":["#,
                r#"{"name":"blocked_ns","value":20.123,"unit":"ns","goal":"<= 25","holds":true},"#,
                r#"{"name":"rooms","value":4000.0,"unit":"rooms","goal":null,"holds":true},"#,
                r#"{"name":"drop_pps_vs_nftables","value":1.4,"unit":"ratio","goal":">= 1.5","holds":false,"#,
                r#""peer":"nftables","peer_value":1000000.0,"ratio":1.4}]}"#
            )
        );
    }

    #[test]
    fn a_goal_is_kept_at_its_bound_and_not_by_what_is_no_number() {
        assert!(Goal::AtMost(5.0).holds(5.0) && !Goal::AtMost(5.0).holds(5.0001));
        assert!(Goal::AtLeast(1.5).holds(1.5) && !Goal::AtLeast(1.5).holds(1.4999));
        assert!(!Goal::AtMost(5.0).holds(f64::NAN) && !Goal::AtLeast(5.0).holds(f64::NAN));
        assert!(!Figure::with_goal("x", 5.0001, "ns", Goal::AtMost(5.0)).holds);
    }
}
