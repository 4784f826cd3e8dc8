//! Lines into a file descriptor: whole ones, or none.
//!
//! What cannot be written is dropped and counted, so that a full disk or a reader that hangs costs lines
//! and nothing else. A line is torn only by an error in its middle: its rest is kept where the reader may
//! go on reading (EAGAIN), else the next line that is written is put on a line of its own.

use std::io;
use std::os::fd::RawFd;

/// What became of lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    pub lines: u64,
    pub bytes: u64,
    /// Lines that were dropped.
    pub lost: u64,
    /// Writes that failed.
    pub errors: u64,
    /// Of the last one; 0: none did.
    errno: i32,
}

impl Written {
    /// Why the last write that failed did.
    pub fn error(&self) -> Option<io::Error> {
        (self.errno != 0).then(|| io::Error::from_raw_os_error(self.errno))
    }
}

/// What is to be written before anything else.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// The rest of a line.
    Rest(Vec<u8>),
    /// A newline, after a line that is torn.
    Newline,
}

/// The state of one log across calls.
#[derive(Debug)]
pub struct Output {
    left: Left,
    /// Which file it is of: device and inode.
    file: (u64, u64),
}

impl Default for Output {
    fn default() -> Self {
        Self {
            left: Left::Nothing,
            file: (0, 0),
        }
    }
}

impl Output {
    /// Say which file is written from here on: what another one lacks is nothing to this one.
    pub fn begin(&mut self, fd: RawFd) {
        let file = identity(fd);
        if file != self.file {
            self.file = file;
            self.left = Left::Nothing;
        }
    }

    /// Write `lines`, each with its newline.
    pub fn write(
        &mut self,
        lines: &[u8],
        into: &mut Written,
        put: impl FnMut(&[u8]) -> io::Result<usize>,
    ) {
        let count = newlines(lines);
        match self.try_write(lines, put) {
            Ok(()) => {
                into.lines += count;
                into.bytes += lines.len() as u64;
            }
            Err((sent, error)) => {
                let whole = newlines(&lines[..sent]);
                // One that was begun counts as written: its rest is kept, or it is lost to its reader.
                let kept = matches!(self.left, Left::Rest(_)) && !at_end(&lines[..sent]);
                into.lines += whole + u64::from(kept);
                into.lost += count - whole - u64::from(kept);
                into.bytes += sent as u64;
                into.errors += 1;
                into.errno = error.raw_os_error().unwrap_or(libc::EIO);
            }
        }
    }

    /// An error comes with the bytes of `lines` that were written before it.
    fn try_write(
        &mut self,
        lines: &[u8],
        mut put: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> Result<(), (usize, io::Error)> {
        let first = match &self.left {
            Left::Nothing => &[][..],
            Left::Newline => b"\n",
            Left::Rest(rest) => rest,
        };
        if let Err((sent, error)) = put_all(first, &mut put) {
            if let Left::Rest(rest) = &mut self.left {
                if may_come_back(&error) {
                    rest.drain(..sent);
                } else {
                    self.left = Left::Newline;
                }
            }
            return Err((0, error));
        }
        self.left = Left::Nothing;
        put_all(lines, &mut put).map_err(|(sent, error)| {
            if !at_end(&lines[..sent]) {
                let rest = &lines[sent..];
                let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                self.left = match may_come_back(&error) {
                    true => Left::Rest(rest[..end].to_vec()),
                    false => Left::Newline,
                };
            }
            (sent, error)
        })
    }
}

/// Whether bytes end where a line ends.
fn at_end(bytes: &[u8]) -> bool {
    !matches!(bytes.last(), Some(&last) if last != b'\n')
}

fn may_come_back(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

fn put_all(
    bytes: &[u8],
    mut put: impl FnMut(&[u8]) -> io::Result<usize>,
) -> Result<(), (usize, io::Error)> {
    let mut sent = 0;
    while sent < bytes.len() {
        match put(&bytes[sent..]) {
            Ok(0) => return Err((sent, io::ErrorKind::WriteZero.into())),
            Ok(n) => sent += n.min(bytes.len() - sent),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((sent, error)),
        }
    }
    Ok(())
}

/// write(2); it blocks as long as the file does.
pub fn put(fd: RawFd) -> impl FnMut(&[u8]) -> io::Result<usize> {
    move |bytes| {
        // SAFETY: the slice is readable for its length; a bad descriptor is an error, not UB.
        let sent = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

#[allow(clippy::unnecessary_cast)] // their types differ between systems
fn identity(fd: RawFd) -> (u64, u64) {
    // SAFETY: all-zero is a valid `stat`, a plain C structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is writable and of the right type; a bad descriptor is an error, not UB.
    match unsafe { libc::fstat(fd, &mut stat) } {
        0 => (stat.st_dev as u64, stat.st_ino as u64),
        _ => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A file that takes what a plan says: so many bytes, or an error.
    struct Plan {
        steps: VecDeque<Result<usize, i32>>,
        got: Vec<u8>,
    }

    impl Plan {
        fn new(steps: &[Result<usize, i32>]) -> Self {
            Self {
                steps: steps.iter().copied().collect(),
                got: Vec::new(),
            }
        }

        fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.steps.pop_front().unwrap_or(Ok(usize::MAX)) {
                Ok(most) => {
                    let n = most.min(bytes.len());
                    self.got.extend_from_slice(&bytes[..n]);
                    Ok(n)
                }
                Err(errno) => Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    fn run(steps: &[Result<usize, i32>], calls: &[&str]) -> (String, Written) {
        let (mut plan, mut output, mut written) =
            (Plan::new(steps), Output::default(), Written::default());
        for lines in calls {
            output.write(lines.as_bytes(), &mut written, |bytes| plan.put(bytes));
        }
        (String::from_utf8(plan.got).unwrap(), written)
    }

    #[test]
    fn partial_writes_and_interrupts_go_on() {
        let (got, written) = run(&[Ok(1), Err(libc::EINTR), Ok(3), Ok(1)], &["abc\ndef\n"]);
        assert_eq!(got, "abc\ndef\n");
        assert_eq!((written.lines, written.lost, written.bytes), (2, 0, 8));
        assert_eq!(written.errno, 0);
    }

    #[test]
    fn a_line_that_would_block_is_finished_later() {
        let (got, written) = run(
            &[
                Ok(5),
                Err(libc::EAGAIN),
                Err(libc::EAGAIN),
                Ok(1),
                Err(libc::EAGAIN),
            ],
            &["abc\ndef\nghi\n", "1\n", "2\n", "3\n"],
        );
        assert_eq!(got, "abc\ndef\n3\n");
        assert_eq!((written.lines, written.lost), (3, 3));
        assert_eq!(written.errno, libc::EAGAIN);
    }

    #[test]
    fn a_torn_line_is_ended_by_the_next_success() {
        let (got, written) = run(
            &[Ok(6), Err(libc::ENOSPC), Err(libc::ENOSPC)],
            &["abc\ndef\nghi\n", "1\n", "2\n"],
        );
        assert_eq!(got, "abc\nde\n2\n");
        assert_eq!((written.lines, written.lost), (2, 3));
    }

    #[test]
    fn what_is_lost_between_lines_leaves_no_trace() {
        let (got, written) = run(&[Ok(4), Err(libc::EPIPE)], &["abc\ndef\n", "1\n"]);
        assert_eq!(got, "abc\n1\n");
        assert_eq!((written.lines, written.lost), (2, 1));
    }

    #[test]
    fn another_file_owes_nothing() {
        let mut output = Output {
            left: Left::Newline,
            file: (1, 2),
        };
        output.begin(-1);
        assert_eq!(output.left, Left::Nothing);
    }
}
