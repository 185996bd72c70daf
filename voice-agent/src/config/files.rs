//! Reads the files that the configuration names: certificates, keys, passwords.

use rustls::pki_types::{CertificateDer, pem::PemObject};
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

/// Reads the certificates of those who may have signed a server's, as PEM. A file with none would fail every handshake, and no start.
///
/// # Errors
/// As [`read_file`], and when it holds no certificate.
pub(crate) fn read_authorities(path: &Path) -> io::Result<String> {
    let pem = String::from_utf8(read_file(path)?).map_err(io::Error::other)?;
    let first = CertificateDer::pem_slice_iter(pem.as_bytes()).next();
    if !matches!(first, Some(Ok(_))) {
        return Err(io::Error::other(
            "no certificate in it: allowed is PEM, -----BEGIN CERTIFICATE-----",
        ));
    }
    Ok(pem)
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
