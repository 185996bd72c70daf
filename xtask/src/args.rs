//! The arguments of `cargo xtask`, and their help.

use clap::{Parser, Subcommand, ValueEnum};

/// The project's own commands.
///
/// Each does its own set-up: on Debian or Ubuntu, rustup, git and a C compiler are enough to start. Tools go into
/// target/tools; Debian packages that are missing are installed when run as root and named otherwise.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong arguments or something is missing on this machine (it is named)."
)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Show a stuck room being cut in the kernel, in two namespaces of its own (root; under a minute once built)
    Demo(Demo),
    /// Run the tests and print "N passed, N failed" (root; under 30 minutes from a fresh clone on two cores)
    Test(Test),
    /// Simulate agents, peers, store and registry over faulty links, from seeds (no root; 200 seeds take seconds)
    Simulate(Simulate),
    /// Measure, and compare with the goals (root; a release build first; exit code 1 when a goal does not hold)
    Bench(Bench),
    /// Boot Debian's kernels from 5.10 on in virtual machines and run checks of the kernel programs there (no root, no KVM; two minutes)
    KernelMatrix(KernelMatrix),
    /// Make what is shipped, in target/shipped: static binary, OCI image, Debian package, checksums (a release build)
    Dist,
    /// Build the XDP and TC programs and print where the object is
    BuildEbpf,
    /// Check formatting, lints, docs, purity and dependencies; changes nothing
    Verify,
    /// Format, and apply what clippy can fix by itself
    Fix,
}

/// How to run the demo.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Demo {
    /// Stuck after 90 s and cut for 300 s, as in production, rather than shortened
    #[arg(long)]
    pub(crate) real_times: bool,
    /// Take the rooms from a real Janus (installs janus and ffmpeg)
    #[arg(long)]
    pub(crate) janus: bool,
    /// Print the measured result as one JSON object, as the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the work folder (logs, state) behind and say where it is
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Bench {
    /// The bench
    #[arg(value_enum)]
    pub(crate) name: BenchName,
    /// Print the result as one JSON object, on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Every bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchName {
    /// The kernel programs: cost per packet, time to the first drop, drop rate beside nftables (a minute)
    Kernel,
    /// A full node: CPU and memory with 10,000 live rooms, and a storm of 4,000 trips (three minutes)
    Node,
    /// An agent with 10,000 live rooms, snapshots and patrol on: CPU, memory, how long a round of patrol takes (three minutes)
    Agent,
    /// 10,000 rooms claimed anew in etcd after a lost lease and after a restart, and what others notice of it (a minute)
    Recovery,
    /// Changes of rooms in Redis, beside redis-benchmark and beside read, compare, write (a minute)
    Cas,
    /// Changes that three participants must agree to, near and 50 ms away, and a STATE_EXPIRED to 2,000 gateways (two minutes)
    Sync,
    /// Snapshots of 10,000 rooms: CPU, bytes, and questions over ten million of them (a minute)
    History,
}

/// How to tell what other kernels do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct KernelMatrix {
    /// Print the result as one JSON object, on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which seeds to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Simulate {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    pub(crate) seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// This one only, and print all that happens in it
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    pub(crate) seed: Option<u64>,
}

/// Which tests to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Test {
    /// Only a part: a crate (voice-room), a test file (tests/NAME.rs), "docs", or else tests whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Option<String>,
    /// Also what takes longer (the tests marked as ignored)
    #[arg(long)]
    pub(crate) full: bool,
    /// Handed to every test binary, as after `cargo test --`
    #[arg(last = true, value_name = "EXTRA")]
    pub(crate) extra: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Task, clap::Error> {
        Args::try_parse_from(line.split(' ')).map(|args| args.task)
    }

    #[test]
    fn the_definition_of_the_arguments_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn test_takes_a_part_and_hands_the_rest_on() {
        let Task::Test(options) =
            parse("xtask test --only voice-room --full -- --nocapture --exact").unwrap()
        else {
            panic!("not the test task");
        };
        assert_eq!(options.only.as_deref(), Some("voice-room"));
        assert!(options.full);
        assert_eq!(options.extra, ["--nocapture", "--exact"]);
    }

    #[test]
    fn an_extra_without_the_dashes_is_refused() {
        assert!(parse("xtask test --nocapture").is_err());
        assert!(parse("xtask test kernel").is_err());
    }

    #[test]
    fn demo_takes_its_four_flags_and_no_others() {
        let Task::Demo(options) = parse("xtask demo --real-times --janus --json --keep").unwrap() else {
            panic!("not the demo task");
        };
        let all = Demo {
            real_times: true,
            janus: true,
            json: true,
            keep: true,
        };
        assert_eq!(options, all);
        assert!(parse("xtask demo --fast").is_err());
    }

    #[test]
    fn simulate_takes_a_number_of_seeds_or_one() {
        let Task::Simulate(options) = parse("xtask simulate --seeds 50 --from 7").unwrap() else {
            panic!("not the simulate task");
        };
        assert_eq!((options.seeds, options.from, options.seed), (50, 7, None));
        let Task::Simulate(options) = parse("xtask simulate --seed 3").unwrap() else {
            panic!("not the simulate task");
        };
        assert_eq!(options.seed, Some(3));
        assert!(parse("xtask simulate --seed 3 --seeds 9").is_err());
    }

    #[test]
    fn bench_takes_the_name_of_one_bench_and_json() {
        let Task::Bench(options) = parse("xtask bench kernel --json").unwrap() else {
            panic!("not the bench task");
        };
        assert_eq!((options.name, options.json), (BenchName::Kernel, true));
        assert!(parse("xtask bench").is_err());
        assert!(parse("xtask bench all").is_err());
    }

    #[test]
    fn the_two_word_tasks_are_spelt_with_a_dash() {
        assert!(matches!(parse("xtask build-ebpf"), Ok(Task::BuildEbpf)));
        assert!(matches!(
            parse("xtask kernel-matrix --json"),
            Ok(Task::KernelMatrix(KernelMatrix { json: true }))
        ));
        assert!(matches!(parse("xtask verify"), Ok(Task::Verify)));
        assert!(matches!(parse("xtask fix"), Ok(Task::Fix)));
    }
}
