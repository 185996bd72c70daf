//! The socket file: made with its final mode before it appears, replaced only when nobody answers, removed at the end.

use super::ApiError;
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// Removes the socket when dropped, if it is still the one that was made.
#[derive(Debug)]
pub(super) struct Guard {
    path: PathBuf,
    inode: u64,
}

impl Guard {
    /// Where the socket is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        if ours && let Err(problem) = fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), %problem, "admin socket not removed; a later start replaces it");
        }
    }
}

/// Listens on `path`. The socket is made under another name, gets its mode, and is renamed into place: nobody connects to
/// one with the wrong mode, and a dead agent's is replaced in one step.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, Guard), ApiError> {
    let failed = |tried| {
        move |source| ApiError::Io {
            path: path.into(),
            tried,
            source,
        }
    };
    refuse_unless_free(path)?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed("making its directory"))?;
    }
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("removing an unfinished one")(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&new).map_err(failed("binding"))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(MODE)).map_err(failed("setting mode 0660"))?;
    let inode = fs::symlink_metadata(&new).map_err(failed("reading"))?.ino();
    fs::rename(&new, path).map_err(failed("renaming into place"))?;
    let path = path.into();
    Ok((listener, Guard { path, inode }))
}

fn refuse_unless_free(path: &Path) -> Result<(), ApiError> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(m) if m.file_type().is_socket() => {}
        Ok(_) => return Err(ApiError::NotASocket(path.into())),
        Err(source) => {
            return Err(ApiError::Io {
                path: path.into(),
                tried: "looking for another agent's",
                source,
            });
        }
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(ApiError::InUse(path.into())),
        Err(source) => Err(ApiError::Io {
            path: path.into(),
            tried: "asking whether another agent answers",
            source,
        }),
    }
}
