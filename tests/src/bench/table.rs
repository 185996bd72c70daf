//! A result for people: one line a figure.

use super::{Figure, Report};
use anstyle::{AnsiColor, Style};
use std::fmt::Write;

/// The table, coloured; `anstream` takes the colours out where they are not wanted.
pub fn table(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{}, {} cores, {} MiB, Linux {}\n{}, commit {}, {}\n\n",
        machine.cpu,
        machine.cores,
        machine.memory_mib,
        machine.kernel,
        machine.rustc,
        machine.commit,
        machine.date
    );
    let width = |of: fn(&Figure) -> String| {
        let widths = report.figures.iter().map(|f| of(f).chars().count());
        widths.max().unwrap_or_default()
    };
    let (name, value, goal) = (width(|f| f.name.clone()), width(measured), width(wanted));
    for figure in &report.figures {
        let (style, holds) = verdict(figure);
        let line = format!(
            "{:<name$}  {:>value$}  {:<goal$}",
            figure.name,
            measured(figure),
            wanted(figure)
        );
        let beside = beside(figure);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}  {style}{holds:<5}{style:#}  {beside}");
    }
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn measured(figure: &Figure) -> String {
    format!("{} {}", figure.value, figure.unit)
}

fn wanted(figure: &Figure) -> String {
    figure.goal.map(|goal| goal.to_string()).unwrap_or_default()
}

fn beside(figure: &Figure) -> String {
    let peer = figure.peer.as_ref();
    peer.map(|p| format!("{}: {}, ratio {}", p.name, p.value, p.ratio))
        .unwrap_or_default()
}

fn verdict(figure: &Figure) -> (Style, &'static str) {
    match (figure.goal, figure.holds) {
        (None, _) => (Style::new(), ""),
        (Some(_), true) => (AnsiColor::Green.on_default().bold(), "holds"),
        (Some(_), false) => (AnsiColor::Red.on_default().bold(), "FAILS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Goal, Machine, Name};

    #[test]
    fn each_figure_is_a_line_with_its_goal_and_whether_it_holds() {
        let report = Report {
            bench: Name::Kernel,
            machine: Machine::default(),
            figures: vec![
                Figure::with_goal("off_path_ns", 4.2, "ns", Goal::AtMost(5.0)),
                Figure::with_goal("ratio", 1.0, "x", Goal::AtLeast(1.5)).beside("nftables", 2.0, 0.5),
                Figure::shown("only_shown", 3.0, "ns"),
            ],
        };
        let shown = anstream::adapter::strip_str(&table(&report)).to_string();
        let lines: Vec<&str> = shown.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "off_path_ns  4.2 ns  <= 5    holds",
                "ratio           1 x  >= 1.5  FAILS  nftables: 2, ratio 0.5",
                "only_shown     3 ns",
            ]
        );
    }
}
