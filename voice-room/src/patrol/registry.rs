//! A room here and its keys in the registry.

use super::{Class, Difference, Finds, Here, Meaning, OwnerSeen, Place, RegistrySight, Right, Told, Worth};
use crate::{NodeName, RoomId};
use alloc::{format, vec::Vec};

impl Here<'_> {
    /// What differs in the registry. Only of a room that is held, and of which nothing waits for the store.
    pub fn in_registry(&self, node: &NodeName, there: &RegistrySight) -> Vec<Difference> {
        let mut finds = Finds::new(&self.record.room, Place::Registry);
        if self.owner_differs(node, there, &mut finds) {
            return finds.found;
        }
        let meaning = match there.telling {
            true => Meaning::new(Right::Here, Class::Transient, "it is on its way there"),
            false => Meaning::new(
                Right::Here,
                Class::Repairable,
                "the room is held here, and what is told of it is not what it is; it is told again",
            ),
        };
        match &there.told {
            None => finds.add("/told", self.whole(), Worth::Nothing, &meaning),
            Some(Err(problem)) => finds.add("/told", self.whole(), Worth::text(problem), &meaning),
            Some(Ok(told)) if told.epoch > self.epoch => {
                let why = format!(
                    "told under epoch {}, which is higher than {}: it is not touched",
                    told.epoch, self.epoch
                );
                let meaning = Meaning::new(Right::There, Class::Human, why);
                let (here, there) = (Worth::text(&self.record.epoch), Worth::text(&told.epoch));
                finds.add("/told/epoch", here, there, &meaning);
            }
            Some(Ok(told)) => self.told(told, &there.address, &meaning, &mut finds),
        }
        finds.found
    }

    /// The claim follows the keys by itself, so whatever differs ends with that; unless it may not be touched.
    fn owner_differs(&self, node: &NodeName, there: &RegistrySight, finds: &mut Finds<'_>) -> bool {
        let follows = Meaning::new(
            Right::There,
            Class::Transient,
            "ownership follows what is registered",
        );
        match &there.owner {
            Some(Ok(OwnerSeen { node: owner, epoch })) => {
                if owner != node {
                    finds.add("/owner/node", Worth::text(node), Worth::text(owner), &follows);
                }
                if *epoch != self.epoch {
                    finds.add(
                        "/owner/epoch",
                        Worth::text(&self.epoch),
                        Worth::text(epoch),
                        &follows,
                    );
                }
            }
            Some(Err(problem)) => foreign_owner(node, problem, finds),
            None => finds.add("/owner/node", Worth::text(node), Worth::Nothing, &follows),
        }
        !finds.found.is_empty()
    }

    fn told(&self, told: &Told, address: &str, meaning: &Meaning, finds: &mut Finds<'_>) {
        let here = self.record;
        let mut differs = |path: &str, here: Worth, there: Worth| {
            if here != there {
                finds.add(path, here, there, meaning);
            }
        };
        differs("/told/state", Worth::text(&here.state), Worth::text(&told.state));
        differs(
            "/told/version",
            Worth::Number(here.version.0),
            Worth::Number(told.version.0),
        );
        differs("/told/epoch", Worth::text(&here.epoch), Worth::text(&told.epoch));
        let (ours, theirs) = (here.incarnation.0, told.incarnation.0);
        differs("/told/incarnation", Worth::Number(ours), Worth::Number(theirs));
        let source = |s: Option<&crate::SourceId>| s.map_or(Worth::Nothing, Worth::text);
        differs(
            "/told/source",
            source(here.source.as_ref()),
            source(told.source.as_ref()),
        );
        differs("/told/address", Worth::text(address), Worth::text(&told.address));
    }
}

/// What keeps a room from being claimed that is asked for.
pub(crate) fn claiming(room: &RoomId, node: &NodeName, there: &RegistrySight) -> Vec<Difference> {
    let mut finds = Finds::new(room, Place::Registry);
    if let Some(Err(problem)) = &there.owner {
        foreign_owner(node, problem, &mut finds);
    }
    finds.found
}

fn foreign_owner(node: &NodeName, problem: &str, finds: &mut Finds<'_>) {
    let why = "the owner's key was written after this agent's claim, by none of ours: nothing is claimed over it until \
               somebody deletes it";
    let meaning = Meaning::new(Right::Unknown, Class::Human, why);
    finds.add("/owner", Worth::text(node), Worth::text(problem), &meaning);
}
