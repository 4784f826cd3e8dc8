//! Dates as HTTP and JSON write them, from Unix time, without a calendar library.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Last second of the year 9999, the end of both formats.
const LATEST: u64 = 253_402_300_799;

/// The current second's Date value, written at most once per second.
#[derive(Clone, Debug)]
pub struct DateCache {
    second: u64,
    text: [u8; 29],
}

impl DateCache {
    pub fn new() -> Self {
        DateCache {
            second: 0,
            text: http_date(0),
        }
    }

    /// IMF-fixdate (RFC 9110 section 5.6.7) of a Unix time in seconds.
    #[inline]
    pub fn at(&mut self, unix: u64) -> &[u8; 29] {
        if unix != self.second {
            self.second = unix;
            self.text = http_date(unix);
        }
        &self.text
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub fn http_date(unix: u64) -> [u8; 29] {
    let unix = unix.min(LATEST);
    let (year, month, day) = civil(unix / 86_400);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[..3].copy_from_slice(DAYS[(unix / 86_400 % 7) as usize].as_bytes());
    put(&mut text[5..7], day);
    text[8..11].copy_from_slice(MONTHS[month as usize - 1].as_bytes());
    put(&mut text[12..16], year);
    put_time(&mut text[17..25], unix);
    text
}

/// `1994-11-06T08:49:37Z` (RFC 3339)
pub fn timestamp(unix: u64) -> [u8; 20] {
    let unix = unix.min(LATEST);
    let (year, month, day) = civil(unix / 86_400);
    let mut text = *b"1970-01-01T00:00:00Z";
    put(&mut text[..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put_time(&mut text[11..19], unix);
    text
}

/// Year, month 1–12 and day 1–31 of a day since 1970-01-01, by the proleptic Gregorian calendar.
/// Years run from March here, so that the leap day is the last of a year.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097; // days in 400 years
    let since_year_0 = days + 719_468;
    let (era, day_of_era) = (since_year_0 / ERA, since_year_0 % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = match shifted_month {
        0..=9 => shifted_month + 3,
        _ => shifted_month - 9,
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

fn put_time(text: &mut [u8], unix: u64) {
    put(&mut text[..2], unix / 3_600 % 24);
    put(&mut text[3..5], unix / 60 % 60);
    put(&mut text[6..8], unix % 60);
}

/// Writes a number over all of `digits`, with leading zeros.
fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
