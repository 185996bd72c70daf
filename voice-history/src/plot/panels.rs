//! What the picture shows, one panel each.

use super::canvas::{Canvas, LEFT, RIGHT};
use crate::{
    query::{Answer, Taken},
    snapshot::{Health, Snapshot},
};
use std::collections::BTreeSet;
use voice_common::{Class, Direction, Verdict};
use voice_room::{State, Wall};

const DIRECTIONS: [(Direction, &str); 2] = [(Direction::Ingress, "in"), (Direction::Egress, "out")];
const CLASSES: [(Class, &str); 3] = [
    (Class::Rtp, "rtp"),
    (Class::Rtcp, "rtcp"),
    (Class::Other, "other"),
];

/// Snapshots without a gap between them: lines are not drawn over times of which nothing is known.
fn runs(answer: &Answer) -> impl Iterator<Item = &[Taken]> {
    let step = |pair: &[Taken]| match pair {
        [a, b] => b.at.0.saturating_sub(a.at.0),
        _ => 0,
    };
    let mut steps: Vec<u64> = answer.snapshots.windows(2).map(step).collect();
    steps.sort_unstable();
    let usual = steps.get(steps.len() / 2).copied().unwrap_or(5000).max(1000);
    answer
        .snapshots
        .chunk_by(move |a, b| a.at <= b.at && b.at.0 - a.at.0 <= usual.saturating_mul(4))
}

/// States as bands.
pub(super) fn states(canvas: &mut Canvas, answer: &Answer) {
    const HEIGHT: f64 = 30.0;
    let top = canvas.panel("state", HEIGHT);
    for run in runs(answer) {
        let same = |a: &Taken, b: &Taken| {
            (a.snapshot.state, a.snapshot.incarnation) == (b.snapshot.state, b.snapshot.incarnation)
        };
        let bands: Vec<&[Taken]> = run.chunk_by(same).collect();
        for (n, band) in bands.iter().enumerate() {
            let (Some(first), Some(last)) = (band.first(), band.last()) else {
                continue;
            };
            // A band goes on until the next begins.
            let end = bands.get(n + 1).and_then(|next| next.first()).unwrap_or(last);
            let (x1, x2) = (canvas.scale.x(first.at), canvas.scale.x(end.at));
            let name = first.snapshot.state.name();
            canvas.rect(name, (x1, x2), top, HEIGHT);
            if x2 - x1 > 8.0 * name.len() as f64 {
                canvas.text_at_middle((x1 + x2) / 2.0, top + HEIGHT / 2.0 + 4.0, "band", name);
            }
        }
    }
}

/// Packets per second between two snapshots of one life whose counter did not begin anew.
fn rates(run: &[Taken], of: impl Fn(&Snapshot) -> u64) -> Vec<(Wall, f64)> {
    let pairs = run.windows(2).filter_map(|pair| match pair {
        [a, b] => {
            let ms = b.at.0.checked_sub(a.at.0).filter(|ms| *ms > 0)?;
            let packets = of(&b.snapshot).checked_sub(of(&a.snapshot))?;
            Some((b.at, packets as f64 * 1000.0 / ms as f64))
        }
        _ => None,
    });
    pairs.collect()
}

/// A line of a panel: its classes in the style, its name, its points.
struct Line {
    class: String,
    name: String,
    runs: Vec<Vec<(Wall, f64)>>,
}

impl Line {
    fn of(answer: &Answer, class: &str, name: &str, of: impl Fn(&Snapshot) -> u64) -> Option<Line> {
        let runs: Vec<_> = runs(answer).map(|run| rates(run, &of)).collect();
        let moves = runs.iter().flatten().any(|(_, rate)| *rate > 0.0);
        moves.then(|| Line {
            class: class.into(),
            name: name.into(),
            runs,
        })
    }

    fn most(&self) -> f64 {
        self.runs
            .iter()
            .flatten()
            .map(|(_, value)| *value)
            .fold(0.0, f64::max)
    }
}

/// Packets per second by class and direction, and those that were dropped.
pub(super) fn packets(canvas: &mut Canvas, answer: &Answer) {
    let mut lines = Vec::new();
    for (class, class_name) in CLASSES {
        for (direction, name) in DIRECTIONS {
            let of = |s: &Snapshot| s.media.get(direction, class, Verdict::Pass).packets;
            lines.extend(Line::of(
                answer,
                &format!("{class_name} {name}"),
                &format!("{class_name} {name}"),
                of,
            ));
        }
    }
    for (direction, name) in DIRECTIONS {
        let of = |s: &Snapshot| {
            let of_class = |(class, _)| s.media.get(direction, class, Verdict::Drop).packets;
            CLASSES.into_iter().map(of_class).sum()
        };
        lines.extend(Line::of(
            answer,
            &format!("drop {name}"),
            &format!("dropped {name}"),
            of,
        ));
    }
    drawn(canvas, "packets/s", 170.0, &lines);
}

/// The age of the last heartbeat, in seconds, and where some were missed.
pub(super) fn heartbeats(canvas: &mut Canvas, answer: &Answer) {
    let ages = |run: &[Taken]| {
        let age = |taken: &Taken| Some((taken.at, f64::from(taken.snapshot.heartbeat_age?) / 10.0));
        run.iter().filter_map(age).collect()
    };
    let line = Line {
        class: "age".into(),
        name: "age of the last, s".into(),
        runs: runs(answer).map(ages).collect(),
    };
    let top = drawn(canvas, "heartbeat", 90.0, &[line]);
    for run in runs(answer) {
        for missed in run.chunk_by(|a, b| (a.snapshot.misses > 0) == (b.snapshot.misses > 0)) {
            if let (Some(first), Some(last)) = (missed.first(), missed.last())
                && first.snapshot.misses > 0
            {
                let ends = (canvas.scale.x(first.at), canvas.scale.x(last.at));
                canvas.rect("missed", ends, top + 86.0, 4.0);
            }
        }
    }
}

/// A panel of lines with its own scale. The y of its top.
fn drawn(canvas: &mut Canvas, name: &str, height: f64, lines: &[Line]) -> f64 {
    let top = canvas.panel(name, height);
    let most = round_up(lines.iter().map(Line::most).fold(1.0, f64::max));
    let y = |value: f64| top + height - value / most * height;
    for share in [0.0, 0.5, 1.0] {
        let value = most * share;
        canvas.line(
            if share == 0.0 { "frame" } else { "grid" },
            (LEFT, y(value)),
            (RIGHT, y(value)),
        );
        let shown = if value.fract() == 0.0 {
            format!("{value}")
        } else {
            format!("{value:.1}")
        };
        canvas.text_at_end(
            LEFT - 4.0,
            y(value) + if share == 0.0 { 0.0 } else { 8.0 },
            "faint",
            &shown,
        );
    }
    for (n, line) in lines.iter().enumerate() {
        for run in &line.runs {
            let points: Vec<(f64, f64)> = run
                .iter()
                .map(|(at, value)| (canvas.scale.x(*at), y(*value)))
                .collect();
            if !points.is_empty() {
                canvas.polyline(&line.class, &points);
            }
        }
        let legend = top + 10.0 + n as f64 * 17.0;
        canvas.polyline(
            &line.class,
            &[(RIGHT + 14.0, legend - 4.0), (RIGHT + 44.0, legend - 4.0)],
        );
        canvas.text(RIGHT + 50.0, legend, "", &line.name);
    }
    if lines.is_empty() {
        canvas.text(RIGHT + 14.0, top + 10.0, "faint", "none");
    }
    top
}

/// 1, 2 or 5 times a power of ten, at or above.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= value)
        .unwrap_or(value)
}

/// What the node depended on: a row each, coloured.
pub(super) fn health(canvas: &mut Canvas, answer: &Answer) {
    const ROW: f64 = 18.0;
    let names: BTreeSet<&String> = answer.health.iter().flat_map(|at| at.health.keys()).collect();
    if names.is_empty() {
        return;
    }
    let top = canvas.panel("depends on", ROW * names.len() as f64);
    for (n, name) in names.into_iter().enumerate() {
        let y = top + ROW * n as f64;
        for (n, since) in answer.health.iter().enumerate() {
            let Some(health) = since.health.get(name) else {
                continue;
            };
            let begin = canvas.scale.x(since.at);
            let end = answer
                .health
                .get(n + 1)
                .map_or(RIGHT, |next| canvas.scale.x(next.at));
            canvas.rect(health.name(), (begin, end), y, ROW - 3.0);
        }
        canvas.text(RIGHT + 14.0, y + 12.0, "", name);
    }
    for (n, health) in Health::ALL.into_iter().enumerate() {
        let x = LEFT + n as f64 * 90.0;
        let y = canvas.y - 14.0;
        canvas.rect(health.name(), (x, x + 12.0), y, 10.0);
        canvas.text(x + 17.0, y + 9.0, "faint", health.name());
    }
    canvas.y += 10.0;
}

/// Trips, over everything else.
pub(super) fn trips(canvas: &mut Canvas, answer: &Answer) {
    let trips = answer
        .transitions
        .iter()
        .filter(|change| change.new_state == State::Expired);
    for trip in trips
        .filter(|trip| canvas.scale.holds(trip.timestamp))
        .collect::<Vec<_>>()
    {
        let x = canvas.scale.x(trip.timestamp);
        let bottom = canvas.y - 20.0;
        canvas.line("trip", (x, 44.0), (x, bottom));
        let said = format!("cut: {}", trip.reason.chars().take(60).collect::<String>());
        if x < (LEFT + RIGHT) / 2.0 {
            canvas.text(x + 5.0, 130.0, "triptext", &said);
        } else {
            canvas.text_at_end(x - 5.0, 130.0, "triptext", &said);
        }
    }
}
