//! What an agent asks of the store and the registry, and what becomes of the answers.

use crate::{
    Ms,
    invariants::Seen,
    ms,
    net::{Answer, Ask},
    store,
    world::World,
};
use voice_room::{Change, Input, OpId, RoomId, record::IsolationChange};

/// A question that has no answer yet.
#[derive(Debug, Clone)]
pub(super) enum Called {
    Commit(RoomId, OpId),
    Refresh,
    TellServed,
    Look(RoomId),
    Events,
    Isolations,
    /// Asked at this time of its own clock.
    Lease(Ms),
    Claim(RoomId),
    Other,
}

impl World {
    pub(super) fn ask(&mut self, a: usize, ask: Ask, called: Called) {
        let call = self.call(a, ask);
        self.agents[a].calls.insert(call, called);
    }

    pub(super) fn commit(&mut self, a: usize, change: Change) {
        let (room, op) = (change.record.room.clone(), change.record.op_id.clone());
        if !self.has_authority(a) {
            let result = Err("not sent: no lease".into());
            return self.direct(
                a,
                Input::Stored {
                    room,
                    op_id: op,
                    result,
                },
            );
        }
        self.see(&Seen::Sent(a, &change));
        let wall = self.agents[a].now(self.now).wall;
        let left = match &change.isolation {
            IsolationChange::Set(isolation) => isolation.until.since(wall),
            _ => ms(0),
        };
        let left = Ms::try_from(left.as_millis()).unwrap_or(0);
        let ask = store::Ask::Commit(Box::new(change), left);
        self.ask(a, Ask::Store(ask), Called::Commit(room, op));
    }

    /// The answer to a call, or that there was none in time. Only the first of both counts.
    pub(crate) fn replied(&mut self, a: usize, run: u64, call: u64, answer: Option<Answer>) {
        if self.agents[a].run != run || !self.agents[a].is_up() {
            return;
        }
        let Some(called) = self.agents[a].calls.remove(&call) else {
            return;
        };
        let away = || "timeout".to_string();
        let input = match (called, answer) {
            (Called::Commit(room, op_id), Some(Answer::Store(store::Answer::Committed(c)))) => {
                Input::Stored {
                    room,
                    op_id,
                    result: Ok(c),
                }
            }
            (Called::Commit(room, op_id), _) => Input::Stored {
                room,
                op_id,
                result: Err(away()),
            },
            (Called::Refresh, Some(Answer::Store(store::Answer::Refreshed(r)))) => Input::Refreshed(Ok(r)),
            (Called::Refresh, _) => Input::Refreshed(Err(away())),
            (Called::TellServed, Some(Answer::Store(store::Answer::ServedTold(rooms)))) => {
                Input::ServedTold(Ok(rooms))
            }
            (Called::TellServed, _) => Input::ServedTold(Err(away())),
            (Called::Look(room), Some(Answer::Store(store::Answer::Looked(looked)))) => Input::Looked {
                room,
                result: Ok(looked),
            },
            (Called::Look(room), _) => Input::Looked {
                room,
                result: Err(away()),
            },
            (called @ (Called::Events | Called::Isolations), answer) => {
                return self.relayed(a, &called, answer);
            }
            (called, Some(Answer::Registry(answer))) => return self.lease_answer(a, &called, answer),
            (called, _) => return self.lease_silent(a, &called),
        };
        self.feed(a, input);
    }
}
