//! What the tests of stores share: changes to commit, and a process of their own, to be killed or to have a failing disk: a
//! test starts itself again.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use voice_room::{
    Change, Epoch, EventType, Incarnation, OpId, RoomId, RoomRecord, State, StateChangeEvent, Version, Wall,
    record::IsolationChange, timeline::Actor,
};

/// Set in the child, to the directory it works in. Not of the configuration's prefix.
const DIR: &str = "STORE_TEST_DIR";
const ACK: &str = "ack ";

/// A test running as a child process. Killed with -9 and waited for when dropped.
pub(crate) struct Child(std::process::Child);

/// In the child: the directory to work in. In the parent: `None`.
pub(crate) fn child_dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

/// In the child: tells the parent a line.
pub(crate) fn ack(line: &str) {
    println!("{ACK}{line}");
}

impl Child {
    /// Starts the test of this full name again, as a child.
    pub(crate) fn start(test: &str, dir: &Path) -> Child {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .spawn();
        Child(child.unwrap())
    }

    /// The lines the child tells, until it ends or `count` are read.
    pub(crate) fn acks(&mut self, count: usize) -> Vec<String> {
        let lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        lines
            .map_while(Result::ok)
            .filter_map(|line| Some(line.split_once(ACK)?.1.to_owned()))
            .take(count)
            .collect()
    }

    /// Waits for the child's end; whether it succeeded.
    pub(crate) fn succeeded(mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets no file of this process be written beyond `bytes`; `None` lifts that. Writes fail as on a full disk. Only for
/// children: it holds for every test of the process.
pub(crate) fn limit_files(bytes: Option<u64>) {
    let limit = libc::rlimit {
        rlim_cur: bytes.unwrap_or(libc::RLIM_INFINITY),
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: both calls only take the address of a live, initialised value or none at all.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

/// The creation of a room: version 1, epoch 0.1.
pub(crate) fn change(room: &str) -> Change {
    let room = RoomId::new(room).unwrap();
    let (version, epoch, incarnation) = (Version(1), Epoch { era: 0, revision: 1 }, Incarnation(1));
    let op_id = OpId::new(&format!("{room}-1")).unwrap();
    let record = RoomRecord {
        room: room.clone(),
        state: State::Created,
        version,
        epoch,
        op_id: op_id.clone(),
        incarnation,
        owner: "node-1".parse().unwrap(),
        since: Wall(1_000),
        source: None,
        host: None,
        ports: Vec::new(),
    };
    let event = StateChangeEvent {
        room,
        incarnation,
        event_type: EventType::Create,
        old_state: None,
        new_state: State::Created,
        version,
        epoch,
        op_id,
        actor: Actor::Agent,
        reason: "test".into(),
        trace_id: None,
        timestamp: Wall(1_000),
    };
    Change::new(record, event, IsolationChange::Keep)
}

/// The change after `last`, by `event` to `state`.
pub(crate) fn then(last: &Change, event: EventType, state: State) -> Change {
    let mut next = last.clone();
    let begins = matches!(event, EventType::Create | EventType::Adopt);
    next.record.version = last.record.version.next();
    next.record.state = state;
    next.record.op_id = OpId::new(&format!("{}-{}", next.record.room, next.record.version)).unwrap();
    next.event.event_type = event;
    next.event.old_state = Some(last.record.state).filter(|_| !begins);
    next.event.new_state = state;
    next.event.version = next.record.version;
    next.event.op_id = next.record.op_id.clone();
    next.isolation = IsolationChange::Keep;
    next
}
