//! Asks the agent: what is wanted now, every second and as soon as something else is wanted. One connection, made anew when
//! the agent was away.

use crate::{
    cli::{
        client::Agent,
        failure::{Code, Failure},
    },
    config::Paths,
    proto::admin::{Entry, ExplainRequest, Room, ShowRequest, TopRequest, TopResponse},
};
use std::{future::Future, pin::Pin, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

const EVERY: Duration = Duration::from_secs(1);
/// Keys that are held down do not ask with each repetition.
const AT_MOST_EVERY: Duration = Duration::from_millis(50);

/// What the screen needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Wanted {
    pub(super) list: TopRequest,
    /// The room that is open.
    pub(super) room: Option<String>,
}

/// What the agent said.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) top: TopResponse,
    pub(super) opened: Option<Opened>,
}

/// A room with its timeline.
#[derive(Debug, Clone, Default)]
pub(super) struct Opened {
    pub(super) name: String,
    /// `None`: the agent does not know it any more.
    pub(super) room: Option<Room>,
    pub(super) entries: Vec<Entry>,
}

/// Asks on and on, as long as it is polled by [`Asker::answer`].
pub(super) struct Asker {
    wanted: watch::Sender<Wanted>,
    answers: mpsc::Receiver<Result<Found, Failure>>,
    asking: Pin<Box<dyn Future<Output = ()>>>,
}

impl Asker {
    /// Connects and asks once, so that an agent that is not there is told in the ordinary way.
    pub(super) async fn connect(paths: &Paths, wanted: Wanted) -> Result<Asker, Failure> {
        let agent = Agent::connect(paths).await?;
        let first = ask(&agent, &wanted).await?;
        let (to, answers) = mpsc::channel(1);
        let (wanted, questions) = watch::channel(wanted);
        let paths = paths.clone();
        let asking = Box::pin(async move {
            // The receiver lives as long as this does.
            if to.send(Ok(first)).await.is_ok() {
                on_and_on(paths, agent, questions, to).await;
            }
        });
        Ok(Asker {
            wanted,
            answers,
            asking,
        })
    }

    /// Wants this from now on.
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Result<Found, Failure> {
        tokio::select! {
            biased;
            Some(answer) = self.answers.recv() => answer,
            () = &mut self.asking => std::future::pending().await,
        }
    }
}

async fn on_and_on(
    paths: Paths,
    agent: Agent,
    mut questions: watch::Receiver<Wanted>,
    to: mpsc::Sender<Result<Found, Failure>>,
) {
    let mut agent = Some(agent);
    loop {
        let asked_anew = timeout(EVERY, questions.changed()).await;
        if matches!(asked_anew, Ok(Err(_))) {
            return;
        }
        let wanted = questions.borrow_and_update().clone();
        let answer = match agent.take() {
            Some(there) => ask_kept(there, &wanted, &mut agent).await,
            None => match Agent::connect(&paths).await {
                Ok(there) => ask_kept(there, &wanted, &mut agent).await,
                Err(failure) => Err(failure),
            },
        };
        if to.send(answer).await.is_err() {
            return;
        }
        sleep(AT_MOST_EVERY).await;
    }
}

/// Asks; the connection is kept when it works.
async fn ask_kept(there: Agent, wanted: &Wanted, kept: &mut Option<Agent>) -> Result<Found, Failure> {
    let answer = ask(&there, wanted).await;
    if answer.is_ok() {
        *kept = Some(there);
    }
    answer
}

async fn ask(agent: &Agent, wanted: &Wanted) -> Result<Found, Failure> {
    let mut calls = agent.calls.clone();
    let top = agent.answer(calls.top(wanted.list.clone())).await?;
    let opened = match &wanted.room {
        None => None,
        Some(name) => {
            let room = name.clone();
            let show = agent.answer(calls.show(ShowRequest { room: room.clone() })).await;
            let story = agent.answer(calls.explain(ExplainRequest { room })).await;
            Some(Opened {
                name: name.clone(),
                room: known(show)?,
                entries: known(story)?.map(|story| story.entries).unwrap_or_default(),
            })
        }
    };
    Ok(Found { top, opened })
}

/// A room that is not known is an answer, too.
fn known<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Err(failure) if failure.code == Code::NoSuchRoom => Ok(None),
        answer => answer.map(Some),
    }
}
