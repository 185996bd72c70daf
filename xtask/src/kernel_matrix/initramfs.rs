//! What a virtual machine boots into: busybox, ip, tc, ethtool, the modules and the program of the checks, as a cpio archive in the
//! form that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).

use crate::command;
use anyhow::Context;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Results go to the second serial line, so that no message of the kernel falls between them. A warning of the kernel's ends the
/// machine, and so the run: what makes a kernel warn does not hold.
const INIT: &str = "#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in /modules/*; do busybox insmod $module || echo \"insmod $module failed\"; done
echo 1 > /proc/sys/kernel/panic_on_warn
ip link set lo up
kernel-guest > /dev/ttyS1
busybox poweroff -f
";

/// Programs of this machine that the checks start; they bring their libraries.
const PROGRAMS: [&str; 4] = ["busybox", "ip", "tc", "ethtool"];
/// What of busybox the checks start by its own name.
const APPLETS: [&str; 2] = ["nsenter", "kill"];

/// Writes the archive.
pub(super) fn write(to: &Path, checks: &Path, modules: &[PathBuf]) -> anyhow::Result<()> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "run", "tmp"] {
        archive.folder(Path::new(folder));
    }
    archive.console();
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("bin/kernel-guest", 0o755, &read(checks)?);
    for name in PROGRAMS {
        let program = command::find(name).with_context(|| format!("there is no {name}"))?;
        archive.file(&format!("bin/{name}"), 0o755, &read(&program)?);
        for library in libraries(&program)? {
            archive.file(
                library.trim_start_matches('/'),
                0o755,
                &read(Path::new(&library))?,
            );
        }
    }
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    for (at, module) in modules.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{at}-{name}"), 0o644, &read(module)?);
    }
    fs::write(to, archive.end()).with_context(|| format!("write {}", to.display()))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

/// The shared libraries of a program and their loader; none when it is static.
fn libraries(program: &Path) -> anyhow::Result<Vec<String>> {
    // ldd fails for a static program.
    let output = Command::new("ldd").arg(program).output().context("start ldd")?;
    Ok(paths(&String::from_utf8_lossy(&output.stdout)))
}

fn paths(said: &str) -> Vec<String> {
    let words = said
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(str::to_owned).collect()
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_777;
const DEVICE: u32 = 0o020_600;

/// A cpio archive in the making, of the form "newc".
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    there: BTreeSet<PathBuf>,
}

impl Archive {
    /// A folder and those above it.
    fn folder(&mut self, path: &Path) {
        if path.as_os_str().is_empty() || !self.there.insert(path.to_owned()) {
            return;
        }
        self.above(path);
        self.entry(&path.to_string_lossy(), FOLDER, (0, 0), &[]);
    }

    /// A file, unless it is there already: several programs have the same libraries.
    fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        if self.there.insert(path.into()) {
            self.above(Path::new(path));
            self.entry(path, FILE | mode, (0, 0), data);
        }
    }

    fn link(&mut self, path: &str, to: &str) {
        self.above(Path::new(path));
        self.entry(path, LINK, (0, 0), to.as_bytes());
    }

    /// The kernel opens it for init before anything is mounted.
    fn console(&mut self) {
        self.entry("dev/console", DEVICE, (5, 1), &[]);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn above(&mut self, path: &Path) {
        if let Some(above) = path.parent() {
            self.folder(above);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inode += 1;
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let fields = [
            self.inode,
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time
            length(data.len()),
            0, // device it is on
            0,
            device.0,
            device.1,
            length(path.len() + 1),
            0, // checksum, which this form has not
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_padded_to_four_bytes_and_has_the_folders_above_it_before_it() {
        let mut archive = Archive::default();
        archive.file("a/b", 0o755, b"hello");
        archive.file("a/b", 0o755, b"again");
        let bytes = archive.end();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        let entries: Vec<&str> = text.split("070701").skip(1).collect();
        assert_eq!(entries.len(), 3, "a folder, a file, the end: {entries:?}");
        assert!(entries[0].contains("000041ED") && entries[0].contains("a\0"));
        assert!(entries[1].contains("000081ED") && entries[1].contains("a/b\0\0\0hello\0\0\0"));
        assert!(entries[2].contains("TRAILER!!!\0"));
    }

    #[test]
    fn libraries_are_read_from_what_ldd_says_and_a_static_program_has_none() {
        let said = "\tlinux-vdso.so.1 (0x00007f06215e7000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f062125c000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f06215e9000)\n";
        assert_eq!(
            paths(said),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert!(paths("\tnot a dynamic executable\n").is_empty());
    }
}
