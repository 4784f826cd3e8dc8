//! What a route changes in a head that is passed on.

/// Field names in lower case, each with an LF behind it: one string, so that a snapshot holds it as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    pub list: &'a [u8],
    /// Bit n: a name has n bytes (bit 63: 63 or more). Most fields are told apart by it alone.
    pub lengths: u64,
}

/// The bit of a name in [`Names::lengths`].
#[inline]
pub const fn length_bit(len: usize) -> u64 {
    1 << if len < 63 { len } else { 63 }
}

impl Names<'_> {
    /// Whether `name`, in any case, is one of them.
    #[inline]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name.len()) != 0
            && self
                .list
                .split(|&b| b == b'\n')
                .any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Changes of one head. The writers still decide alone about every field that frames or routes the
/// message; no such field but Host may be named or written here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edit<'a> {
    /// Fields of the sender that are left out.
    pub drops: Names<'a>,
    /// Complete field lines, each with its CRLF.
    pub lines: &'a [u8],
    /// Requests only: a normalised path in place of the sender's.
    pub path: Option<&'a [u8]>,
}
