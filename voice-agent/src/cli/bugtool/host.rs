//! What is read here and not asked of the agent: the host's kernel, the pinned maps, files, the metrics page.

use super::Part;
use crate::{
    config,
    kernel::{attached, facts, pinned::Pinned},
};
use nix::{net::if_::if_nameindex, sys::utsname::uname};
use serde_json::json;
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

/// Of the metrics page.
const PAGE: u64 = 4 << 20;
/// How long the page may take in all.
const PAGE_WITHIN: Duration = Duration::from_secs(5);
/// Of each file below /proc and /sys.
const FILE: u64 = 64 << 10;

/// Where values can come from beside the file. Values are not shown: they may be secrets.
pub(super) fn origin() -> Vec<u8> {
    let names: Vec<String> = config::environment().map(|(name, _)| name).collect();
    let origin = json!({
        "order": "defaults, then the file (--config, VOICE_AGENT_CONFIG, or /etc/voice-agent/config.toml), then the environment, then --set",
        "default_file_exists": Path::new("/etc/voice-agent/config.toml").exists(),
        "environment": names,
    });
    format!("{origin:#}\n").into_bytes()
}

/// The last bytes of a file, from the beginning of a line.
pub(super) fn tail(path: &Path, bytes: u64) -> Part {
    let read = || {
        let mut file = File::open(path)?;
        let skipped = file.metadata()?.len().saturating_sub(bytes);
        file.seek(SeekFrom::Start(skipped))?;
        let mut text = Vec::new();
        file.take(bytes).read_to_end(&mut text)?;
        let torn = text
            .iter()
            .position(|byte| *byte == b'\n')
            .filter(|_| skipped > 0);
        Ok(text.split_off(torn.map_or(0, |at| at + 1)))
    };
    read().map_err(|e: std::io::Error| format!("{}: {e}", path.display()))
}

/// Every slot that was used, with its room, ports, flows, SSRCs, verdict and packets; the shared ports; the control word; packets by hook and reason.
pub(super) fn pinned(pin_dir: &Path) -> Part {
    let pins = Pinned::open(pin_dir).map_err(|e| e.to_string())?;
    let dump = || {
        let (status, slots) = (pins.status()?, pins.slots()?);
        let shared = pins.shared_ports();
        Ok::<_, crate::kernel::KernelError>(
            json!({ "status": status, "slots": slots, "shared_ports": shared }),
        )
    };
    let dump = dump().map_err(|e| e.to_string())?;
    Ok(format!("{dump:#}\n").into_bytes())
}

/// The page of /metrics, over plain HTTP.
pub(super) fn metrics(listen: Option<SocketAddr>) -> Part {
    let address = listen.ok_or("metrics.listen is \"off\"")?;
    let end = Instant::now() + PAGE_WITHIN;
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, PAGE_WITHIN)?;
        stream.set_read_timeout(Some(PAGE_WITHIN))?;
        stream.set_write_timeout(Some(PAGE_WITHIN))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bugtool\r\nConnection: close\r\n\r\n")?;
        let (mut page, mut some) = (Vec::new(), vec![0; 64 << 10]);
        while Instant::now() < end && (page.len() as u64) < PAGE {
            match stream.read(&mut some)? {
                0 => break,
                n => page.extend(some.iter().take(n)),
            }
        }
        Ok(page)
    };
    ask().map_err(|e: std::io::Error| format!("http://{address}/metrics: {e}"))
}

/// The running kernel and its settings of BPF.
pub(super) fn kernel_facts() -> Vec<u8> {
    let mut text = String::new();
    if let Ok(name) = uname() {
        let words = [name.sysname(), name.release(), name.version(), name.machine()];
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let _ = writeln!(text, "uname: {}", words.join(" "));
    }
    let btf = fs::metadata("/sys/kernel/btf/vmlinux").map_or("no".into(), |m| format!("{} bytes", m.len()));
    let _ = writeln!(text, "btf: {btf}");
    for name in ["kernel/unprivileged_bpf_disabled", "kernel/bpf_stats_enabled"] {
        file(&mut text, &Path::new("/proc/sys").join(name));
    }
    let mut settings: Vec<_> = fs::read_dir("/proc/sys/net/core")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("bpf_"))
        })
        .collect();
    settings.sort();
    for path in settings {
        file(&mut text, &path);
    }
    for name in [
        "/proc/net/dev",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/net/softnet_stat",
        "/proc/net/snmp",
    ] {
        file(&mut text, Path::new(name));
    }
    text.into_bytes()
}

fn file(text: &mut String, path: &Path) {
    let mut said = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE).read_to_string(&mut said));
    let _ = match read {
        Ok(_) => writeln!(text, "{}: {}", path.display(), said.trim_end()),
        Err(e) => writeln!(text, "{}: not read: {e}", path.display()),
    };
}

/// Each interface with the programs on it, in their order; routes; UDP sockets. By netlink.
pub(super) fn interfaces(pin_dir: &Path) -> Part {
    let mut text = String::new();
    let all = if_nameindex().map_err(|e| format!("listing interfaces: {e}"))?;
    for interface in &all {
        let name = interface.name().to_string_lossy();
        let _ = match facts::interface(interface.index(), &name, pin_dir) {
            Ok(facts) => writeln!(text, "{facts:#?}"),
            Err(e) => writeln!(text, "{name}: not read: {e}"),
        };
    }
    for route in facts::routes().into_iter().flatten() {
        let _ = writeln!(text, "{route:?}");
    }
    let sockets = facts::udp_sockets().map_err(|e| format!("listing UDP sockets: {e}"));
    for socket in sockets.into_iter().flatten().take(20_000) {
        let _ = writeln!(text, "{socket:?}");
    }
    Ok(text.into_bytes())
}

/// Each interface's XDP program, TCX programs, qdiscs and filters, ours and others'. By netlink.
pub(super) fn attachments() -> Part {
    let all = if_nameindex().map_err(|e| format!("listing interfaces: {e}"))?;
    let mut text = String::new();
    for interface in &all {
        let name = interface.name().to_string_lossy();
        match attached::attachments(interface.index(), &name) {
            Ok(lines) => text += &lines,
            Err(e) => {
                let _ = writeln!(text, "{name}: not read: {e}");
            }
        }
    }
    Ok(text.into_bytes())
}

/// Every BPF program of this host, as far as the caller may look.
pub(super) fn programs() -> Vec<u8> {
    let mut text = String::new();
    for program in aya::programs::loaded_programs().take(10_000) {
        let _ = match program {
            Ok(p) => writeln!(
                text,
                "id {} name {} type {:?} maps {:?} size {} jited {}",
                p.id(),
                p.name_as_str().unwrap_or("?"),
                p.program_type(),
                p.map_ids(),
                p.size_translated().unwrap_or_default(),
                p.size_jitted(),
            ),
            Err(e) => {
                let _ = writeln!(text, "not read: {e}");
                break;
            }
        };
    }
    text.into_bytes()
}
