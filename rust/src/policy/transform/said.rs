//! What a request says of itself: the values that variables stand for.

use crate::codec::RequestHead;

/// A request as templates see it.
pub struct Said<'a> {
    pub head: &'a RequestHead<'a>,
    pub client_ip: &'a [u8],
    pub request_id: &'a [u8],
    pub route_name: &'a [u8],
}

impl<'a> Said<'a> {
    /// Segment of the normalised path, still percent-encoded as it is there.
    pub fn segment(&self, index: u16) -> &'a [u8] {
        let path = self.head.path;
        let mut segments = path.split(|&b| b == b'/').skip(1);
        segments.nth(index.into()).unwrap_or_default()
    }

    /// Of a valid `traceparent`, else empty.
    pub fn trace_id(&self) -> &'a [u8] {
        let mut values = self.head.fields.all(b"traceparent");
        match (values.next(), values.next()) {
            (Some(value), None) => trace_id(value).unwrap_or_default(),
            _ => b"",
        }
    }
}

/// The trace id of a `traceparent` value (W3C Trace Context section 3.2): versions after 00 may go on
/// behind the flags.
fn trace_id(value: &[u8]) -> Option<&[u8]> {
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (known, more) = value.split_at_checked(55)?;
    let (version, trace) = (known.get(..2)?, known.get(3..35)?);
    let (parent, flags) = (known.get(36..52)?, known.get(53..)?);
    let dashes = [2, 35, 52].iter().all(|&at| known.get(at) == Some(&b'-'));
    let sound = dashes && [version, trace, parent, flags].into_iter().all(is_hex);
    let empty = |part: &[u8]| part.iter().all(|&b| b == b'0');
    let ends = more.is_empty() || (version != b"00" && more.first() == Some(&b'-'));
    (sound && ends && version != b"ff" && !empty(trace) && !empty(parent)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::trace_id;

    #[test]
    fn only_a_valid_traceparent_has_a_trace_id() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let good = format!("00-{id}-b7ad6b7169203331-01");
        assert_eq!(trace_id(good.as_bytes()), Some(id.as_bytes()));
        let later = format!("cc-{id}-b7ad6b7169203331-01-what");
        assert_eq!(trace_id(later.as_bytes()), Some(id.as_bytes()));
        for bad in [
            String::new(),
            good[..54].to_owned(),
            format!("{good}-more"),
            good.to_uppercase(),
            good.replace("00-", "ff-"),
            good.replace('-', "_"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
        ] {
            assert_eq!(trace_id(bad.as_bytes()), None, "{bad}");
        }
    }
}
