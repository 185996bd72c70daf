//! What `cargo xtask dist` makes: checksums, the static binary, the image run by podman, the Debian package. Needs all of it to
//! be there, which `cargo xtask test --full` sees to.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is how they fail")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use voice_tests::{
    agent::{Agent, Settings, settings::Times},
    netns::Pair,
    stage::{ALPHA, Stage},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target")
        .canonicalize()
        .unwrap()
}

/// A file that was made.
fn made(name: &str) -> PathBuf {
    let file = target().join("shipped").join(name);
    assert!(
        file.exists(),
        "{} is not there: cargo xtask dist makes it",
        file.display()
    );
    file
}

fn binary() -> PathBuf {
    made(&format!("voice-agent-{VERSION}-x86_64-linux"))
}

fn deb() -> PathBuf {
    made(&format!("voice-agent_{VERSION}-1_amd64.deb"))
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// The output of a program that succeeds.
fn said(program: &str, args: &[&str]) -> String {
    let out = run(program, args);
    let (text, error) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{program} {args:?}: {text}{error}");
    text.into_owned()
}

#[test]
#[ignore = "needs cargo xtask dist"]
fn each_file_has_its_checksum_and_the_binary_needs_no_library() {
    let sums = fs::read_to_string(made("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 3, "{sums}");
    let check = Command::new("sha256sum")
        .args(["--check", "SHA256SUMS"])
        .current_dir(target().join("shipped"))
        .output();
    assert!(check.unwrap().status.success());
    let binary = binary();
    let version = said(binary.to_str().unwrap(), &["--version"]);
    assert_eq!(version, format!("voice-agent {VERSION}\n"));
    // PT_INTERP names the loader of libraries.
    let program = fs::read(&binary).unwrap();
    assert!(
        !program
            .windows(8)
            .any(|bytes| bytes == b"/ld-linu" || bytes == b"/ld-musl")
    );
}

#[test]
#[ignore = "needs cargo xtask dist"]
fn lintian_finds_no_error_in_the_package_and_it_has_what_belongs_to_it() {
    let deb = deb();
    let deb = deb.to_str().unwrap();
    said("lintian", &["--fail-on", "error", deb]);
    let list = said("dpkg-deb", &["--contents", deb]);
    for file in [
        "./usr/bin/voice-agent",
        "./etc/voice-agent/config.toml",
        "/systemd/system/voice-agent.service",
        "./usr/share/man/man1/voice-agent.1.gz",
        "./usr/share/man/man1/voice-agent-rooms.1.gz",
        "./usr/share/bash-completion/completions/voice-agent",
        "./usr/share/zsh/vendor-completions/_voice-agent",
        "./usr/share/fish/vendor_completions.d/voice-agent.fish",
        "./usr/share/doc/voice-agent/copyright",
    ] {
        assert!(list.contains(file), "{file} is not in\n{list}");
    }
    let conffiles = said("dpkg-deb", &["--info", deb, "conffiles"]);
    assert_eq!(conffiles.trim(), "/etc/voice-agent/config.toml");
}

/// podman with images and containers of its own.
fn podman() -> Vec<String> {
    let root = target().join("tmp/podman");
    fs::create_dir_all(&root).unwrap();
    let at = |name: &str| root.join(name).display().to_string();
    [
        "podman",
        "--root",
        &at("root"),
        "--runroot",
        &at("run"),
        "--runtime",
        "/usr/sbin/runc",
        "--cgroup-manager=cgroupfs",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// A program that runs the agent of the image in the network namespace of who calls it. The agent's folder is the one of its
/// configuration file, which is always the second argument.
fn container(to: &Path) -> PathBuf {
    let podman = podman();
    let archive = made(&format!("voice-agent-{VERSION}-x86_64.oci.tar"));
    let load: Vec<&str> = podman[1..]
        .iter()
        .map(String::as_str)
        .chain(["load", "--quiet", "--input"])
        .collect();
    said("podman", &[&load[..], &[archive.to_str().unwrap()]].concat());
    let script = format!(
        "#!/bin/sh\nset -e\ndir=$(dirname \"$2\")\ncase \"$3\" in run) pid=\"--pidfile $dir/pid\";; esac\n\
         exec {} run --rm $pid --network host --ulimit nofile=1024:4096 --ulimit nproc=4096:4096 \
         --cap-drop all --cap-add bpf,net_admin,perfmon --security-opt seccomp=unconfined --security-opt no-new-privileges \
         --read-only --volume \"$dir:$dir:rslave\" localhost/voice-agent:{VERSION} \"$@\"\n",
        podman.join(" ")
    );
    let file = to.join("voice-agent");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[test]
#[ignore = "needs cargo xtask dist"]
fn the_image_with_exactly_three_capabilities_loads_its_programs_and_cuts_a_room_in_a_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new().unwrap();
    let settings = Settings::new(Times::TEST);
    let agent = Agent::prepare_with(&pair.node, &settings, container(dir.path())).unwrap();
    agent.run().unwrap();
    let pid = fs::read_to_string(agent.dir().join("pid")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let three = format!("{set}:\t{:016x}", 1_u64 << 39 | 1 << 12 | 1 << 38);
        assert!(status.contains(&three), "{three}: {status}");
    }
    let mut stage = Stage::around(agent, pair, settings).unwrap();
    stage.alpha.room.fail();
    let cut = stage.wait_cut(ALPHA, stage.patience());
    let blocked = stage.agent.text(&["rooms", "--blocked"]).unwrap();
    assert!(blocked.contains(ALPHA), "{blocked}");
    stage.assert_alpha_lifts(&cut);
    stage.assert_beta_lost_nothing();
    stage.agent.terminate().unwrap();
}

/// What a container of the image runs and with what; and the folders and programs in it.
fn contents(image: &str) -> (String, String) {
    let podman = podman();
    let ask = |args: &[&str]| {
        let all: Vec<&str> = podman[1..]
            .iter()
            .map(String::as_str)
            .chain(args.iter().copied())
            .collect();
        said("podman", &all)
    };
    let runs = "{{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.Env}} {{.Config.User}}";
    let runs = ask(&["image", "inspect", "--format", runs, image]);
    let container = ask(&["create", image]);
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("tree.tar");
    ask(&["export", "--output", archive.to_str().unwrap(), container.trim()]);
    ask(&["rm", container.trim()]);
    let list = said("tar", &["--list", "--file", archive.to_str().unwrap()]);
    let ours = |name: &&str| {
        let made = [
            "etc/voice-agent",
            "usr/bin/",
            "var/lib/",
            "run/voice-agent",
            "sys/fs/",
        ];
        made.iter().any(|part| name.starts_with(part)) || *name == "tmp/"
    };
    let mut names: Vec<&str> = list
        .lines()
        .map(|name| name.trim_start_matches("./"))
        .filter(ours)
        .collect();
    names.sort_unstable();
    (runs, names.join("\n"))
}

/// There is no registry here, so a stand-in for Rust's image takes the place of the base: a shell, and programs that take the
/// Dockerfile's own arguments and no others. They leave the static binary where the real ones would.
#[test]
#[ignore = "needs cargo xtask dist"]
fn the_dockerfile_makes_the_same_image_on_a_base_image_that_stands_in_for_rusts() {
    let dir = tempfile::tempdir().unwrap();
    container(dir.path());
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::copy("/usr/bin/busybox", at("busybox")).unwrap();
    fs::copy(binary(), at("voice-agent")).unwrap();
    fs::write(at("tool"), include_str!("../image/tool.sh")).unwrap();
    fs::write(at("Dockerfile"), include_str!("../image/Dockerfile")).unwrap();
    let dockerfile = fs::read_to_string(target().join("../deploy/Dockerfile")).unwrap();
    let base = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("FROM ")?.strip_suffix(" AS build"));
    let base = base.unwrap();
    let toolchain = fs::read_to_string(target().join("../rust-toolchain.toml")).unwrap();
    let version = base
        .strip_prefix("rust:")
        .and_then(|tag| tag.strip_suffix("-bookworm"));
    assert!(
        toolchain.contains(&format!("channel = \"{}.", version.unwrap())),
        "{base}"
    );
    let podman = podman();
    let build = |args: &[&str]| {
        let isolated = ["build", "--isolation", "chroot", "--pull-never", "--quiet"];
        let all: Vec<&str> = podman[1..]
            .iter()
            .map(String::as_str)
            .chain(isolated)
            .chain(args.iter().copied())
            .collect();
        said("podman", &all)
    };
    let root = target().join("..").canonicalize().unwrap();
    build(&[
        "--tag",
        &format!("docker.io/library/{base}"),
        dir.path().to_str().unwrap(),
    ]);
    let file = root.join("deploy/Dockerfile");
    build(&[
        "--tag",
        "localhost/by-dockerfile",
        "--file",
        file.to_str().unwrap(),
        root.to_str().unwrap(),
    ]);
    let ours = contents(&format!("localhost/voice-agent:{VERSION}"));
    assert!(ours.1.contains("usr/bin/voice-agent"), "{ours:?}");
    assert_eq!(contents("localhost/by-dockerfile"), ours);
}

/// A Debian tree with systemd, made once.
fn tree() -> PathBuf {
    let tree = target().join("tmp/bookworm");
    let whole = tree.join(".whole");
    if !whole.exists() {
        let _ = fs::remove_dir_all(&tree);
        let tree = tree.to_str().unwrap();
        said(
            "debootstrap",
            &[
                "--variant=minbase",
                "--include=systemd,systemd-sysv,dbus,iproute2",
                "bookworm",
                tree,
            ],
        );
        fs::write(&whole, "").unwrap();
    }
    tree
}

/// The tree below an overlay, which goes with this.
struct Copy {
    dir: voice_tests::bpffs::Scratch,
}

impl Copy {
    fn new() -> Copy {
        let dir = voice_tests::bpffs::Scratch::new("tree").unwrap();
        // On a file system of its own: /tmp may be an overlay itself, which cannot be an upper layer.
        said("mount", &["-t", "tmpfs", "tmpfs", dir.path().to_str().unwrap()]);
        for name in ["upper", "work", "tree"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let at = |name: &str| dir.path().join(name).display().to_string();
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            tree().display(),
            at("upper"),
            at("work")
        );
        said("mount", &["-t", "overlay", "overlay", "-o", &layers, &at("tree")]);
        Copy { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// A command inside.
    fn run(&self, args: &[&str]) -> String {
        let root = self.root();
        said("chroot", &[&[root.to_str().unwrap()], args].concat())
    }

    fn install(&self) {
        fs::copy(deb(), self.root().join("voice-agent.deb")).unwrap();
        self.run(&["dpkg", "--install", "/voice-agent.deb"]);
    }
}

#[test]
#[ignore = "needs cargo xtask dist, and a Debian tree from the network"]
fn the_package_is_installed_without_a_start_and_purged_without_a_trace() {
    let copy = Copy::new();
    let there = |path: &str| copy.root().join(path).exists();
    copy.install();
    let enabled = run(
        "chroot",
        &[
            copy.root().to_str().unwrap(),
            "systemctl",
            "is-enabled",
            "voice-agent",
        ],
    );
    assert_eq!(String::from_utf8_lossy(&enabled.stdout).trim(), "disabled");
    let check = copy.run(&["voice-agent", "config", "check"]);
    assert_eq!(check, "The configuration is valid.\n");
    fs::create_dir_all(copy.root().join("var/lib/voice-agent/rooms")).unwrap();
    copy.run(&["dpkg", "--remove", "voice-agent"]);
    assert!(!there("usr/bin/voice-agent"));
    assert!(there("etc/voice-agent/config.toml") && there("var/lib/voice-agent/rooms"));
    copy.run(&["dpkg", "--purge", "voice-agent"]);
    for path in [
        "etc/voice-agent",
        "var/lib/voice-agent",
        "usr/share/doc/voice-agent",
    ] {
        assert!(!there(path), "{path}");
    }
}

/// What stands in one section of what `systemd/probe.sh` wrote.
fn section<'a>(probe: &'a str, name: &str) -> &'a str {
    let begin = format!("== {name}\n");
    let rest = probe
        .split_once(&begin)
        .unwrap_or_else(|| panic!("no {name} in {probe}"))
        .1;
    rest.split("\n== ").next().unwrap_or(rest)
}

/// Boots the tree, lets its systemd run the probe, and returns what that wrote.
fn boot(copy: &Copy) -> String {
    let bpffs = voice_tests::bpffs::BpfFs::mount().unwrap();
    let root = copy.root();
    fs::write(root.join("probe.sh"), include_str!("../systemd/probe.sh")).unwrap();
    let units = root.join("etc/systemd/system");
    fs::write(
        units.join("probe.service"),
        "[Service]\nType=oneshot\nExecStart=/bin/sh /probe.sh\n",
    )
    .unwrap();
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    std::os::unix::fs::symlink("../probe.service", wants.join("probe.service")).unwrap();
    let out = Command::new("timeout")
        .args([
            "--kill-after=10",
            "180",
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
        ])
        .args(["--network-veth", "--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN"])
        .args([
            "--system-call-filter=bpf perf_event_open",
            &format!("--machine=va-{}", std::process::id()),
        ])
        .arg(format!("--bind={}:/sys/fs/bpf", bpffs.path().display()))
        .arg("--directory")
        .arg(&root)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    fs::read_to_string(root.join("probe.out")).unwrap_or_else(|e| {
        let so_far = fs::read_to_string(root.join("probe.new")).unwrap_or_default();
        panic!("{e}: {so_far}\n{}", String::from_utf8_lossy(&out.stdout))
    })
}

#[test]
#[ignore = "needs cargo xtask dist, and a Debian tree from the network"]
fn a_real_systemd_starts_the_packaged_unit_reloads_it_restarts_a_driver_that_hangs_and_stops_at_a_mistake() {
    let copy = Copy::new();
    copy.install();
    let probe = boot(&copy);
    let has = |name: &str, words: &[&str]| {
        let said = section(&probe, name);
        for word in words {
            assert!(said.contains(word), "{name}: no {word:?} in {probe}");
        }
    };
    let caps = format!("{:016x}", 1_u64 << 39 | 1 << 12 | 1 << 38);
    has(
        "start",
        &[
            "exit 0\n",
            "ActiveState=active",
            "StatusText=0 live rooms, 0 cut, mode enforce",
        ],
    );
    has(
        "start",
        &[
            "\"xdp\":",
            &format!("CapEff:\t{caps}"),
            &format!("CapBnd:\t{caps}"),
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ],
    );
    assert!(!section(&probe, "start").contains("not attached"), "{probe}");
    has("reload", &["ActiveState=active", "NRestarts=0", "mode shadow"]);
    has(
        "refused",
        &["ActiveState=active", "mode shadow; the last reload was refused"],
    );
    has("hang", &["ActiveState=active", "NRestarts=1", "mode shadow"]);
    has("mistake", &["ActiveState=failed"]);
    assert!(section(&probe, "log").contains("trip.mood"), "{probe}");
}
