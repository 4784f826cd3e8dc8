//! Small writers shared by all heads.

/// The answer to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Follows the data of every chunk (RFC 9112 section 7.1).
pub const CHUNK_END: &[u8] = b"\r\n";
/// The last chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends `name: value` and the end of the line.
#[inline]
pub fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a decimal number.
#[inline]
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes a chunk's size line for `len` bytes of data into `line`; returns the bytes used.
#[inline]
pub fn size_line(len: u64, line: &mut [u8; 18]) -> &[u8] {
    let digits = (67 - len.leading_zeros().min(63) as usize) / 4;
    for (index, digit) in line.iter_mut().take(digits).enumerate() {
        let nibble = (len >> (4 * (digits - 1 - index))) & 15;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    line[digits..digits + 2].copy_from_slice(b"\r\n");
    &line[..digits + 2]
}

/// Appends the size line of a chunk of `len` bytes; the data and [`CHUNK_END`] follow.
/// A length of 0 would end the body: nothing is written for it.
#[inline]
pub fn begin_chunk(out: &mut Vec<u8>, len: u64) {
    if len > 0 {
        out.extend_from_slice(size_line(len, &mut [0; 18]));
    }
}
