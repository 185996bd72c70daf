//! What a pin stands for, and making a map that aya does not know how to make. aya takes whatever it finds at a path for the map or link that it wants, so we look first. By
//! bare system calls; what is made of the answer is in `shape` and `attach`.

use super::{
    KernelError,
    shape::Shape,
    tcx::{BPF_TCX_EGRESS, BPF_TCX_INGRESS},
};
use nix::unistd::geteuid;
use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{MetadataExt as _, PermissionsExt as _},
        },
    },
    path::Path,
};

/// linux/bpf.h
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_TCX: u32 = 11;

/// What is pinned somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    Map,
    Program,
    Link(Link),
}

/// Where a link is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    kind: u32,
    /// 0: its interface is gone.
    index: u32,
    /// Of TCX; else 0.
    attach: u32,
}

impl Link {
    /// A link of XDP on this interface.
    pub(super) const fn xdp(index: u32) -> Link {
        Link {
            kind: BPF_LINK_TYPE_XDP,
            index,
            attach: 0,
        }
    }

    /// A TCX link on this interface; `attach` is `BPF_TCX_INGRESS` or `BPF_TCX_EGRESS`.
    pub(super) const fn tcx(index: u32, attach: u32) -> Link {
        Link {
            kind: BPF_LINK_TYPE_TCX,
            index,
            attach,
        }
    }

    /// Whether a link found is this one, or was until its interface went.
    fn is_or_was(self, found: Link) -> bool {
        let gone = Link { index: 0, ..self };
        found == self || found == gone
    }

    /// By index: a name would be that of another interface for who asks from another namespace.
    fn words(self) -> String {
        let kind = match (self.kind, self.attach) {
            (BPF_LINK_TYPE_XDP, _) => "a link of XDP".to_owned(),
            (BPF_LINK_TYPE_TCX, BPF_TCX_INGRESS) => "a link of TC ingress".to_owned(),
            (BPF_LINK_TYPE_TCX, BPF_TCX_EGRESS) => "a link of TC egress".to_owned(),
            (kind, _) => return format!("a link of another kind ({kind})"),
        };
        match self.index {
            0 => format!("{kind} on an interface that is gone"),
            index => format!("{kind} on the interface with index {index}"),
        }
    }
}

/// Why a pin could not be looked at.
#[derive(Debug)]
pub(super) enum Unknown {
    /// No CAP_BPF, or none of the file's permissions: the error is the whole answer.
    Refused(KernelError),
    /// It is no pin at all; in words what it is.
    NoPin(String),
}

impl Unknown {
    /// As the error of whoever wanted a certain pin.
    pub(super) fn or_wrong(self, wrong: impl FnOnce(String) -> KernelError) -> KernelError {
        match self {
            Unknown::Refused(e) => e,
            Unknown::NoPin(what) => wrong(what),
        }
    }
}

/// What is pinned at `path`; `None`: nothing is there.
pub(super) fn look(path: &Path) -> Result<Option<Object>, Unknown> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Unknown::Refused(refused(path, e))),
    };
    if !file.is_file() {
        return Err(Unknown::NoPin(file_words(&file).to_owned()));
    }
    let fd = open(path).map_err(|e| match e.raw_os_error() {
        // The kernel says the same of a file that is no pin; on a bpf file system every file is one.
        Some(libc::EACCES) => Unknown::Refused(refused(path, e)),
        Some(libc::EPERM) => Unknown::Refused(KernelError::Permission {
            what: format!("opening the pin {}", path.display()),
        }),
        _ => Unknown::NoPin(e.to_string()),
    })?;
    let kind = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let kind = kind.map_err(|e| Unknown::NoPin(format!("cannot be told: {e}")))?;
    match kind.to_string_lossy().as_ref() {
        "anon_inode:bpf-map" => Ok(Some(Object::Map)),
        "anon_inode:bpf-prog" => Ok(Some(Object::Program)),
        "anon_inode:bpf_link" | "anon_inode:bpf-link" => {
            let link = link(&fd).map_err(|e| Unknown::NoPin(format!("a link that cannot be told: {e}")))?;
            Ok(Some(Object::Link(link)))
        }
        other => Err(Unknown::NoPin(format!("{other:?}"))),
    }
}

/// Looks at a link's pin before it is taken over. `None`: there is none.
pub(super) fn check_link(pin: &Path, wanted: Link) -> Result<Option<()>, String> {
    let found = match look(pin) {
        Ok(None) => return Ok(None),
        Ok(Some(Object::Link(found))) if wanted.is_or_was(found) => return Ok(Some(())),
        Ok(Some(other)) => other.words(),
        Err(Unknown::NoPin(what)) => what,
        Err(Unknown::Refused(e)) => return Err(e.to_string()),
    };
    Err(format!(
        "the pin {} is {found}, expected {}; it is left as it is. Remove it when nobody needs it, then it is attached anew",
        pin.display(),
        wanted.words()
    ))
}

impl Object {
    pub(super) fn words(self) -> String {
        match self {
            Object::Map => "a map".into(),
            Object::Program => "a program".into(),
            Object::Link(link) => link.words(),
        }
    }
}

/// What stands at `path`, in words.
pub(super) fn words_at(path: &Path) -> String {
    match (look(path), fs::symlink_metadata(path)) {
        (Ok(Some(object)), _) => object.words(),
        (_, Ok(file)) => file_words(&file).to_owned(),
        _ => "something that cannot be looked at".to_owned(),
    }
}

fn file_words(file: &fs::Metadata) -> &'static str {
    match file.file_type() {
        t if t.is_dir() => "a directory",
        t if t.is_symlink() => "a symbolic link",
        _ => "a file",
    }
}

/// A file operation that was refused, with who may and who asks.
pub(super) fn refused(path: &Path, source: io::Error) -> KernelError {
    // The nearest one that we may look at: the permission that lacks is its own, or that of the directory below it.
    let seen = path
        .ancestors()
        .find_map(|p| Some((p, fs::symlink_metadata(p).ok()?)));
    match seen {
        Some((at, file)) if source.kind() == io::ErrorKind::PermissionDenied => KernelError::PinOwner {
            path: path.to_owned(),
            at: at.to_owned(),
            owner: file.uid(),
            mode: file.permissions().mode() & 0o7777,
            me: geteuid().as_raw(),
        },
        _ => KernelError::Pin {
            what: "looking at",
            path: path.to_owned(),
            source,
        },
    }
}

/// Makes a map of this shape.
pub(super) fn create_map(shape: &Shape) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    // The kernel wants a zero behind it.
    for (to, from) in name[..15].iter_mut().zip(shape.name.bytes()) {
        *to = from;
    }
    let mut create = Create {
        kind: shape.kind as u32,
        key: shape.key,
        value: shape.value,
        entries: shape.entries,
        flags: shape.flags,
        inner: 0,
        numa_node: 0,
        name,
    };
    let fd = bpf(BPF_MAP_CREATE, &mut create)?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bpf_attr` of BPF_MAP_CREATE, as far as it is used.
#[repr(C)]
struct Create {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    inner: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// `bpf_attr` of BPF_OBJ_GET.
#[repr(C)]
struct Get {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `bpf_attr` of BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct GetInfo {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `bpf_link_info`, as far as it is used: of XDP the union is the interface, of TCX also the side.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    _pad: u32,
    index: u32,
    attach: u32,
    /// The kernel fills what fits; other kinds have more.
    _rest: [u64; 4],
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut get = Get {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    let fd = bpf(BPF_OBJ_GET, &mut get)?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn link(fd: &OwnedFd) -> io::Result<Link> {
    let mut info = LinkInfo::default();
    let mut get = GetInfo {
        bpf_fd: fd.as_raw_fd().cast_unsigned(),
        info_len: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut get)?;
    let attach = if info.kind == BPF_LINK_TYPE_TCX {
        info.attach
    } else {
        0
    };
    Ok(Link {
        kind: info.kind,
        index: info.index,
        attach,
    })
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is the command's bpf_attr, passed with its size; what its pointers lead to outlives the call (a path
    // in `open`, a buffer of the length given in `link`).
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(answer).map_err(io::Error::other)
}
