//! The command line: arguments in, text or JSON out, an exit code. It prints and decides nothing; what a command means is
//! the agent's business, or, when the agent is dead, the pinned maps'.

mod act;
pub mod args;
mod bugtool;
mod client;
mod config;
mod doctor;
mod events;
mod explain;
mod failure;
pub mod history;
mod kernel;
mod kill_file;
mod kill_switch;
mod maintenance;
mod mount_bpffs;
mod output;
mod patrol;
mod pinned;
mod reference;
mod rooms;
mod run;
mod status;
mod text;
mod token;
mod top;
mod topology;
mod unattended;

pub use args::{Cli, Command};
pub use failure::{Code, Failure};

use crate::store::trial;
use args::{ConfigCommand, EventsCommand, KernelCommand};
use output::Output;

/// Does what the arguments say. What is returned goes to stdout; notes and warnings have gone to stderr, and
/// events, which may have no end, to stdout as they came.
pub fn execute(cli: &Cli) -> Result<String, Failure> {
    let out = Output::new(cli.global.json, cli.global.no_color);
    if let Command::Config { command } = &cli.command {
        return match command {
            ConfigCommand::Default => Ok(config::default_file()),
            ConfigCommand::Check => config::check(&cli.global, out),
            ConfigCommand::Show => config::show(&cli.global, out),
        };
    }
    match &cli.command {
        Command::Completions { shell } => return reference::completions(*shell),
        Command::Man { out: dir } => return reference::man(dir.as_deref(), out),
        Command::TryDatabase { which, path } => {
            return client::block_on(async { Ok(trial::verdict(*which, path).await) });
        }
        _ => {}
    }
    if let Command::Run = &cli.command {
        return run::run(config::load_to_run(&cli.global)?);
    }
    if let Command::Token { command } = &cli.command {
        let (_, tokens) = config::load_with_tokens(&cli.global)?;
        return token::token(&tokens, out, command);
    }
    let config = config::load(&cli.global)?;
    if let Command::Doctor = &cli.command {
        return client::block_on(doctor::doctor(&config, out));
    }
    if let Command::MountBpffs = &cli.command {
        return mount_bpffs::mount_bpffs(&config.paths, out);
    }
    if let Command::Bugtool { out: to } = &cli.command {
        return bugtool::bugtool(&cli.global, &config, out, to.as_deref());
    }
    if let Command::Events {
        command,
        follow,
        since,
        group,
        ..
    } = &cli.command
    {
        match (command, group) {
            (Some(EventsCommand::Replay { room }), _) => {
                return client::block_on(events::shared::replay(&config, out, room));
            }
            (Some(EventsCommand::Forget { group }), _) => {
                return client::block_on(events::shared::forget(&config, out, group));
            }
            (None, Some(group)) => {
                let (json, since) = (cli.global.json, since.as_deref());
                return client::block_on(events::shared::group(&config, json, group, since, *follow));
            }
            (None, None) => {}
        }
    }
    let (paths, audit) = (config.paths, config.audit);
    client::block_on(async {
        match &cli.command {
            Command::Run
            | Command::Config { .. }
            | Command::Completions { .. }
            | Command::Man { .. }
            | Command::TryDatabase { .. }
            | Command::Token { .. }
            | Command::Bugtool { .. }
            | Command::MountBpffs
            | Command::Doctor => Ok(String::new()),
            Command::Status => status::status(&paths, out).await,
            Command::Rooms { blocked } => rooms::rooms(&paths, out, *blocked).await,
            Command::Show { room } => rooms::show(&paths, out, room).await,
            Command::Explain { room } => explain::explain(&paths, out, room).await,
            Command::History(asked) => history::history(&paths, out, asked).await,
            Command::Events {
                room, follow, since, ..
            } => events::events(&paths, cli.global.json, room.as_ref(), since.as_deref(), *follow).await,
            Command::Block { room, lasts, reason } => act::block(&paths, out, room, *lasts, reason).await,
            Command::Release { room, reason, .. } => {
                act::release(&paths, &audit, out, room.as_ref(), reason).await
            }
            Command::Diff { room } => patrol::diff(&paths, out, room.as_ref()).await,
            Command::Repair { room, dry_run, .. } => {
                patrol::repair(&paths, out, room.as_ref(), *dry_run).await
            }
            Command::KillSwitch { turn } => kill_switch::kill_switch(&paths, &audit, out, *turn).await,
            Command::Maintenance { command } => maintenance::maintenance(&paths, out, command).await,
            Command::Kernel { command } => match command {
                KernelCommand::Status => kernel::status(&paths, out).await,
                KernelCommand::Detach => kernel::detach(&paths, &audit, out),
            },
            Command::Top => top::top(&paths, out).await,
            Command::Topology { room } => topology::topology(&paths, out, room.as_ref()).await,
        }
    })
}
