//! Where a client is: its country and continent, from a database in MaxMind's format.

use maxminddb::Reader;
use memmap2::{Mmap, MmapOptions};
use serde::Deserialize;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A database, or none.
#[derive(Default)]
pub struct Regions {
    reader: Option<Reader<Mmap>>,
}

/// What is read of an entry.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    country: Option<Country<'a>>,
    #[serde(borrow, default)]
    registered_country: Option<Country<'a>>,
    #[serde(borrow, default)]
    continent: Option<Continent<'a>>,
}

#[derive(Deserialize)]
struct Country<'a> {
    #[serde(borrow)]
    iso_code: Option<&'a str>,
}

#[derive(Deserialize)]
struct Continent<'a> {
    #[serde(borrow)]
    code: Option<&'a str>,
}

/// What is told of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub database_type: String,
    /// Unix seconds.
    pub built: u64,
    pub nodes: u32,
}

/// The value of a pseudo-header: a code, or the client's address as it is.
pub enum Value<'a> {
    Code([u8; 2]),
    Address(&'a [u8]),
}

impl std::ops::Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Code(code) => code,
            Self::Address(ip) => ip,
        }
    }
}

/// Read a database that is complete in an open file.
///
/// # Errors
/// What is wrong with it.
pub fn open(file: BorrowedFd<'_>) -> Result<Reader<Mmap>, String> {
    let file = File::from(
        file.try_clone_to_owned()
            .map_err(|error| error.to_string())?,
    );
    if !is_sealed(&file) {
        return Err("the file is not sealed against changes".into());
    }
    // SAFETY: sealed against writing and shrinking, so the bytes stay as they are and stay there.
    let map = unsafe { MmapOptions::new().map(&file) }.map_err(|error| error.to_string())?;
    let reader = Reader::from_source(map).map_err(|error| error.to_string())?;
    let kind = &reader.metadata.database_type;
    let known = ["Country", "City", "Enterprise"]
        .iter()
        .any(|word| kind.contains(word));
    match known {
        true => Ok(reader),
        false => Err(format!(
            "a database of type {kind:?} says nothing of countries"
        )),
    }
}

#[cfg(target_os = "linux")]
fn is_sealed(file: &File) -> bool {
    const SEALS: i32 = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK;
    // SAFETY: asks about a descriptor that we hold; the answer is a number.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & SEALS == SEALS
}

/// Elsewhere files cannot be sealed; the control process hands over a private copy.
#[cfg(not(target_os = "linux"))]
fn is_sealed(file: &File) -> bool {
    file.as_raw_fd() >= 0
}

/// Say what a database is, and look up an address in each /16: a file that was cut short is better found
/// before it is used.
///
/// # Errors
/// What is wrong with it.
pub fn examine(file: BorrowedFd<'_>) -> Result<Described, String> {
    let reader = open(file)?;
    for high in 0..=u16::MAX {
        let ip = Ipv4Addr::from(u32::from(high) << 16 | 1);
        reader
            .lookup::<Entry<'_>>(ip.into())
            .map_err(|error| format!("at {ip}: {error}"))?;
    }
    Ok(Described {
        database_type: reader.metadata.database_type.clone(),
        built: reader.metadata.build_epoch,
        nodes: reader.metadata.node_count,
    })
}

impl Regions {
    /// Use this database from now on; None: no more.
    ///
    /// # Errors
    /// What is wrong with it; the one before stays.
    pub fn replace(&mut self, file: Option<BorrowedFd<'_>>) -> Result<(), String> {
        self.reader = file.map(open).transpose()?;
        Ok(())
    }

    /// Value of a pseudo-header (`:country`, `:continent`, `:cidr`) for a client.
    pub fn value<'a>(&self, name: &str, ip: &'a [u8]) -> Option<Value<'a>> {
        if name == ":cidr" {
            return Some(Value::Address(ip));
        }
        let ip: IpAddr = std::str::from_utf8(ip).ok()?.parse().ok()?;
        let entry: Entry<'_> = self.reader.as_ref()?.lookup(ip).ok()??;
        let code = match name {
            // Where an address is used; else where its owner is registered.
            ":country" => entry
                .country
                .or(entry.registered_country)
                .and_then(|country| country.iso_code),
            _ => entry.continent.and_then(|continent| continent.code),
        };
        Some(Value::Code(code?.as_bytes().try_into().ok()?))
    }
}
