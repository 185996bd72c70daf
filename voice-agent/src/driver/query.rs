//! Answers to questions. Who asked may be gone; then nobody hears the answer, which is no error.

use super::{Driver, JoinAnswer, Query, clock::now};
use crate::relay::Hearing;

impl Driver {
    pub(super) fn query(&mut self, query: Query) {
        match query {
            Query::Rooms(to) => drop(to.send(self.core.views(now()))),
            Query::Census(to) => drop(to.send(self.core.census(now()))),
            Query::Top(page, to) => drop(to.send(Box::new(self.top(&page)))),
            Query::Room(room, to) => drop(to.send(self.core.view(&room, now()))),
            Query::Isolations(to) => drop(to.send(self.core.isolations(now()))),
            Query::Kernel(to) => drop(to.send(self.kernel.status())),
            Query::Topology(room, to) => drop(to.send(self.sessions.topology(room.as_ref()))),
            Query::Figures(to) => drop(to.send(Box::new(self.figures()))),
            Query::KillSwitch(on, actor, to) => {
                tracing::warn!(on, %actor, "kill switch by command");
                drop(to.send(self.set_kill_switch(on)));
            }
            Query::Reload(rules, changed, to) => {
                self.reload(*rules, &changed);
                // Who asked may be gone.
                let _ = to.send(());
            }
            Query::Diff(room, to) => self.diff(room, to),
            Query::Repair(mut repair, to) => {
                repair.reply = Some(self.expect_reply(to));
                self.repair(repair);
            }
            Query::Repaired {
                fields,
                actor,
                result,
            } => self.tell_repaired(fields, &actor, &result),
            Query::Maintenance(to) => drop(to.send(self.core.maintenance(now()))),
            Query::Maintain {
                room,
                lasts,
                reason,
                actor,
                to,
            } => self.order(room, lasts, reason, actor, to),
            Query::CheckJoin(room, to) => {
                let isolation = self.core.isolation(&room, now());
                let refused = isolation.map(|(isolation, left)| (isolation.reason, left));
                drop(to.send(JoinAnswer {
                    refused,
                    authoritative: self.store_answers && self.hearing.as_ref().is_none_or(Hearing::hears),
                }));
            }
            Query::Events { after, limit, to } => {
                let store = self.store.clone();
                self.tasks
                    .spawn(async move { drop(to.send(store.events(after, limit).await)) });
            }
            Query::Explain(room, to) => {
                let journal = self.journal.clone();
                self.tasks
                    .spawn(async move { drop(to.send(journal.timeline(room).await)) });
            }
        }
    }
}
