//! The file: appended to in whole lines, synced, rotated by size. Knows nothing of what the lines say.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

const MODE: u32 = 0o640;

/// `audit.jsonl`, and `audit.jsonl.1` (the youngest) to `audit.jsonl.KEEP` beside it.
#[derive(Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    open: Option<File>,
}

impl Rotated {
    pub(super) fn new(path: PathBuf, max_bytes: u64, keep: u32) -> Rotated {
        Rotated {
            path,
            max_bytes,
            keep,
            open: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the lines, and takes away those that are on the disk: after an error, the rest is there to be tried again.
    pub(super) fn append(&mut self, lines: &mut VecDeque<String>) -> io::Result<()> {
        while !lines.is_empty() {
            let mut size = self.file()?.metadata()?.len();
            if size > 0 && size + length(&lines[0]) > self.max_bytes {
                self.rotate()?;
                size = self.file()?.metadata()?.len();
            }
            let fits = |line: &&String| {
                size += length(line);
                size <= self.max_bytes
            };
            // At least one: a line longer than a whole file has one to itself.
            let count = lines.iter().take_while(fits).count().max(1);
            let text: String = lines.iter().take(count).map(String::as_str).collect();
            self.write(text.as_bytes())?;
            lines.drain(..count);
        }
        Ok(())
    }

    /// All of it, and on the disk; or else nothing of it stays, if the disk takes that much.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let file = self.file()?;
        let before = file.metadata()?.len();
        let written = (&*file).write_all(text).and_then(|()| file.sync_data());
        if written.is_err() {
            // What cannot be taken back is ended when the file is opened anew.
            let _ = file.set_len(before);
            self.open = None;
        }
        written
    }

    /// The open file. Opening ends the unfinished last line of a crash.
    fn file(&mut self) -> io::Result<&File> {
        let file = match self.open.take() {
            Some(file) => file,
            None => open(&self.path)?,
        };
        Ok(self.open.insert(file))
    }

    /// A crash in between leaves a number out, and loses nothing.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        for number in (1..self.keep).rev() {
            move_if_there(&self.numbered(number), &self.numbered(number + 1))?;
        }
        move_if_there(&self.path, &self.numbered(1))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

fn length(line: &str) -> u64 {
    line.len() as u64
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)?;
    let size = file.metadata()?.len();
    let mut last = *b"\n";
    if size == 0 {
        // The process's umask may have taken bits away.
        file.set_permissions(Permissions::from_mode(MODE))?;
        // So that the new name, and those of a rotation before, outlive a loss of power.
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
    } else {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        moved => moved,
    }
}
