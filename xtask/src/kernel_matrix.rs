//! `cargo xtask kernel-matrix`: boots Debian's kernels in virtual machines, one after the other, and runs the checks of
//! `tests/src/guest` on each, with the agent's own kernel programs. Needs no root and no KVM.

mod guest;
mod initramfs;
mod kernels;
mod report;

use crate::{args::KernelMatrix, build_ebpf, command, progress::Progress, setup};
use anyhow::Context;
use guest::Guest;
use kernels::SUITES;
use report::Tried;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

/// Where things lie, below target/kernel-matrix; kernels stay there for the next run.
struct Work {
    dir: PathBuf,
    /// The static program that checks, without symbols.
    checks: PathBuf,
}

/// Prints a line for each kernel, and what does not hold there. Exit code 1 when anything does not, or could not be tried.
pub(crate) fn run(root: &Path, progress: &Progress, options: KernelMatrix) -> anyhow::Result<ExitCode> {
    setup::packages(progress, &[setup::KERNELS])?;
    build_ebpf(root, progress)?;
    let dir = root.join("target/kernel-matrix");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let work = Work {
        checks: dir.join("kernel-guest"),
        dir,
    };
    progress.section("static program of the checks", || work.build(root))?;
    let tried: Vec<Tried> = SUITES.iter().map(|suite| work.attempt(progress, suite)).collect();
    let passed = tried.iter().all(Tried::passed);
    if options.json {
        println!("{}", report::json(&tried));
    } else {
        print!("{}", report::table(&tried));
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Work {
    fn build(&self, root: &Path) -> anyhow::Result<()> {
        setup::static_target(root)?;
        let build = ["build", "--locked", "--target", setup::STATIC_TARGET];
        let what = ["--package", "voice-tests", "--bin", "kernel-guest"];
        command::loud(&mut command::cargo(root, build.into_iter().chain(what)))?;
        let built = root
            .join("target")
            .join(setup::STATIC_TARGET)
            .join("debug/kernel-guest");
        // A tenth of its size: a virtual machine has to unpack it.
        command::quiet(Command::new("strip").arg("-o").arg(&self.checks).arg(built)).map(drop)
    }

    /// One kernel: fetched, booted, judged. What goes wrong is in the answer, so that the others are tried all the same.
    fn attempt(&self, progress: &Progress, suite: &kernels::Suite) -> Tried {
        let kernel = suite.cached(&self.dir).map_or_else(
            || {
                progress.step(&format!("Linux {} of {}", suite.version, suite.name), || {
                    suite.fetch(&self.dir)
                })
            },
            Ok,
        );
        let begun = Instant::now();
        let mut answer = None;
        let step = progress.step(
            &format!("checks on Linux {} ({})", suite.version, suite.name),
            || {
                let kernel = kernel.context("the kernel is not to be had")?;
                let image = self.dir.join(format!("{}.cpio", suite.name));
                initramfs::write(&image, &self.checks, &kernel.modules)?;
                let console = self.dir.join(format!("{}.log", suite.name));
                let guest = Guest::boot(&kernel.image, &image, &console)?;
                let problem = guest.problem();
                answer = Some(guest);
                problem.map_or(Ok(()), |problem| Err(anyhow::anyhow!(problem)))
            },
        );
        Tried {
            suite: suite.name,
            guest: answer,
            problem: step.err().map(|error| format!("{error:#}")),
            took: begun.elapsed(),
        }
    }
}
