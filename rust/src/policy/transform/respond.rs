//! The lines that an answer gets, worked out with the request: when the answer comes, its head is gone.

use super::said::Said;
use super::template::ArchivedPart;
use super::ArchivedResponseChange;
use crate::codec::edit::{length_bit, Names};
use crate::codec::encode::push_decimal;

/// What is known only when the answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hole {
    Backend,
    Latency,
}

/// A request's changes of its answer. Holds no reference into the snapshot, which may be gone when the
/// gateway has to answer itself.
#[derive(Default, Debug)]
pub struct Prepared {
    drops: Vec<u8>,
    lengths: u64,
    lines: Vec<u8>,
    holes: Vec<(u32, Hole)>,
    backend: Vec<u8>,
}

impl Prepared {
    /// Leave out the backend's fields of these names.
    pub fn drop_names(&mut self, names: Names<'_>) {
        self.drops.extend_from_slice(names.list);
        self.lengths |= names.lengths;
    }

    pub fn drop_name(&mut self, name: &str) {
        self.drops.extend_from_slice(name.as_bytes());
        self.drops.push(b'\n');
        self.lengths |= length_bit(name.len());
    }

    /// Write the lines of a change, but for what is not known yet. False: they would be longer than `most`,
    /// for a value may repeat what the client sent.
    pub fn prepare(
        &mut self,
        change: &ArchivedResponseChange,
        said: &Said<'_>,
        most: usize,
    ) -> bool {
        self.drop_names(change.drops.names());
        for field in change.add_headers.iter() {
            let from = self.lines.len();
            self.lines.extend_from_slice(field.name.as_bytes());
            self.lines.extend_from_slice(b": ");
            let (value_from, open) = (self.lines.len(), self.holes.len());
            let holes = &mut self.holes;
            field.value.render(&mut self.lines, said, |out, part| {
                let hole = match part {
                    ArchivedPart::LatencyMs => Hole::Latency,
                    _ => Hole::Backend,
                };
                holes.push((out.len() as u32, hole));
            });
            let empty = self.lines.len() == value_from && self.holes.len() == open;
            if empty {
                self.lines.truncate(from);
            } else {
                self.lines.extend_from_slice(b"\r\n");
            }
            if self.lines.len() > most {
                return false;
            }
        }
        true
    }

    /// The backend that the request goes to, if a line has its name.
    pub fn note_backend(&mut self, name: &[u8]) {
        if self.holes.iter().any(|(_, hole)| *hole == Hole::Backend) {
            self.backend.clear();
            self.backend
                .extend(name.iter().filter(|byte| !byte.is_ascii_control()));
        }
    }

    /// The backend's fields that are left out.
    pub fn drops(&self) -> Names<'_> {
        Names {
            list: &self.drops,
            lengths: self.lengths,
        }
    }

    /// Append the lines for an answer that took so many milliseconds.
    pub fn write(&self, out: &mut Vec<u8>, latency_ms: u64) {
        let mut from = 0;
        for &(at, hole) in &self.holes {
            let at = at as usize;
            out.extend_from_slice(self.lines.get(from..at).unwrap_or_default());
            match hole {
                Hole::Backend => out.extend_from_slice(&self.backend),
                Hole::Latency => push_decimal(out, latency_ms),
            }
            from = at;
        }
        out.extend_from_slice(self.lines.get(from..).unwrap_or_default());
    }

    /// The same for an answer that the gateway makes: what describes the backend's content, or how it may
    /// be stored, says nothing about that answer.
    pub fn write_own(&self, out: &mut Vec<u8>, latency_ms: u64) {
        let mut lines = Vec::with_capacity(self.lines.len() + 64);
        self.write(&mut lines, latency_ms);
        for line in lines.split_inclusive(|&b| b == b'\n') {
            let name = line.split(|&b| b == b':').next().unwrap_or_default();
            if !describes_content(name) {
                out.extend_from_slice(line);
            }
        }
    }
}

fn describes_content(name: &[u8]) -> bool {
    const STORED: [&[u8]; 11] = [
        b"accept-ranges",
        b"age",
        b"allow",
        b"cache-control",
        b"etag",
        b"expires",
        b"last-modified",
        b"location",
        b"retry-after",
        b"set-cookie",
        b"www-authenticate",
    ];
    const CONTENT: &[u8] = b"content-";
    let starts = |prefix: &[u8]| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    starts(CONTENT) && !starts(b"content-security-policy")
        || STORED.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_when_the_answer_comes() {
        let mut prepared = Prepared {
            lines: b"X-B: <>\r\nX-T: \r\nContent-Type: a\r\nCache-Control: public\r\n".to_vec(),
            holes: vec![(6, Hole::Backend), (14, Hole::Latency)],
            ..Prepared::default()
        };
        prepared.note_backend(b"first\r\n");
        prepared.note_backend(b"second");
        let (mut all, mut own) = (Vec::new(), Vec::new());
        prepared.write(&mut all, 12);
        prepared.write_own(&mut own, 0);
        let start = "X-B: <second>\r\nX-T: 12\r\n";
        assert_eq!(
            String::from_utf8(all).unwrap(),
            format!("{start}Content-Type: a\r\nCache-Control: public\r\n")
        );
        assert_eq!(own, b"X-B: <second>\r\nX-T: 0\r\n");
    }

    #[test]
    fn what_describes_content_stays_off_own_answers() {
        for name in [
            "Content-Type",
            "CONTENT-ENCODING",
            "ETag",
            "Cache-Control",
            "Set-Cookie",
        ] {
            assert!(describes_content(name.as_bytes()), "{name}");
        }
        for name in [
            "Content-Security-Policy",
            "Content-Security-Policy-Report-Only",
            "X-Frame-Options",
            "Server",
        ] {
            assert!(!describes_content(name.as_bytes()), "{name}");
        }
    }
}
