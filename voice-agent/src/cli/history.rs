//! `history`: what a room was like over a time, or at one; which rooms went a way through the states; and a picture.

mod tables;
mod times;

pub(super) use times::{ago, moment};

use super::{Failure, client::call, failure::Code, output::Output};
use crate::{
    config::Paths,
    proto::admin::{HistoryRequest, HistoryResponse},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fs, path::PathBuf, time::Duration};
use voice_history::{Answer, Cursor, Moment, Path, PathPage, plot};
use voice_room::{RoomId, Wall};

/// Snapshots, or rooms, that one command gets; then it says how to go on.
const MOST: usize = 50_000;
/// Rows of a table.
const ROWS: u32 = 40;
/// Points of a picture: more than it has pixels.
const POINTS: u32 = 1_500;

/// What `history` was given.
#[derive(Debug, Clone, clap::Args)]
pub struct Asked {
    /// The room
    #[arg(required_unless_present = "path", conflicts_with = "path")]
    pub room: Option<RoomId>,
    /// Instead of a room: which rooms went this way, such as 'LIVEING>EXPIRED' or 'NONE>CREATED>LIVEING'
    #[arg(long)]
    pub path: Option<Path>,
    /// From then on: a time (RFC 3339), or how long ago, like 30m [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with_all = ["since", "at"])]
    pub from: Option<Wall>,
    /// Until then [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "at")]
    pub to: Option<Wall>,
    /// The last so long, like 1h; for all of it: 100y
    #[arg(long, value_name = "TIME", value_parser = ago, conflicts_with = "at")]
    pub since: Option<Duration>,
    /// The state as it was then: a time (RFC 3339), or how long ago, like 30m
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with_all = ["path", "plot"])]
    pub at: Option<Wall>,
    /// Draw it into this SVG file
    #[arg(long, value_name = "FILE", conflicts_with = "path")]
    pub plot: Option<PathBuf>,
    /// About so many snapshots, evenly; none is left out in which the state changed [default: 40; with --json: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub points: Option<u32>,
}

/// Asks and prints, or draws.
pub(super) async fn history(paths: &Paths, out: Output, asked: &Asked) -> Result<String, Failure> {
    let now = times::now();
    let from = asked
        .from
        .unwrap_or_else(|| times::before(now, asked.since.unwrap_or(Duration::from_secs(3600))));
    let to = asked.to.unwrap_or(now);
    let request = HistoryRequest {
        room: asked.room.as_ref().map(ToString::to_string),
        path: asked.path.as_ref().map(ToString::to_string),
        from_ms: Some(from.0),
        to_ms: Some(to.0),
        points: asked.points,
        ..HistoryRequest::default()
    };
    match (&asked.room, asked.at) {
        (Some(room), Some(at)) => {
            let request = HistoryRequest {
                at_ms: Some(at.0),
                ..request
            };
            let moment: Moment = ask(paths, request).await?;
            out.print(&moment, |moment, out| tables::moment(room, at, moment, out))
        }
        (Some(room), None) => {
            let default = if asked.plot.is_some() {
                Some(POINTS)
            } else {
                (!out.is_json()).then_some(ROWS)
            };
            let request = HistoryRequest {
                points: asked.points.or(default),
                ..request
            };
            let answer: Answer = all(paths, request).await?;
            match &asked.plot {
                Some(file) => draw(room, (from, to), &answer, file),
                None => out.print(&answer, |answer, out| tables::room(room, (from, to), answer, out)),
            }
        }
        (None, _) => {
            let page: PathPage = all(paths, request).await?;
            out.print(&page, |page, out| tables::path((from, to), page, out))
        }
    }
}

fn draw(
    room: &RoomId,
    (from, to): (Wall, Wall),
    answer: &Answer,
    file: &std::path::Path,
) -> Result<String, Failure> {
    if answer.snapshots.is_empty() {
        let message = format!(
            "nothing to draw: room {room} has no snapshots in that time; give another with --from and --to"
        );
        return Err(Failure::new(Code::Failed, message));
    }
    fs::write(file, plot::svg(room, from, to, answer))
        .map_err(|e| Failure::new(Code::Failed, format!("writing {}: {e}", file.display())))?;
    Ok(format!(
        "Drawn into {}: {} snapshots.\n",
        file.display(),
        answer.snapshots.len()
    ))
}

/// A page of an answer.
trait Page: DeserializeOwned + Serialize {
    fn len(&self) -> usize;
    fn next(&self) -> Option<&Cursor>;
    /// Takes what the next page has.
    fn append(&mut self, next: Self);
}

impl Page for Answer {
    fn len(&self) -> usize {
        self.snapshots.len()
    }

    fn next(&self) -> Option<&Cursor> {
        self.next.as_ref()
    }

    fn append(&mut self, next: Answer) {
        self.snapshots.extend(next.snapshots);
        self.damaged = self.damaged.saturating_add(next.damaged);
        self.next = next.next;
    }
}

impl Page for PathPage {
    fn len(&self) -> usize {
        self.trips.len()
    }

    fn next(&self) -> Option<&Cursor> {
        self.next.as_ref()
    }

    fn append(&mut self, next: PathPage) {
        self.trips.extend(next.trips);
        self.damaged = self.damaged.saturating_add(next.damaged);
        self.next = next.next;
    }
}

/// Page after page, up to [`MOST`].
async fn all<T: Page>(paths: &Paths, request: HistoryRequest) -> Result<T, Failure> {
    let mut all: T = ask(paths, request.clone()).await?;
    while let Some(next) = all.next().cloned().filter(|_| all.len() < MOST) {
        let request = HistoryRequest {
            after: Some(next.0),
            ..request.clone()
        };
        all.append(ask(paths, request).await?);
    }
    Ok(all)
}

async fn ask<T: DeserializeOwned>(paths: &Paths, request: HistoryRequest) -> Result<T, Failure> {
    let HistoryResponse { json } = call!(paths, history(request))?;
    serde_json::from_str(&json).map_err(|e| {
        let message = format!("the agent's answer cannot be read: {e}; is it an agent of this version?");
        Failure::new(Code::Failed, message)
    })
}
