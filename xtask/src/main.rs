//! `cargo xtask`: the project's own commands. What each needs is set up by itself (`setup`); what each does lies in
//! the file of its name. Arguments are in `args`.

mod args;
mod bench;
mod command;
mod demo;
mod dist;
mod ebpf;
mod fix;
mod kernel_matrix;
mod progress;
mod setup;
mod simulate;
mod test;
mod verify;

use anyhow::Context;
use args::{Args, Task};
use clap::Parser;
use progress::Progress;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Something this machine lacks and that only its owner can give. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Missing(String);

fn main() -> ExitCode {
    let args = Args::parse();
    run(args.task).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(if error.is::<Missing>() { 2 } else { 1 })
    })
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    let root = root()?;
    let progress = Progress::to_stderr();
    match task {
        Task::Demo(options) => demo::run(&root, &progress, &options),
        Task::Test(options) => test::run(&root, &progress, &options),
        Task::Simulate(options) => simulate::run(&root, &options),
        Task::Bench(options) => bench::run(&root, &progress, options),
        Task::Dist => dist::run(&root, &progress),
        Task::KernelMatrix(options) => kernel_matrix::run(&root, &progress, options),
        Task::BuildEbpf => {
            let object = build_ebpf(&root, &progress)?;
            println!("{}", object.display());
            Ok(ExitCode::SUCCESS)
        }
        Task::Verify => verify::run(&root, &progress),
        Task::Fix => fix::run(&root, &progress),
    }
}

/// The eBPF object, with the tools that its build needs.
fn build_ebpf(root: &Path, progress: &Progress) -> anyhow::Result<PathBuf> {
    setup::build_tools(root, progress)?;
    progress.section("eBPF programs", || ebpf::build(root))
}

/// The workspace: the folder above this crate.
fn root() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Ok(root.context("xtask has no folder above it")?.to_path_buf())
}
