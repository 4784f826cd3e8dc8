//! Memory shared between processes by an inherited file descriptor.
//!
//! On Linux a sealed memfd; elsewhere an unlinked temporary file, which has neither seals nor
//! holes. The only file that knows the difference.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

/// Unit of mapping, of the arena and of hole punching. Larger than or equal to the page size of
/// every platform we run on except some 64 KiB arm64 kernels, where punching merely frees less.
pub(crate) const PAGE: usize = 4096;

/// Makes an unnamed file of `len` bytes, all holes, that can neither grow nor shrink (a mapping of
/// a file that shrank is a SIGBUS).
#[cfg(target_os = "linux")]
pub(crate) fn create(name: &std::ffi::CStr, len: usize) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a NUL-terminated string that lives across the call.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just returned to us and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    truncate(&fd, len)?;
    // Not F_SEAL_FUTURE_WRITE: it also forbids punching holes (EPERM in shmem_fallocate), and the
    // memory of freed snapshots would never go back. Workers get a read-only descriptor instead.
    let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: plain system call on a descriptor we own.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(fd)
}

/// Makes an unlinked temporary file of `len` bytes.
#[cfg(not(target_os = "linux"))]
pub(crate) fn create(_name: &std::ffi::CStr, len: usize) -> io::Result<OwnedFd> {
    let mut path = std::env::temp_dir()
        .join("hotswap-proxy-XXXXXX")
        .into_os_string()
        .into_encoded_bytes();
    path.push(0);
    // SAFETY: `path` is a writable NUL-terminated template.
    let fd = check(unsafe { libc::mkstemp(path.as_mut_ptr().cast()) })?;
    // SAFETY: `fd` was just returned to us and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: `path` is still NUL-terminated; the descriptor keeps the file alive.
    check(unsafe { libc::unlink(path.as_ptr().cast()) })?;
    truncate(&fd, len)?;
    Ok(fd)
}

/// A second descriptor of the same file that cannot be mapped writable.
///
/// Falls back to a duplicate where there is no /proc: workers map it read-only by themselves, this
/// only takes away the means to do otherwise.
pub(super) fn reader(fd: &OwnedFd) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    if let Ok(file) = std::fs::File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())) {
        return Ok(file.into());
    }
    fd.try_clone()
}

/// Gives the memory of a page-aligned part of the file back; it reads as zeros afterwards.
///
/// Best effort: where holes cannot be punched, the range is simply reused later.
pub(super) fn punch(fd: &OwnedFd, offset: usize, len: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: plain system call on a descriptor we own; offset and len lie in the file.
    unsafe {
        libc::fallocate(
            fd.as_raw_fd(),
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            offset as libc::off_t,
            len as libc::off_t,
        );
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (fd, offset, len);
}

/// Size of the file behind an inherited descriptor, in bytes.
pub(crate) fn size(fd: RawFd) -> io::Result<usize> {
    // SAFETY: all-zero is a valid `stat`, a plain C structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is writable and of the right type; a bad descriptor is an error, not UB.
    check(unsafe { libc::fstat(fd, &mut stat) })?;
    usize::try_from(stat.st_size).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn truncate(fd: &OwnedFd, len: usize) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: plain system call on a descriptor we own.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), len) }).map(drop)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// What a mapping may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    /// Writable, and left out of the address space of children forked from this process.
    WriteHere,
}

/// A shared mapping of a whole file, unmapped on drop.
pub(crate) struct Mapping {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range owned by the process, not by a thread; this type only hands
// out its address, and what is done with it is for the caller to prove.
unsafe impl Send for Mapping {}
// SAFETY: as above: `&Mapping` gives an address and a length, both constant.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd`, shared, without reserving swap.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize, access: Access) -> io::Result<Self> {
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::Write | Access::WriteHere => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                0,
            )
        };
        if ptr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        #[cfg(target_os = "linux")]
        if access == Access::WriteHere {
            // SAFETY: the range was just mapped by us. Failure only loses the protection.
            unsafe { libc::madvise(ptr, len, libc::MADV_DONTFORK) };
        }
        let ptr = NonNull::new(ptr.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { ptr, len })
    }

    pub(crate) fn ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` with this length and is unmapped only here.
        unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[cfg(target_os = "linux")]
    #[test]
    fn reader_cannot_be_mapped_writable_and_the_file_cannot_shrink() {
        let fd = create(c"test", 2 * PAGE).unwrap();
        let read = reader(&fd).unwrap();
        assert!(Mapping::new(read.as_fd(), 2 * PAGE, Access::Write).is_err());
        assert!(Mapping::new(read.as_fd(), 2 * PAGE, Access::Read).is_ok());
        assert!(truncate(&fd, PAGE).is_err());
        assert!(truncate(&fd, 3 * PAGE).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn punched_memory_is_given_back() {
        let blocks = |fd: &OwnedFd| {
            // SAFETY: as in `size`.
            let mut stat: libc::stat = unsafe { std::mem::zeroed() };
            // SAFETY: as in `size`.
            unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) };
            stat.st_blocks
        };
        let fd = create(c"test", 16 * PAGE).unwrap();
        let map = Mapping::new(fd.as_fd(), 16 * PAGE, Access::WriteHere).unwrap();
        assert_eq!(blocks(&fd), 0);
        // SAFETY: the mapping is writable and ours alone.
        unsafe { std::ptr::write_bytes(map.ptr(), 7, 16 * PAGE) };
        assert_eq!(blocks(&fd), 128);
        punch(&fd, 4 * PAGE, 8 * PAGE);
        assert_eq!(blocks(&fd), 64);
        // SAFETY: inside the mapping.
        assert_eq!(unsafe { *map.ptr().add(4 * PAGE) }, 0);
    }
}
