//! What an agent hears of the store: the changes of others, and every isolation when it starts.

use super::Called;
use crate::{
    net::{Answer, Ask},
    store,
    world::World,
};
use voice_room::Input;

#[derive(Debug, Default)]
pub(super) struct Relay {
    /// The next event to read; it survives the process.
    next: usize,
    under_way: bool,
}

impl World {
    pub(super) fn read_isolations(&mut self, a: usize) {
        self.agents[a].relay.under_way = true;
        self.ask(a, Ask::Store(store::Ask::Isolations), Called::Isolations);
    }

    pub(super) fn follow_events(&mut self, a: usize) {
        let relay = &mut self.agents[a].relay;
        if !relay.under_way {
            relay.under_way = true;
            let from = relay.next;
            self.ask(a, Ask::Store(store::Ask::Events(from)), Called::Events);
        }
    }

    pub(super) fn relayed(&mut self, a: usize, called: &Called, answer: Option<Answer>) {
        self.agents[a].relay.under_way = false;
        match (called, answer) {
            (Called::Events, Some(Answer::Store(store::Answer::Events(events)))) => {
                self.agents[a].relay.next += events.len();
                for (event, isolation) in events {
                    self.feed(a, Input::Heard(event, isolation));
                }
            }
            (Called::Isolations, Some(Answer::Store(store::Answer::Isolations(all)))) => {
                self.feed(a, Input::Isolations(all));
            }
            (Called::Isolations, _) => self.read_isolations(a),
            _ => {}
        }
    }
}
