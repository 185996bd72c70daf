//! Memory-mapped arrays (BPF_F_MMAPABLE): a write is a store, in force for the next packet. The one home of `unsafe`
//! on the kernel side.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};
use tokio::io::{Interest, unix::AsyncFd};

/// An array map of `T`, or one whose only value is an array of `T`, mapped into this process. Its words are shared with the kernel programs (and the CLI), so
/// they are only reached as atomics.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    base: NonNull<u8>,
    bytes: usize,
    entries: u32,
    value: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone, and its words are only reached as atomics.
unsafe impl<T> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapped<T> {}

impl<T> Mapped<T> {
    /// As the kernel lays out what is in one value. It rounds values up to 8 bytes: those of several are multiples of that.
    const STRIDE: usize = size_of::<T>();

    /// Maps an array of `entries` values. The caller has checked that the map is one (see `shape`).
    pub(super) fn new(map: BorrowedFd<'_>, entries: u32) -> io::Result<Self> {
        let bytes = Self::STRIDE * entries as usize;
        // SAFETY: a new shared mapping at an address the kernel chooses; the result is checked.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Mapped {
            base,
            bytes,
            entries,
            value: PhantomData,
        })
    }

    /// How many values there are.
    pub(super) fn entries(&self) -> u32 {
        self.entries
    }

    /// The 32-bit word at byte `offset` of value `index`; `None` beyond the end.
    pub(super) fn word32(&self, index: u32, offset: usize) -> Option<&AtomicU32> {
        let word = self.word(index, offset, size_of::<u32>())?;
        // SAFETY: inside the mapping, aligned (both checked by `word`), alive as long as `self`; shared words are
        // only ever touched atomically on this side.
        Some(unsafe { AtomicU32::from_ptr(word.cast::<u32>().as_ptr()) })
    }

    /// The 64-bit word at byte `offset` of value `index`; `None` beyond the end.
    pub(super) fn word64(&self, index: u32, offset: usize) -> Option<&AtomicU64> {
        let word = self.word(index, offset, size_of::<u64>())?;
        // SAFETY: as in `word32`.
        Some(unsafe { AtomicU64::from_ptr(word.cast::<u64>().as_ptr()) })
    }

    fn word(&self, index: u32, offset: usize, size: usize) -> Option<NonNull<u8>> {
        if index >= self.entries || offset + size > size_of::<T>() || !offset.is_multiple_of(size) {
            return None;
        }
        // SAFETY: index < entries and offset + size <= STRIDE, so this stays inside the mapping of entries * STRIDE.
        Some(unsafe { self.base.add(index as usize * Self::STRIDE + offset) })
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, unmapped once; no reference into it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// Before Linux 5.11 maps count against RLIMIT_MEMLOCK. Raising it may be refused; the load then says so.
pub(super) fn raise_memlock() {
    let all = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: reads a valid rlimit; changes a limit of this process only.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &all) } != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "cannot raise the memlock limit");
    }
}

/// Waits for readability inside the tokio runtime that calls this.
pub(super) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, is owned by the AsyncFd as long as that lives, and always names the same descriptor.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}
