//! Between a [`Snapshot`] and its bytes.

use super::{ArchivedSnapshot, Snapshot};
use rkyv::rancor::Error;
use rkyv::util::AlignedVec;

/// An archive could not be made or is damaged.
#[derive(Debug)]
pub struct EncodeError(String);

impl std::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "snapshot archive: {}", self.0)
    }
}

impl std::error::Error for EncodeError {}

/// Archive a snapshot and check the result once, so that readers need not.
///
/// # Errors
/// When the archive would pass 2 GiB or fails its own check.
pub fn encode(snapshot: &Snapshot) -> Result<AlignedVec, EncodeError> {
    let bytes = rkyv::to_bytes::<Error>(snapshot).map_err(|e| EncodeError(e.to_string()))?;
    check(&bytes)?;
    Ok(bytes)
}

/// Read an archive of unknown origin.
///
/// # Errors
/// When it is no valid archive.
pub fn check(bytes: &[u8]) -> Result<&ArchivedSnapshot, EncodeError> {
    rkyv::access::<ArchivedSnapshot, Error>(bytes).map_err(|e| EncodeError(e.to_string()))
}

/// Read an archive in place.
///
/// # Safety
/// `bytes` must hold exactly what [`encode`] returned, at an address that is a multiple of 16, and
/// must not change while the result is in use.
#[inline]
pub unsafe fn view(bytes: &[u8]) -> &ArchivedSnapshot {
    // SAFETY: encode() checked these very bytes (positions, lengths, enum tags, UTF-8). The archive's
    // pointers are relative, so a copy at another address with the same alignment is as valid, and the
    // caller keeps the bytes alive and unchanged.
    unsafe { rkyv::access_unchecked::<ArchivedSnapshot>(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_snapshot_survives_a_copy_to_another_address() {
        let bytes = encode(&Snapshot::default()).unwrap();
        let mut copy = AlignedVec::<16>::new();
        copy.extend_from_slice(&bytes);
        // SAFETY: a copy of encode()'s bytes, aligned to 16, alive and unchanged.
        let snapshot = unsafe { view(&copy) };
        assert_eq!(snapshot.routes.len(), 0);
        assert!(check(&copy).is_ok());
    }

    #[test]
    fn damage_is_found_by_the_check() {
        let bytes = encode(&Snapshot::default()).unwrap();
        let mut damaged = AlignedVec::<16>::new();
        damaged.extend_from_slice(&bytes);
        damaged.fill(0x7f);
        assert!(check(&damaged).is_err());
        assert!(check(&[]).is_err());
    }
}
