//! The ABI versions of one instance, each with a directory of pins. A start goes beside an older one and lets it go once its
//! cuts are carried across; below a newer one that is attached it is refused.

use super::{KernelError, attach, interfaces};
use std::{
    fs,
    path::{Path, PathBuf},
};
use voice_common::ABI_VERSION;

/// What an agent of one ABI version pinned.
#[derive(Debug)]
struct Version {
    number: u32,
    dir: PathBuf,
}

/// Every version there: `v` and a number. What has another name is not ours.
fn all(instance_dir: &Path) -> Result<Vec<Version>, KernelError> {
    let number = |dir: &Path| dir.file_name()?.to_str()?.strip_prefix('v')?.parse().ok();
    let versions = entries(instance_dir)?.into_iter().filter_map(|dir| {
        let number = number(&dir)?;
        Some(Version { number, dir })
    });
    Ok(versions.collect())
}

/// The versions beside ours.
fn others(pin_dir: &Path) -> Result<Vec<Version>, KernelError> {
    let mut versions = match pin_dir.parent() {
        Some(instance_dir) => all(instance_dir)?,
        None => Vec::new(),
    };
    versions.retain(|version| version.dir != pin_dir);
    Ok(versions)
}

/// Whether there are versions beside ours.
pub(super) fn are_others(pin_dir: &Path) -> Result<bool, KernelError> {
    others(pin_dir).map(|others| !others.is_empty())
}

/// A newer agent's cuts cannot be told by this one, which would end them in silence. Maps that nothing is attached to are
/// what a start that failed has left; they are in nobody's way.
pub(super) fn refuse_newer(pin_dir: &Path) -> Result<(), KernelError> {
    for Version { number, dir } in others(pin_dir)? {
        if number > ABI_VERSION && !attach::link_pins(&dir)?.is_empty() {
            return Err(KernelError::NewerLayout {
                dir,
                newer: number,
                ours: ABI_VERSION,
            });
        }
    }
    Ok(())
}

/// Detaches what agents of other versions left attached beside `pin_dir`, and removes their pins: nobody keeps their maps up
/// to date, so they would go on cutting ports that have moved. Says what went.
pub(super) fn remove_others(pin_dir: &Path) -> Result<Vec<String>, KernelError> {
    let mut report = Vec::new();
    for version in others(pin_dir)? {
        let pins = version.remove()?.len();
        report.push(format!(
            "programs and maps of ABI version {} removed from {} ({pins} pins)",
            version.number,
            version.dir.display()
        ));
    }
    Ok(report)
}

/// Detaches and removes every version, then the instance's directory. Says what went.
pub(super) fn remove_all(instance_dir: &Path) -> Result<Vec<String>, KernelError> {
    let versions = all(instance_dir)?;
    let mut gone = Vec::new();
    for version in &versions {
        gone.extend(version.remove()?);
    }
    if !versions.is_empty() {
        remove(instance_dir, fs::remove_dir)?;
    }
    Ok(gone)
}

impl Version {
    fn remove(&self) -> Result<Vec<String>, KernelError> {
        let mut gone = Vec::new();
        for link in attach::link_pins(&self.dir)? {
            // A filter of an interface that is gone went with it.
            if let Some(name) = interfaces::name(link.index) {
                attach::remove_filter(&name, &link.kind, self.number).map_err(|problem| {
                    KernelError::Load {
                        what: format!("detaching {} from {name}", link.kind),
                        problem,
                    }
                })?;
            }
        }
        for pin in entries(&self.dir)? {
            remove(&pin, fs::remove_file)?;
            gone.push(pin.display().to_string());
        }
        remove(&self.dir, fs::remove_dir)?;
        Ok(gone)
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, KernelError> {
    let failed = |source| KernelError::Pin {
        what: "listing",
        path: dir.to_owned(),
        source,
    };
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).map_err(failed)?;
    entries
        .map(|entry| entry.map(|e| e.path()).map_err(failed))
        .collect()
}

fn remove(path: &Path, how: fn(PathBuf) -> std::io::Result<()>) -> Result<(), KernelError> {
    how(path.to_owned()).map_err(|source| KernelError::Pin {
        what: "removing",
        path: path.to_owned(),
        source,
    })
}
