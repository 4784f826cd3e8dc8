//! The journal between threads and processes, and what its reader makes of anything it finds.

use _core::journal::context::Context;
use _core::journal::entry::{Entry, Place};
use _core::journal::flags::Flag;
use _core::journal::line::Lines;
use _core::journal::reader::Reader;
use _core::journal::record::{bit, Record, Text, NEVER};
use _core::journal::redact::Redaction;
use _core::journal::ring::{step, Consumer, Producer, Rings, Step, MAX_RECORD};
use _core::journal::{Journal, Options};
use proptest::prelude::*;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

const RING: usize = 1 << 16;

fn pair(lanes: usize, capacity: usize) -> (Rings, Arc<Rings>, OwnedFd) {
    let (reader, fd) = Rings::create(lanes, capacity).unwrap();
    let writer = Arc::new(Rings::attach(fd.as_raw_fd()).unwrap());
    (reader, writer, fd)
}

/// Take whole records from a lane.
fn take(rings: &Rings, lane: usize, each: &mut impl FnMut(&[u8])) {
    let consumer = Consumer::of(rings, lane);
    let mut chunk = vec![0; 4 * MAX_RECORD];
    let found = consumer.peek(&mut chunk).unwrap();
    let mut at = 0;
    loop {
        match step(&chunk[at..found]) {
            Step::Record(record, len) => {
                each(record);
                at += len;
            }
            Step::Part => break,
            Step::Corrupt => panic!("corrupt"),
        }
    }
    consumer.free(at);
}

/// A record that shows whether it is whole.
fn numbered(number: u64) -> Vec<u8> {
    let len = (number % 300) as usize;
    let mut record = number.to_le_bytes().to_vec();
    record.extend(std::iter::repeat(number as u8).take(len));
    record
}

fn number_of(record: &[u8]) -> u64 {
    let (number, rest) = record.split_first_chunk().unwrap();
    let number = u64::from_le_bytes(*number);
    assert_eq!(rest.len(), (number % 300) as usize);
    assert!(rest.iter().all(|&byte| byte == number as u8));
    number
}

#[test]
fn two_threads_lose_nothing_but_what_is_counted() {
    let (reader, writer, _fd) = pair(1, 4096);
    let total = 300_000;
    let writing = std::thread::spawn(move || {
        let mut producer = Producer::take(writer, 0).unwrap();
        (0..total)
            .filter(|&number| producer.put(&[&numbered(number)]))
            .count() as u64
    });
    let (mut found, mut last) = (0u64, None);
    loop {
        let over = writing.is_finished();
        take(&reader, 0, &mut |record| {
            let number = number_of(record);
            assert!(!last.is_some_and(|last| last >= number));
            last = Some(number);
            found += 1;
        });
        if over {
            break;
        }
        std::thread::yield_now(); // where both have one processor, the writer needs it
    }
    assert_eq!(writing.join().unwrap(), found);
    assert_eq!(found + Consumer::of(&reader, 0).dropped(), total);
}

/// Fork a writer that writes until it is killed; its successors go on in the same lane.
#[cfg(target_os = "linux")]
#[test]
fn a_writer_that_is_killed_damages_nothing() {
    let (reader, writer, _fd) = pair(2, 4096);
    let mut found = 0u64;
    for round in 0..60u64 {
        // SAFETY: the child only writes to shared memory, without allocating, and is killed.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let mut producer = Producer::take(writer.clone(), 1).unwrap();
            let body = [round as u8; 300];
            let mut number = 0u64;
            loop {
                number += 300; // a length of 0 modulo 300: the body is cut to fit
                let len = (number / 300 % 200) as usize;
                producer.put(&[&(number / 300 % 200).to_le_bytes(), &body[..len]]);
            }
        }
        let before = found;
        while found < before + 2000 {
            take(&reader, 1, &mut |record| {
                let (len, rest) = record.split_first_chunk().unwrap();
                assert_eq!(u64::from_le_bytes(*len), rest.len() as u64);
                let first = rest.first().copied().unwrap_or_default();
                assert!(rest.iter().all(|&byte| byte == first));
                found += 1;
            });
            std::thread::yield_now();
        }
        // SAFETY: our own child, not yet reaped.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
    // What the last one had published is there, and a thread of our own goes on behind it.
    let mut producer = Producer::take(writer, 1).unwrap();
    take(&reader, 1, &mut |_| {});
    assert!(producer.put(&[b"on"]));
    let mut last = Vec::new();
    take(&reader, 1, &mut |record| last = record.to_vec());
    assert_eq!(last, b"on");
}

#[test]
fn other_files_and_lanes_are_refused() {
    let (_reader, writer, fd) = pair(2, 4096);
    assert!(Producer::take(writer, 2).is_none());
    assert!(Rings::create(0, 4096).is_err());
    assert!(Rings::create(1, 5000).is_err());
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    assert!(Rings::attach(file.as_raw_fd()).is_err());
    assert!(Journal::attach(fd.as_raw_fd(), 2, Options::default(), 1).is_err());
}

/// A journal's both ends with everything logged.
fn journal() -> (Reader, Journal, OwnedFd) {
    let (reader, fd) = Reader::create(1, RING, Redaction::default()).unwrap();
    let options = Options {
        access_log: true,
        access_log_sample: 1 << 32,
        ..Options::default()
    };
    let journal = Journal::attach(fd.as_raw_fd(), 0, options, 1).unwrap();
    (reader, journal, fd)
}

fn drained(reader: &mut Reader) -> (Vec<serde_json::Value>, _core::journal::reader::Drained) {
    let mut file = tempfile();
    let found = reader.drain(Some(file.as_raw_fd()), u64::MAX, |_| {});
    use std::io::{Read, Seek};
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.collect(), found)
}

fn tempfile() -> std::fs::File {
    use std::os::fd::FromRawFd;
    // SAFETY: a literal string; the descriptor is ours.
    unsafe {
        let fd = libc::memfd_create(c"log".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        std::fs::File::from_raw_fd(fd)
    }
}

fn note(journal: &mut Journal, fill: impl FnOnce(&mut Entry)) {
    let entry = journal.open(1_000, 1_795_168_800_123_456_789);
    // SAFETY: just made, and given back below.
    unsafe {
        fill(&mut *entry);
        journal.close(entry);
    }
}

fn backend() -> Option<Place> {
    let mut ip = [0; 16];
    ip[..4].copy_from_slice(&[10, 0, 0, 7]);
    Some(Place {
        ip,
        port: 8080,
        family: 4,
    })
}

#[test]
fn a_line_says_what_was_noted() {
    let (mut reader, mut journal, _fd) = journal();
    note(&mut journal, |entry| {
        entry.trace(Context {
            trace_id: [0xab; 16],
            span_id: [1; 8],
            parent_id: [2; 8],
            sampled: true,
            ..Context::default()
        });
        entry.set(bit::PARSED | bit::SECURE | bit::HAS_QUERY);
        entry.set_version(1);
        entry.put(Text::RequestId, b"id-1", 128);
        entry.put(Text::Path, b"/a", 10);
        entry.put(Text::Query, b"x=1&sig=2", 100);
        entry.route(true);
        entry.put(Text::RouteName, b"shop", 100);
        entry.attempt_begins(2_000, b"one", backend());
        entry.attempt_ends(3_000_000, 0, Some(Flag::ConnectFailed));
        entry.attempt_begins(3_000_000, b"two", None);
        entry.attempt_answered(5_000_000, 4_000_000, 200);
        entry.attempt_ends(6_000_000, 4_000_000, None);
        entry.flag(Some(Flag::FailedOver));
        entry.end(7_001_000, 200, 9, NEVER, (5, 6));
    });
    let (lines, found) = drained(&mut reader);
    assert_eq!((found.records, found.sampled, found.corrupt), (1, 1, 0));
    let expected = serde_json::json!({
        "time": "2026-11-20T10:00:00.123456Z",
        "traceId": "ab".repeat(16), "spanId": "01".repeat(8),
        "requestId": "id-1", "client": null, "method": null, "scheme": "https", "host": null,
        "path": "/a", "query": "x=1&sig=***", "protocol": "HTTP/1.1", "status": 200, "flags": ["RFO"],
        "route": "shop", "routeId": null, "version": null, "arm": "canary", "generation": 9,
        "backend": "two", "address": null, "attempts": 2,
        "failedAttempts": [{"backend": "one", "address": "10.0.0.7:8080", "status": null, "flag": "UF",
                            "durationMs": 2.998}],
        "bytesIn": 5, "bytesOut": 6, "durationMs": 7.0, "upstreamMs": 1.0, "overheadMs": null,
        "userAgent": null,
    });
    assert_eq!(lines, [expected]);
}

/// A busy worker's records do not keep the reader from another's, whose ring would be full meanwhile.
#[test]
fn lanes_have_their_turns() {
    let (mut reader, fd) = Reader::create(3, 1 << 20, Redaction::default()).unwrap();
    let rings = Arc::new(Rings::attach(fd.as_raw_fd()).unwrap());
    let put = |lane: usize, count: usize| {
        let mut producer = Producer::take(rings.clone(), lane).unwrap();
        (0..count).for_each(|_| assert!(producer.put(&[&[lane as u8; 1000]])));
    };
    put(0, 1000);
    put(2, 10);
    let found = reader.drain(None, 200, |_| {});
    assert!(found.more && found.records < 300);
    let mut left = [0; 3];
    for (lane, left) in left.iter_mut().enumerate() {
        take(&rings, lane, &mut |_| *left += 1);
    }
    assert_eq!(left[2], 0);
    assert!(left[0] > 0);
    assert!(!reader.drain(None, u64::MAX, |_| {}).more);
}

#[test]
fn attempts_beyond_the_most_keep_the_last_one() {
    let (mut reader, mut journal, _fd) = journal();
    note(&mut journal, |entry| {
        for number in 0..12u8 {
            entry.attempt_begins(2_000, &[b'a' + number], None);
            entry.attempt_ends(3_000, 0, None);
        }
        entry.end(4_000, 200, 1, NEVER, (0, 0));
    });
    let (lines, _) = drained(&mut reader);
    assert_eq!(lines[0]["attempts"], 12);
    assert_eq!(lines[0]["backend"], "l");
    assert_eq!(lines[0]["failedAttempts"].as_array().unwrap().len(), 7);
}

#[test]
fn the_uneventful_are_sampled_and_the_others_are_not() {
    let (mut reader, fd) = Reader::create(1, 1 << 20, Redaction::default()).unwrap();
    let options = Options {
        access_log: true,
        access_log_sample: _core::journal::share(0.25),
        ..Options::default()
    };
    let mut journal = Journal::attach(fd.as_raw_fd(), 0, options, 5).unwrap();
    for _ in 0..1000 {
        note(&mut journal, |entry| {
            entry.end(2_000, 200, 1, NEVER, (0, 0))
        });
    }
    let few = drained(&mut reader).0.len();
    assert!((180..320).contains(&few), "{few}");
    for _ in 0..100 {
        note(&mut journal, |entry| {
            entry.end(2_000, 404, 1, NEVER, (0, 0))
        });
        note(&mut journal, |entry| {
            entry.flag(Some(Flag::Retried));
            entry.end(2_000, 200, 1, NEVER, (0, 0));
        });
    }
    assert_eq!(drained(&mut reader).0.len(), 200);
}

#[test]
fn a_full_ring_drops_and_counts_and_goes_on() {
    let (mut reader, mut journal, _fd) = journal();
    let total = 2000;
    for _ in 0..total {
        note(&mut journal, |entry| {
            entry.end(2_000, 200, 1, NEVER, (0, 0))
        });
    }
    let (lines, found) = drained(&mut reader);
    assert!(found.dropped > 0 && !lines.is_empty());
    assert_eq!(lines.len() as u64 + found.dropped, total);
    note(&mut journal, |entry| {
        entry.end(2_000, 200, 1, NEVER, (0, 0))
    });
    let (lines, found) = drained(&mut reader);
    assert_eq!((lines.len(), found.dropped, found.corrupt), (1, 0, 0));
}

#[test]
fn what_is_no_record_is_skipped_and_counted() {
    let (mut reader, fd) = Reader::create(1, RING, Redaction::default()).unwrap();
    let rings = Arc::new(Rings::attach(fd.as_raw_fd()).unwrap());
    let mut producer = Producer::take(rings, 0).unwrap();
    assert!(producer.put(&[b"no record"]));
    let mut journal = Journal::attach(
        fd.as_raw_fd(),
        0,
        Options {
            access_log: true,
            access_log_sample: 1 << 32,
            ..Options::default()
        },
        1,
    )
    .unwrap();
    note(&mut journal, |entry| {
        entry.end(2_000, 200, 1, NEVER, (0, 0))
    });
    let (lines, found) = drained(&mut reader);
    assert_eq!((lines.len(), found.records, found.corrupt), (1, 2, 1));
}

/// Scribble over everything in the file: the reader survives, and a new writer gets the lane going again.
#[test]
fn nothing_that_stands_in_the_memory_harms_the_reader() {
    use std::os::unix::fs::FileExt;
    let (mut reader, fd) = Reader::create(1, RING, Redaction::default()).unwrap();
    let file = std::fs::File::from(fd.try_clone().unwrap());
    let len = file.metadata().unwrap().len();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let noise: Vec<u8> = (0..len - 4096)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        file.write_all_at(&noise, 4096).unwrap();
        if round % 2 == 0 {
            let at = 8 * (random % 4096);
            file.write_all_at(&at.to_le_bytes(), 4096).unwrap(); // a head that could be
            file.write_all_at(&0u64.to_le_bytes(), 4096 + 128).unwrap();
        }
        reader.drain(None, u64::MAX, |_| {});
        let options = Options {
            access_log: true,
            access_log_sample: 1 << 32,
            ..Options::default()
        };
        let mut journal = Journal::attach(fd.as_raw_fd(), 0, options, 1).unwrap();
        reader.drain(None, u64::MAX, |_| {});
        note(&mut journal, |entry| {
            entry.end(2_000, 200, 1, NEVER, (0, 0))
        });
        assert_eq!(drained(&mut reader).0.len(), 1, "round {round}");
    }
}

/// What JSON makes of bytes: each part that is no UTF-8 is one U+FFFD.
fn as_text(bytes: &[u8]) -> serde_json::Value {
    match bytes {
        b"" => serde_json::Value::Null,
        bytes => String::from_utf8_lossy(bytes).into(),
    }
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        Just(b"\"\\\n\r\t\0\x7f\x1b[31m".to_vec()),
        any::<char>().prop_map(|c| c.to_string().into_bytes()),
        "[a-z=&;%.]{1,8}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_line_is_one_line_of_json_whatever_it_tells_of(
        texts in prop::collection::vec(hostile(), 6),
        numbers in prop::array::uniform4(any::<u64>()),
        status in any::<u16>(),
        flags in any::<u64>(),
    ) {
        let (mut reader, mut journal, _fd) = journal();
        let kinds = [Text::Method, Text::Host, Text::Path, Text::UserAgent, Text::RouteName, Text::Client];
        note(&mut journal, |entry| {
            for (kind, text) in kinds.iter().zip(&texts) {
                entry.put(*kind, text, 10_000);
            }
            entry.flags.0 = flags;
            entry.attempt_begins(numbers[0], &texts[0], backend());
            entry.attempt_begins(numbers[1], &texts[1], None);
            entry.fixed_for_tests().started_unix_ns = numbers[2];
            entry.end(numbers[3], status, numbers[1], numbers[0], (numbers[2], numbers[3]));
        });
        let (lines, _) = drained(&mut reader);
        prop_assert_eq!(lines.len(), 1);
        for (key, text) in ["method", "host", "path", "userAgent", "route", "client"].iter().zip(&texts) {
            prop_assert_eq!(&lines[0][*key], &as_text(text));
        }
        prop_assert_eq!(&lines[0]["bytesIn"], numbers[2]);
    }

    #[test]
    fn a_query_never_shows_what_is_hidden(query in hostile(), secret in "[A-Z]{12}") {
        let mut hidden = query.clone();
        hidden.extend_from_slice(b"&to%6Ben=");
        hidden.extend_from_slice(secret.as_bytes());
        let (mut reader, mut journal, _fd) = journal();
        note(&mut journal, |entry| {
            entry.set(bit::HAS_QUERY);
            entry.put(Text::Query, &hidden, 4096);
            entry.end(0, 200, 1, NEVER, (0, 0));
        });
        let (lines, _) = drained(&mut reader);
        let shown = lines[0]["query"].as_str().unwrap();
        prop_assert!(shown.ends_with("&to%6Ben=***"), "{}", shown);
        prop_assert!(!shown.contains(&secret));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), spans in any::<bool>()) {
        let mut bytes = bytes;
        if spans && bytes.len() > 168 {
            bytes[112..168].fill(0); // spans that fit, so that more is reached
        }
        if let Some(record) = Record::read(&bytes) {
            Lines::new(Redaction::default()).write(&mut Vec::new(), &record);
            prop_assert!(record.attempts().count() <= 8);
        }
    }
}
