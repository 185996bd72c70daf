//! Reads the files that the configuration names: certificates, keys, passwords.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// A longer file is no certificate, key or password.
const MAX_FILE: u64 = 1 << 20;

/// Reads a file of at most 1 MiB.
///
/// # Errors
/// It cannot be read, or is longer.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("longer than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

/// Reads a file that holds a secret.
///
/// # Errors
/// As [`read_file`], and when it is open to everybody.
pub(crate) fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.mode() & 0o007 != 0 {
        return Err(io::Error::other(
            "it is open to others than its owner and group; chmod o= it",
        ));
    }
    read_file(path)
}
