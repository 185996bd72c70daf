//! The kill switch: a file and a pinned word. Either turns it on; the file's going turns it off again.

use super::Driver;
use std::{io, path::PathBuf};
use voice_room::Input;

/// What is known of the switch.
#[derive(Debug)]
pub(super) struct KillSwitch {
    /// `PATHS.run/kill-switch`: its presence turns the switch on, also for an agent that starts later.
    file: PathBuf,
    file_there: bool,
    on: bool,
}

impl KillSwitch {
    pub(super) fn new(file: PathBuf) -> KillSwitch {
        KillSwitch {
            file,
            file_there: false,
            on: false,
        }
    }
}

impl Driver {
    /// Follows what was done to the file or the word without a command.
    pub(super) fn follow_kill_switch(&mut self) {
        if let Some(on) = self.turn_kill_switch() {
            self.audit_found_switch(on);
        }
    }

    /// Compares file and word with what is known; the core hears of a change, which is the result.
    fn turn_kill_switch(&mut self) -> Option<bool> {
        let there = self.kill_switch.file.exists();
        if there != std::mem::replace(&mut self.kill_switch.file_there, there)
            && let Err(error) = self.kernel.set_kill_switch(there)
        {
            tracing::error!(%error, on = there, "cannot write the kill-switch word");
        }
        let on = self.kernel.kill_switch() || there;
        if on == std::mem::replace(&mut self.kill_switch.on, on) {
            return None;
        }
        tracing::warn!(on, "kill switch");
        self.take(Input::KillSwitch(on));
        Some(on)
    }

    /// Turns it by command: the word first, since it is what counts, then the file.
    pub(super) fn set_kill_switch(&mut self, on: bool) -> Result<(), String> {
        self.kernel.set_kill_switch(on).map_err(|e| e.to_string())?;
        let file = &self.kill_switch.file;
        let done = if on {
            std::fs::write(file, b"on\n")
        } else {
            std::fs::remove_file(file)
        };
        match done {
            Err(e) if on || e.kind() != io::ErrorKind::NotFound => {
                let path = file.display();
                Err(format!("the kernel's word is set, but {path} is not: {e}; an agent that starts later will not know"))
            }
            _ => Ok(()),
        }
        .inspect(|()| {
            self.turn_kill_switch();
        })
    }
}
