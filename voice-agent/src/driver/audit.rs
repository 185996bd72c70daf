//! What the driver itself tells the audit log: a start with what it took over, its stop, and what came about without a
//! command. Decisions of the core go there entry by entry, and what operators ask for from the admin service.

use super::{Driver, clock::now};
use crate::{
    api,
    telemetry::audit::{self, Line},
};
use serde_json::json;
use voice_room::{Core, RoomId, State, timeline::Actor};

impl Driver {
    /// The start, and each cut that it found and goes on with. One that it lifts comes as a note of the core.
    pub(super) fn audit_start(&self) {
        let (core, now) = (&self.core, now());
        let found = json!({
            "rooms": rooms(core),
            "isolated": core.isolations(now).len(),
            "maintenance": core.maintenance(now).len(),
            "recovery": self.recovery,
        });
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "mode": self.mode.get(),
        });
        let started = audit::agent("agent_started", now.wall);
        self.audit.write(started.evidence(found).result(about));
        for room in core.views(now) {
            let Some(block) = room.block.filter(|block| !block.left.is_zero()) else {
                continue;
            };
            let line = audit::agent("block_adopted", now.wall)
                .life(&room.room, room.incarnation)
                .reason(block.reason)
                .result(json!({ "until_unix_ms": block.until.0 }));
            self.audit.write(line);
        }
    }

    /// What the service manager shows of the agent.
    pub(super) fn tell_supervisor(&self) {
        let live = [State::Created, State::Liveing, State::GraceClosing];
        let live: usize = live.into_iter().map(|state| self.core.count(state)).sum();
        let (cut, mode) = (
            self.kernel.armings().enforced,
            api::convert::mode(self.mode.get()),
        );
        self.supervisor
            .status(&format!("{live} live rooms, {cut} cut, mode {mode}"));
    }

    pub(super) fn audit_stop(&self) {
        let (now, armings) = (now(), self.kernel.armings());
        let line = audit::agent("agent_stopped", now.wall).result(json!({
            "rooms": rooms(&self.core),
            "blocks_in_force": armings.enforced,
        }));
        self.audit.write(line);
    }

    /// The switch was found turned: by a command without the agent, or by hand.
    pub(super) fn audit_found_switch(&self, on: bool) {
        let somebody = Actor::Operator { uid: None };
        let line = Line::new("kill_switch_found", somebody, now().wall);
        self.audit.write(line.result(json!({ "on": on })));
    }

    /// A maintenance ended because its time was over. `None`: that of every room.
    pub(super) fn audit_maintenance_over(&self, room: Option<&RoomId>) {
        let line = audit::agent("maintenance_over", now().wall).reason("its time is over");
        let line = line.result(json!({ "every_room": room.is_none() }));
        self.audit.write(match room {
            Some(room) => line.room(room.as_str()),
            None => line,
        });
    }

    /// Most notes are about input that was left out. This one is a decision.
    pub(super) fn audit_note(&self, code: &str, room: &RoomId, detail: &str) {
        if code == "unexplained_block" {
            let line = audit::agent("block_lifted_at_start", now().wall).room(room.as_str());
            self.audit
                .write(line.reason(detail).result(json!({ "ok": true })));
        }
    }
}

fn rooms(core: &Core) -> serde_json::Value {
    let count = |state: State| (state.name().to_owned(), core.count(state).into());
    serde_json::Value::Object(State::ALL.map(count).into_iter().collect())
}
