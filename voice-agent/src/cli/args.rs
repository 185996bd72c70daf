//! The arguments. Their help texts are the CLI's reference; `docs/OPERATIONS.md` adds what does not fit here.

use super::history::Asked;
use crate::store::trial::Database;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};
use voice_room::RoomId;

const AFTER: &str = "\
Exit codes:
  0  done
  1  refused or failed; doctor: something fails (warnings alone are 0)
  2  wrong arguments or configuration
  3  the agent is not running (or does not answer) and the command needs it
  4  no such room
  5  permission denied

Without the agent, `doctor` and `bugtool` work, and `rooms --blocked`, `release`, `kill-switch`,
`kernel status` and `kernel detach` work on the maps pinned in the kernel, and say so on stderr.

Errors are one line on stderr; with --json one object on stderr:
  {\"error\":{\"code\":\"no_such_room\",\"exit\":4,\"message\":\"…\"}}";

/// Cuts the media of stuck voice rooms in the kernel, and shows why.
#[derive(Debug, Parser)]
#[command(name = "voice-agent", version, after_help = AFTER, max_term_width = 100)]
#[command(propagate_version = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What holds for every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// The configuration file [default: /etc/voice-agent/config.toml, if it exists]
    #[arg(long, value_name = "FILE", global = true, env = "VOICE_AGENT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one configuration key, over file and environment, like trip.mode=shadow; may be repeated
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// The agent of this name, where several run on one host
    #[arg(long, value_name = "NAME", global = true)]
    pub instance: Option<String>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// No colours; NO_COLOR in the environment does the same
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent until SIGTERM; cuts stay in force when it ends; SIGHUP reloads the configuration
    Run,
    /// Look at everything the agent stands on, and say what to do; exit code 1 if something fails; works without the agent
    Doctor,
    /// Open and read a database of the agent, and say how it went; the agent and doctor run this before they do it themselves
    #[command(hide = true)]
    TryDatabase {
        /// Which one
        which: Database,
        /// Its directory
        path: PathBuf,
    },
    /// One screen: agent, rooms by state, cuts, kernel, counters
    Status,
    /// The node on a full screen, asked anew every second: rooms, cuts, drop rates, dependencies, trips; a room with its timeline
    Top,
    /// List the rooms of this node
    Rooms {
        /// Only those under a cut; works without the agent
        #[arg(long)]
        blocked: bool,
    },
    /// Show one room
    Show {
        /// The room
        room: RoomId,
    },
    /// Tell why a room was cut or not: the recorded evidence of each decision, in order
    Explain {
        /// The room
        room: RoomId,
    },
    /// Show what a room was like, every few seconds; or which rooms went a way through the states
    History(Asked),
    /// Print the changes of state in order, a line or (with --json) an object each
    #[command(args_conflicts_with_subcommands = true)]
    Events {
        /// Something else with them
        #[command(subcommand)]
        command: Option<EventsCommand>,
        /// Only of this room
        room: Option<RoomId>,
        /// Go on with new ones until interrupted
        #[arg(long)]
        follow: bool,
        /// Only those after this position, the first column; with Redis also from a time (RFC 3339) on [default: from the
        /// oldest one kept]
        #[arg(long, value_name = "POSITION")]
        since: Option<String>,
        /// As one of this group of consumers: what it has not acknowledged, each event to one of them, acknowledged once it is
        /// printed; a new group begins at --since; needs Redis; works without the agent
        #[arg(long, value_name = "NAME", value_parser = group_name, conflicts_with = "room")]
        group: Option<String>,
    },
    /// Cut a room now: drop its media, push STATE_EXPIRED, refuse rejoins
    Block {
        /// The room
        room: RoomId,
        /// For how long, like 60s or 5m [default: the configured isolation]
        #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
        lasts: Option<Duration>,
        /// Why, for the audit log and for the ones who are refused
        #[arg(long)]
        reason: String,
    },
    /// Lift the cut of one room, or of all; works without the agent
    #[command(group = clap::ArgGroup::new("which").required(true).args(["room", "all"]))]
    Release {
        /// The room
        room: Option<RoomId>,
        /// Every room under a cut
        #[arg(long)]
        all: bool,
        /// Why, for the audit log
        #[arg(long, default_value = "released by operator")]
        reason: String,
    },
    /// Compare rooms with what store, registry and kernel hold of them now; says which differences have stood
    Diff {
        /// Only this one
        room: Option<RoomId>,
    },
    /// Write what is here where it differs and this agent may: also in the store, which is repaired by command only
    #[command(group = clap::ArgGroup::new("what").required(true).args(["room", "all"]))]
    Repair {
        /// The room
        room: Option<RoomId>,
        /// Every room
        #[arg(long)]
        all: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// While it is on, no packet is dropped and no room trips; works without the agent
    KillSwitch {
        /// Turn it, or tell how it is
        turn: Turn,
    },
    /// Maintenance of a room, or of every room: nothing trips meanwhile; cuts that are in force stay
    Maintenance {
        /// What of it
        #[command(subcommand)]
        command: MaintenanceCommand,
    },
    /// The programs and maps in the kernel; works without the agent
    Kernel {
        /// What of it
        #[command(subcommand)]
        command: KernelCommand,
    },
    /// List the connected peers: gateways, signalling and media servers
    Topology {
        /// Only those that serve this room
        room: Option<RoomId>,
    },
    /// Host device tokens
    Token {
        /// What of them
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Mount a bpf file system on paths.bpffs unless there is one, as an init container has to; works without the agent
    MountBpffs,
    /// Write one archive (tar.gz) for who was not there: configuration without secrets, status, rooms, maps, logs, evidence;
    /// works without the agent
    Bugtool {
        /// Into this new file instead of stdout; a terminal is refused
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// The configuration
    Config {
        /// What of it
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the script that completes these arguments in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the manual pages, of every command
    Man {
        /// Write them into this directory instead, a file for each command
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Shells that can be helped along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What to do with the kill switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Turn {
    /// Drop nothing
    On,
    /// Cuts apply again
    Off,
    /// Tell how it is
    Status,
}

/// What else to do with the events in Redis; all work without the agent.
#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Rebuild a room's state from its events and compare it with its record; exit code 1 when they differ
    Replay {
        /// The room
        room: RoomId,
    },
    /// Forget a group of consumers: from then on nothing is kept for it
    Forget {
        /// The group
        #[arg(value_parser = group_name)]
        group: String,
    },
}

/// What to do with maintenance. It survives a restart of the agent.
#[derive(Debug, Subcommand)]
pub enum MaintenanceCommand {
    /// Let nothing trip, for a time
    #[command(group = clap::ArgGroup::new("whom").required(true).args(["room", "all"]))]
    On {
        /// The room
        room: Option<RoomId>,
        /// Every room of this node
        #[arg(long)]
        all: bool,
        /// For how long, like 10m; at most 24h
        #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
        lasts: Duration,
        /// Why, for the audit log and for who asks `explain`
        #[arg(long)]
        reason: String,
    },
    /// End it before its time
    #[command(group = clap::ArgGroup::new("whose").required(true).args(["room", "all"]))]
    Off {
        /// The room
        room: Option<RoomId>,
        /// That of every room; rooms with one of their own keep it
        #[arg(long)]
        all: bool,
    },
    /// What is under it, why, by whom and until when
    List,
}

/// What to do with the kernel side.
#[derive(Debug, Subcommand)]
pub enum KernelCommand {
    /// Interfaces, programs, slots, and what was passed unjudged
    Status,
    /// Remove every program and map of this instance from the kernel, which ends its cuts; refused while the agent runs
    Detach,
}

/// What to do with host device tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Verify the token on stdin with the configured keys, and say what is wrong with it
    Check {
        /// The room it is to start
        #[arg(long)]
        room: RoomId,
    },
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the documented default file
    Default,
    /// Check file, environment and flags; every mistake is listed
    Check,
    /// Print what is in force, without secrets
    Show,
}

fn group_name(text: &str) -> Result<String, String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    match (1..=64).contains(&text.len()) && text.bytes().all(ok) {
        true => Ok(text.to_owned()),
        false => Err("must be 1 to 64 characters of A-Z a-z 0-9 . _ -".into()),
    }
}

fn lasting(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(d) if d.is_zero() => Err("must be longer than nothing".into()),
        Ok(d) => Ok(d),
        Err(e) => Err(format!("{e}; write it like 60s, 5m or 1h 30m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Code;
    use clap::CommandFactory;

    const DOC: &str = include_str!("../../../docs/OPERATIONS.md");

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn operations_md_lists_every_command_global_flag_and_failure() {
        let cli = Cli::command();
        for command in cli
            .get_subcommands()
            .filter(|c| c.get_name() != "help" && !c.is_hide_set())
        {
            let row = format!("| `{}", command.get_name());
            assert!(DOC.contains(&row), "{row}");
        }
        for flag in Cli::command().get_arguments().filter_map(|a| a.get_long()) {
            let row = format!("| `--{flag}");
            assert!(flag == "help" || flag == "version" || DOC.contains(&row), "{row}");
        }
    }

    #[test]
    fn operations_md_and_help_give_each_failure_its_exit_code() {
        for code in Code::ALL {
            let (number, name) = (code.exit(), format!("`{}`", code.name()));
            let row = |line: &&str| line.starts_with(&format!("| {number} |")) && line.contains(&name);
            assert!(DOC.lines().any(|line| row(&line)), "{number} {name}");
            assert!(AFTER.contains(&format!("\n  {number}  ")), "{number}");
        }
    }
}
