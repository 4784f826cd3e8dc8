//! The chunked transfer coding (RFC 9112 section 7.1), read incrementally and written anew.
//!
//! A table of states and byte classes; only chunk data is taken in bulk. Extensions are dropped
//! (section 7.1.1 lets any recipient do so), sizes are written canonically, trailer fields are
//! checked and the forbidden ones dropped.

use super::encode::{size_line, CHUNK_END};
use super::fields::TOKEN;
use super::trailer::{fate, Fate, LONGEST};
use super::verdict::Malformed;

const MAX_DIGITS: u8 = 16;
const MAX_EXTENSION: u16 = 256;
const MAX_TRAILERS: u16 = 8 * 1024;

/// What is written for the data that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Chunks again, with the same boundaries.
    Rechunk,
    /// The same, but for trailers: they end here.
    Bare,
    /// Data only; trailers are lost.
    Plain,
}

/// What one call of [`ChunkedDecoder::feed`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Bytes of input taken: all of them, unless `done`.
    pub consumed: usize,
    /// The body has ended; what follows is the next message.
    pub done: bool,
    /// Bytes of chunk data among those taken.
    pub data_bytes: u64,
    /// Only from [`ChunkedDecoder::relay`]: nothing was appended, because the output would equal
    /// the input taken. Send that.
    pub verbatim: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    /// A name longer than any forbidden one.
    TrailerLongName,
    TrailerValue,
    TrailerEnd,
    DroppedValue,
    DroppedEnd,
    End,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Control,
    Cr,
    Lf,
    Hex,
    Token,
    Colon,
    Semicolon,
    /// Blanks, the other visible characters, and bytes above ASCII.
    Text,
}

static CLASSES: [Class; 256] = {
    let mut table = [Class::Text; 256];
    let mut b = 0;
    while b < 128 {
        let byte = b as u8;
        table[b] = match byte {
            b'\r' => Class::Cr,
            b'\n' => Class::Lf,
            b':' => Class::Colon,
            b';' => Class::Semicolon,
            b'\t' => Class::Text,
            0..=0x1F | 0x7F => Class::Control,
            _ if byte.is_ascii_hexdigit() => Class::Hex,
            _ if TOKEN[b] => Class::Token,
            _ => Class::Text,
        };
        b += 1;
    }
    table
};

/// A reader of one chunked body. Plain data of 48 bytes: copy it, embed it, send it nowhere.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ChunkedDecoder {
    /// Size being read, then data bytes of this chunk still to come.
    remaining: u64,
    extension: u16,
    trailers: u16,
    digits: u8,
    state: State,
    name_len: u8,
    name: [u8; LONGEST],
}

impl ChunkedDecoder {
    pub const fn new() -> Self {
        ChunkedDecoder {
            remaining: 0,
            extension: 0,
            trailers: 0,
            digits: 0,
            state: State::Size,
            name_len: 0,
            name: [0; LONGEST],
        }
    }

    #[inline]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads `input` and appends what is to be sent on to `out`. However the input is cut, the
    /// output is the same stream.
    ///
    /// # Errors
    /// The decoder must not be used again, and what was appended belongs to a broken message.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>, mode: Mode) -> Result<Fed, Malformed> {
        match mode {
            Mode::Rechunk => self.run(input, &mut Rechunk::<true>(out)),
            Mode::Bare => self.run(input, &mut Rechunk::<false>(out)),
            Mode::Plain => self.run(input, &mut Plain(out)),
        }
    }

    /// Like [`Self::feed`], but copies nothing when the output would be the input itself, which is
    /// the rule for bodies that arrive in canonical chunks: see [`Fed::verbatim`].
    pub fn relay(&mut self, input: &[u8], out: &mut Vec<u8>, mode: Mode) -> Result<Fed, Malformed> {
        let mut probe = *self;
        let mut same = Same {
            input,
            at: 0,
            same: true,
            mode,
        };
        let fed = probe.run(input, &mut same)?;
        if same.same && same.at == fed.consumed {
            *self = probe;
            return Ok(Fed {
                verbatim: true,
                ..fed
            });
        }
        self.feed(input, out, mode)
    }

    fn run<S: Sink>(&mut self, input: &[u8], sink: &mut S) -> Result<Fed, Malformed> {
        let mut at = 0;
        let mut data_bytes = 0;
        while self.state != State::Done {
            let Some(&byte) = input.get(at) else { break };
            if self.state == State::Data {
                let available = (input.len() - at) as u64;
                let take = available.min(self.remaining) as usize;
                sink.data(&input[at..at + take]);
                at += take;
                data_bytes += take as u64;
                self.remaining -= take as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.step(byte, sink)?;
            at += 1;
        }
        Ok(Fed {
            consumed: at,
            done: self.is_done(),
            data_bytes,
            verbatim: false,
        })
    }

    /// The transition for one byte outside of data.
    #[inline]
    fn step<S: Sink>(&mut self, byte: u8, sink: &mut S) -> Result<State, Malformed> {
        use Class as C;
        use State as S;
        let class = CLASSES[usize::from(byte)];
        if self.state >= S::TrailerStart {
            self.trailers += 1;
            if self.trailers > MAX_TRAILERS {
                return Err(Malformed::TrailersTooLong);
            }
        }
        Ok(match (self.state, class) {
            (S::Size, C::Hex) => {
                self.push_digit(byte)?;
                S::Size
            }
            (S::Size, C::Cr) if self.digits > 0 => S::SizeEnd,
            (S::Size, C::Semicolon) if self.digits > 0 => S::Extension,
            (S::Size, _) => return Err(Malformed::Size),

            (S::Extension, C::Cr) => S::SizeEnd,
            (S::Extension, C::Lf | C::Control) => return Err(Malformed::Extension),
            (S::Extension, _) => {
                self.extension += 1;
                if self.extension > MAX_EXTENSION {
                    return Err(Malformed::ExtensionTooLong);
                }
                S::Extension
            }

            (S::SizeEnd, C::Lf) => {
                sink.framing(size_line(self.remaining, &mut [0; 18]));
                (self.digits, self.extension) = (0, 0);
                match self.remaining {
                    0 => S::TrailerStart,
                    _ => S::Data,
                }
            }
            (S::DataCr, C::Cr) => S::DataLf,
            (S::DataLf, C::Lf) => {
                sink.framing(CHUNK_END);
                S::Size
            }

            (S::TrailerStart, C::Cr) => S::End,
            (S::TrailerStart, C::Hex | C::Token) => {
                self.name_len = 0;
                self.push_name(byte, sink)
            }
            (S::TrailerName, C::Hex | C::Token) => self.push_name(byte, sink),
            (S::TrailerName, C::Colon) => {
                let name = &self.name[..usize::from(self.name_len)];
                match fate(name) {
                    Fate::Kept => {
                        sink.trailer(name);
                        sink.trailer(b":");
                        S::TrailerValue
                    }
                    Fate::Dropped => S::DroppedValue,
                    Fate::Refused => return Err(Malformed::Trailer),
                }
            }
            (S::TrailerLongName, C::Hex | C::Token) => {
                sink.trailer(&[byte]);
                S::TrailerLongName
            }
            (S::TrailerLongName, C::Colon) => {
                sink.trailer(b":");
                S::TrailerValue
            }
            (S::TrailerStart | S::TrailerName | S::TrailerLongName, _) => {
                return Err(Malformed::Trailer)
            }

            (S::TrailerValue, C::Cr) => S::TrailerEnd,
            (S::DroppedValue, C::Cr) => S::DroppedEnd,
            (S::TrailerValue | S::DroppedValue, C::Lf | C::Control) => {
                return Err(Malformed::Trailer)
            }
            (S::TrailerValue, _) => {
                sink.trailer(&[byte]);
                S::TrailerValue
            }
            (S::DroppedValue, _) => S::DroppedValue,
            (S::TrailerEnd, C::Lf) => {
                sink.trailer(CHUNK_END);
                S::TrailerStart
            }
            (S::DroppedEnd, C::Lf) => S::TrailerStart,
            (S::End, C::Lf) => {
                sink.framing(CHUNK_END);
                S::Done
            }
            (state @ (S::Data | S::Done), _) => state, // never stepped
            _ => return Err(Malformed::LineEnding),
        })
    }

    fn push_digit(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.digits == MAX_DIGITS {
            return Err(Malformed::SizeTooLarge);
        }
        if self.digits == 0 {
            self.remaining = 0;
        }
        self.digits += 1;
        let digit = (byte as char).to_digit(16).unwrap_or(0);
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(())
    }

    fn push_name<S: Sink>(&mut self, byte: u8, sink: &mut S) -> State {
        match self.name.get_mut(usize::from(self.name_len)) {
            Some(slot) => {
                *slot = byte;
                self.name_len += 1;
                State::TrailerName
            }
            None => {
                sink.trailer(&self.name);
                sink.trailer(&[byte]);
                State::TrailerLongName
            }
        }
    }
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the output goes.
trait Sink {
    fn data(&mut self, bytes: &[u8]);
    fn framing(&mut self, bytes: &[u8]);
    /// Part of a trailer field that may travel.
    fn trailer(&mut self, bytes: &[u8]) {
        self.framing(bytes);
    }
}

/// Chunks again; with trailers, or without.
struct Rechunk<'o, const TRAILERS: bool>(&'o mut Vec<u8>);

impl<const TRAILERS: bool> Sink for Rechunk<'_, TRAILERS> {
    #[inline]
    fn data(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    #[inline]
    fn framing(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    #[inline]
    fn trailer(&mut self, bytes: &[u8]) {
        if TRAILERS {
            self.framing(bytes);
        }
    }
}

struct Plain<'o>(&'o mut Vec<u8>);

impl Sink for Plain<'_> {
    #[inline]
    fn data(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    #[inline]
    fn framing(&mut self, _: &[u8]) {}
}

/// Compares the output with the input instead of writing it.
struct Same<'i> {
    input: &'i [u8],
    at: usize,
    same: bool,
    mode: Mode,
}

impl Sink for Same<'_> {
    #[inline]
    fn data(&mut self, bytes: &[u8]) {
        // Data is a part of the input: equal if it lies where the output has come to.
        let here = self.input.get(self.at..).map(<[u8]>::as_ptr);
        self.same &= here == Some(bytes.as_ptr());
        self.at += bytes.len();
    }
    #[inline]
    fn framing(&mut self, bytes: &[u8]) {
        if self.mode != Mode::Plain {
            let end = self.at + bytes.len();
            self.same &= self.input.get(self.at..end) == Some(bytes);
            self.at = end;
        }
    }
    #[inline]
    fn trailer(&mut self, bytes: &[u8]) {
        if self.mode != Mode::Bare {
            self.framing(bytes);
        }
    }
}
