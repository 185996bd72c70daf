//! `completions` and `man`: made from the arguments themselves, so that they never differ from what is understood. They
//! need neither a configuration nor the agent.

use super::{
    Cli, Code, Failure,
    args::Shell,
    output::{Output, Tone},
    text,
};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use serde::Serialize;
use std::{
    io,
    path::{Path, PathBuf},
};

/// The script that completes our arguments in a shell.
pub(super) fn completions(shell: Shell) -> Result<String, Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut command = Cli::command();
    let name = command.get_name().to_string();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    utf8(script)
}

/// The manual pages of the program and of each subcommand: written into the directory `to`, or all together for stdout.
pub(super) fn man(to: Option<&Path>, out: Output) -> Result<String, Failure> {
    let pages = pages();
    let Some(dir) = to else {
        let mut text = Vec::new();
        for page in &pages {
            page.render(&mut text).map_err(|e| unmade(&e))?;
        }
        return utf8(text);
    };
    let failed = |e: io::Error| {
        let message = format!("writing the manual pages to {}: {e}", dir.display());
        Failure::new(Code::Failed, message)
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let files: Result<Vec<PathBuf>, io::Error> = pages.iter().map(|page| page.generate_to(dir)).collect();
    let written = Written {
        files: files.map_err(failed)?,
    };
    out.print(&written, |written, out| {
        let n = text::many(written.files.len() as u64, "manual page");
        out.tone(Tone::Good, &format!("Wrote {n} to {}.\n", dir.display()))
    })
}

#[derive(Serialize)]
struct Written {
    files: Vec<PathBuf>,
}

/// The program's page first, then its subcommands' in the order of `--help`, each before its own subcommands'.
fn pages() -> Vec<Man> {
    fn add(command: &Command, pages: &mut Vec<Man>) {
        pages.push(Man::new(command.clone()));
        for command in command.get_subcommands() {
            add(command, pages);
        }
    }
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add(&program, &mut pages);
    pages
}

fn utf8(made: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(made).map_err(|e| unmade(&io::Error::other(e)))
}

fn unmade(problem: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("making it from the arguments: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_and_subcommand_has_a_page_of_its_own_and_one_run_writes_them_all() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("man/man1");
        let said = man(Some(&to), Output::plain()).unwrap();
        let wrote = std::fs::read_dir(&to).unwrap().count();
        assert_eq!(said, format!("Wrote {wrote} manual pages to {}.\n", to.display()));
        for page in [
            "voice-agent.1",
            "voice-agent-block.1",
            "voice-agent-kernel-detach.1",
        ] {
            assert!(to.join(page).exists(), "{page}");
        }
        let block = std::fs::read_to_string(to.join("voice-agent-block.1")).unwrap();
        assert!(block.contains("\\-\\-reason"), "{block}");
        assert_eq!(
            man(None, Output::plain()).unwrap().matches(".TH ").count(),
            wrote,
            "on stdout, all of them"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_said_with_its_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = man(Some(&file.path().join("man1")), Output::plain()).unwrap_err();
        let at = file.path().display().to_string();
        assert!(failure.message.contains(&at), "{}", failure.message);
    }
}
