//! A real terminal: tmux with a server of its own. What a program draws is read back, keys are typed, its size changes.

use crate::{agent::Agent, clock};
use anyhow::{Context, bail};
use std::{
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// A terminal with a shell that runs one command, says how it ended and how it left the terminal, and waits. Its server ends
/// with it.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// `voice-agent ARGS` with this agent's configuration, in a terminal of so many columns and lines; `env` is put before it
    /// (`NO_COLOR=1`).
    pub fn run(
        agent: &Agent,
        args: &str,
        env: &str,
        (columns, lines): (u16, u16),
    ) -> anyhow::Result<Terminal> {
        // A socket of its own: the server of the terminal before may still be ending.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let binary = crate::agent::binary::path()?;
        let terminal = Terminal {
            socket: agent.dir().join(format!("tmux-{number}")),
        };
        let (binary, config) = (binary.display(), agent.config());
        // -icanon and -echo: raw, not given back.
        let shell = format!(
            "env -u NO_COLOR {env} {binary} --config {} {args}; echo \"ended $?\"; stty -a | grep -ow -- '-*icanon\\|-*echo'; exec sleep 600",
            config.display()
        );
        let size = [columns.to_string(), lines.to_string()];
        terminal.tmux(&["new-session", "-d", "-x", &size[0], "-y", &size[1], &shell])?;
        Ok(terminal)
    }

    /// What is on the screen, line by line.
    pub fn screen(&self) -> anyhow::Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with the codes of colours.
    pub fn screen_in_colour(&self) -> anyhow::Result<String> {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen is so.
    pub fn wait(&self, what: &str, within: Duration, holds: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let mut last = String::new();
        let seen = clock::poll(within, || {
            last = self.screen().unwrap_or_else(|e| format!("{e:#}"));
            holds(&last).then_some(())
        });
        match seen {
            Some(()) => Ok(last),
            None => bail!("{what}: not within {within:?}; the screen is\n{last}"),
        }
    }

    /// Types keys by tmux' names of them: `Enter`, `Escape`, `Down`, `s`.
    pub fn keys(&self, keys: &[&str]) -> anyhow::Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Gives the terminal another size.
    pub fn resize(&self, (columns, lines): (u16, u16)) -> anyhow::Result<()> {
        let size = [columns.to_string(), lines.to_string()];
        self.tmux(&["resize-window", "-x", &size[0], "-y", &size[1]])
            .map(drop)
    }

    /// Sends the program a signal, by its number's name (`INT`).
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"])?;
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        let child = children
            .split_whitespace()
            .next()
            .context("the program runs no more")?;
        let status = Command::new("kill").args(["-s", name, child]).status()?;
        if !status.success() {
            bail!("kill -s {name} {child}: {status}");
        }
        Ok(())
    }

    /// Waits for the program's end; its exit code, when the terminal is as it was before: the ordinary screen, a cursor, lines
    /// and echo.
    pub fn ended(&self, within: Duration) -> anyhow::Result<String> {
        let screen = self.wait("the program ends", within, |s| {
            s.contains("ended ") && s.contains("echo")
        })?;
        let left = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"])?;
        if left.trim() != "0 1" || screen.contains("-icanon") || screen.contains("-echo") {
            bail!(
                "the terminal is not as it was (alternate screen, cursor: {}):\n{screen}",
                left.trim()
            );
        }
        let code = screen.lines().find_map(|line| line.strip_prefix("ended "));
        code.map(str::to_owned).context("no exit code")
    }

    fn tmux(&self, args: &[&str]) -> anyhow::Result<String> {
        let out = self.command(args)?;
        if !out.status.success() {
            bail!(
                "tmux {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&out.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    fn command(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new("tmux");
        command
            .arg("-S")
            .arg(&self.socket)
            .args(["-u", "-f", "/dev/null"]);
        // Under a tmux of the developer's it would refuse to nest.
        command
            .env_remove("TMUX")
            .env("TERM", "xterm-256color")
            .args(args);
        command.output().context("run tmux")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only this socket's server; it may have ended by itself.
        let _ = self.command(&["kill-server"]);
    }
}
