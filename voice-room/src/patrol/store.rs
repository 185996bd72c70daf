//! A room here and its record, fence and isolation in the store.

use super::{
    Class, Difference, Field, Fields, Finds, Here, Meaning, Place, Right, StoreSight, Stored, Worth,
};
use crate::{Epoch, Isolation, Version, Wall};
use alloc::{format, vec::Vec};

impl Here<'_> {
    /// What differs in the store. Only of a room that is held, and of which nothing waits for the store.
    pub fn in_store(&self, now: Wall, there: &StoreSight) -> Vec<Difference> {
        let mut finds = Finds::new(&self.record.room, Place::Store);
        if self.is_outvoted(there, &mut finds) {
            return finds.found;
        }
        match &there.record {
            Stored::Nothing => {
                finds.add(
                    "",
                    self.whole(),
                    Worth::Nothing,
                    &self.lost("the store has no record"),
                );
                // Its isolation comes back with it.
                return finds.found;
            }
            Stored::Foreign(problem) => {
                let why = "what stands there is no record; it is left as it is until somebody removes it";
                let meaning = Meaning::new(Right::Here, Class::Human, why);
                finds.add("", self.whole(), Worth::text(problem), &meaning);
                return finds.found;
            }
            Stored::Record(fields) => self.fields(fields, &mut finds),
        }
        self.isolation_in(now, there, &mut finds);
        finds.found
    }

    /// Whether somebody with a higher epoch has written: then nothing there is this agent's to judge.
    fn is_outvoted(&self, there: &StoreSight, finds: &mut Finds<'_>) -> bool {
        let outvoted = |epoch: Epoch| {
            let why = format!(
                "written under epoch {epoch}, which is higher than {}: it is not touched",
                self.epoch
            );
            Meaning::new(Right::There, Class::Human, why)
        };
        let written = match &there.record {
            Stored::Record(fields) => fields.epoch.as_ref().ok(),
            _ => None,
        };
        if let Some(epoch) = written.filter(|epoch| **epoch > self.epoch) {
            finds.add(
                "/epoch",
                Worth::text(&self.epoch),
                Worth::text(epoch),
                &outvoted(*epoch),
            );
            return true;
        }
        match &there.fence {
            Some(Ok(fence)) if *fence > self.epoch => {
                finds.add(
                    "/fence",
                    Worth::text(&self.epoch),
                    Worth::text(fence),
                    &outvoted(*fence),
                );
                true
            }
            Some(Err(raw)) => {
                let why = "the fence cannot be read, so who may write is not known: delete the key, the next refresh sets it";
                let meaning = Meaning::new(Right::Here, Class::Human, why);
                finds.add("/fence", Worth::text(&self.epoch), Worth::text(raw), &meaning);
                true
            }
            _ => false,
        }
    }

    fn fields(&self, there: &Fields, finds: &mut Finds<'_>) {
        let here = self.record;
        let meaning = match (&there.version, &there.op_id) {
            (Ok(version), _) if *version < here.version => self.lost("the store has fallen behind"),
            (Ok(version), _) if *version > here.version && self.shares => {
                let why = "somebody else has changed it; the next refresh takes that over";
                Meaning::new(Right::There, Class::Transient, why)
            }
            (Ok(version), Ok(op)) if *version == here.version && *op != here.op_id && self.shares => {
                let why = "another change has this number there; the next refresh takes that over";
                Meaning::new(Right::There, Class::Transient, why)
            }
            _ => repairable("what is stored is not what was stored"),
        };
        let number = |n: u64| Worth::Number(n);
        finds.field(
            "/state",
            &here.state,
            &there.state,
            |s| Worth::text(s.name()),
            &meaning,
        );
        finds.field(
            "/version",
            &here.version,
            &there.version,
            |v: &Version| number(v.0),
            &meaning,
        );
        finds.field("/epoch", &here.epoch, &there.epoch, Worth::text, &meaning);
        finds.field("/op_id", &here.op_id, &there.op_id, Worth::text, &meaning);
        finds.field(
            "/incarnation",
            &here.incarnation,
            &there.incarnation,
            |i| number(i.0),
            &meaning,
        );
        finds.field("/owner", &here.owner, &there.owner, Worth::text, &meaning);
        finds.field("/since_ms", &here.since, &there.since, |s| number(s.0), &meaning);
        let readable = |(): &()| Worth::text("source, host and ports");
        finds.field("/data", &(), &there.data, readable, &meaning);
    }

    fn isolation_in(&self, now: Wall, there: &StoreSight, finds: &mut Finds<'_>) {
        let until = |i: &Isolation| Worth::Number(i.until.0);
        let meaning = repairable("who may join is this agent's to say");
        let ended = |i: &Field<Isolation>| i.as_ref().is_ok_and(|i| i.until <= now);
        match (self.isolation, there.isolation.as_ref().filter(|i| !ended(i))) {
            (None, None) => {}
            (Some(here), None) => finds.add("/isolation/until", until(here), Worth::Nothing, &meaning),
            (None, Some(Ok(there))) => finds.add("/isolation/until", Worth::Nothing, until(there), &meaning),
            (here, Some(Err(raw))) => {
                let here = here.map_or(Worth::Nothing, until);
                finds.add("/isolation", here, Worth::text(raw), &meaning);
            }
            (Some(here), Some(Ok(there))) => {
                if here.until != there.until {
                    finds.add("/isolation/until", until(here), until(there), &meaning);
                }
                if here.reason != there.reason {
                    let (here, there) = (Worth::text(&here.reason), Worth::text(&there.reason));
                    finds.add("/isolation/reason", here, there, &meaning);
                }
            }
        }
    }

    /// What was there is not, or not any more.
    fn lost(&self, what: &str) -> Meaning {
        match self.shares {
            true => {
                let why = format!("{what}; the next refresh puts the room back");
                Meaning::new(Right::Here, Class::Transient, why)
            }
            false => repairable(what),
        }
    }
}

fn repairable(what: &str) -> Meaning {
    let why = format!("{what}; `voice-agent repair` stores what is here");
    Meaning::new(Right::Here, Class::Repairable, why)
}
