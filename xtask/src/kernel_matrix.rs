//! `cargo xtask kernel-matrix`: boots Debian's kernels in virtual machines, and runs the checks of
//! `tests/src/guest` on each, with the agent's own kernel programs. Needs no root and no KVM.

mod guest;
mod initramfs;
mod kernels;
mod report;

use crate::{args::KernelMatrix, build_ebpf, command, progress::Progress, setup};
use anyhow::Context;
use guest::Guest;
use kernels::{Kernel, SUITES, Suite};
use report::Tried;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

/// How many virtual machines run at a time: each keeps about one core busy.
const LANES: usize = 2;

/// Where things lie, below target/kernel-matrix; kernels stay there for the next run.
struct Work {
    dir: PathBuf,
    /// The static program that checks, without symbols.
    checks: PathBuf,
}

/// A suite, and its kernel if it is to be had.
struct Wanted {
    suite: Suite,
    kernel: anyhow::Result<Kernel>,
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
    let kernels = SUITES.map(|suite| work.kernel(progress, suite));
    let tried = progress.section("checks in virtual machines, two at a time", || {
        Ok(work.attempt_all(kernels))
    })?;
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

    /// What an earlier run fetched, or what is fetched now. A kernel that is not to be had keeps nobody from trying the others.
    fn kernel(&self, progress: &Progress, suite: Suite) -> Wanted {
        let fetch = || {
            progress.step(&format!("Linux {} of {}", suite.version, suite.name), || {
                suite.fetch(&self.dir)
            })
        };
        let kernel = suite.cached(&self.dir).map_or_else(fetch, Ok);
        Wanted { suite, kernel }
    }

    /// Every kernel, in the order given.
    fn attempt_all(&self, kernels: [Wanted; SUITES.len()]) -> Vec<Tried> {
        let waiting = Mutex::new(kernels.into_iter().enumerate());
        let tried = Mutex::new(Vec::new());
        let next = || lock(&waiting).next();
        let lane = || {
            while let Some((at, wanted)) = next() {
                let one = self.attempt(wanted);
                eprintln!("..   {}", one.words());
                lock(&tried).push((at, one));
            }
        };
        thread::scope(|scope| {
            for _ in 0..LANES {
                scope.spawn(lane);
            }
        });
        let mut tried = lock(&tried).drain(..).collect::<Vec<_>>();
        tried.sort_by_key(|(at, _)| *at);
        tried.into_iter().map(|(_, one)| one).collect()
    }

    /// One kernel, booted and judged. What goes wrong is in the answer.
    fn attempt(&self, wanted: Wanted) -> Tried {
        let begun = Instant::now();
        let name = wanted.suite.name;
        let booted = wanted
            .kernel
            .context("the kernel is not to be had")
            .and_then(|kernel| {
                let image = self.dir.join(format!("{name}.cpio"));
                initramfs::write(&image, &self.checks, &kernel.modules)?;
                Guest::boot(&kernel.image, &image, &self.dir.join(format!("{name}.log")))
            });
        let (guest, problem) = match booted {
            Ok(guest) => {
                let problem = guest.problem();
                (Some(guest), problem)
            }
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Tried {
            suite: name,
            guest,
            problem,
            took: begun.elapsed(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
