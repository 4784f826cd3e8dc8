//! One TLS connection: ciphertext in, plaintext and ciphertext out. rustls is driven by its unbuffered
//! interface, so that an idle connection owns no buffers.

use super::{Buffers, Outgoing, INCOMING};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

/// Left-overs beyond this are no part of any message that rustls would take.
const MAX_PENDING: usize = 96 * 1024;
/// The most plaintext in one record (RFC 8446 section 5.1).
const RECORD: usize = 16 * 1024;
const HANDSHAKE_ROOM: usize = 4 * 1024;

/// What became of received bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes of plaintext written.
    pub plain: usize,
    /// The handshake is complete.
    pub ready: bool,
    /// The peer said close_notify: nothing more will come.
    pub closed: bool,
    /// The connection is of no more use; what is to be sent holds the alert that says why.
    pub failed: bool,
    /// The first bytes are not TLS but letters, as a plain HTTP request begins.
    pub plain_http: bool,
    /// There was plaintext, and nobody wanted any.
    pub unexpected: bool,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

pub struct Connection {
    side: Box<Side>,
    /// The beginning of a record or of a handshake message.
    pending: Vec<u8>,
    fresh: bool,
    ready: bool,
    closed: bool,
    failed: bool,
}

/// The part that both of rustls' connections have, under one name.
trait Machine {
    type Data;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Machine for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

impl Machine for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

/// Where plaintext goes, if it is wanted.
struct Plain<'a> {
    into: Option<&'a mut [u8]>,
    step: Step,
}

impl Plain<'_> {
    fn take(&mut self, payload: &[u8]) -> bool {
        let Some(into) = &mut self.into else {
            self.step.unexpected |= !payload.is_empty();
            return true;
        };
        let end = self.step.plain + payload.len();
        let Some(place) = into.get_mut(self.step.plain..end) else {
            return false;
        };
        place.copy_from_slice(payload);
        self.step.plain = end;
        true
    }
}

impl Connection {
    pub(super) fn server(connection: UnbufferedServerConnection) -> Self {
        Self::new(Side::Server(connection))
    }

    pub(super) fn client(connection: UnbufferedClientConnection) -> Self {
        Self::new(Side::Client(connection))
    }

    fn new(side: Side) -> Self {
        Self {
            side: Box::new(side),
            pending: Vec::new(),
            fresh: true,
            ready: false,
            closed: false,
            failed: false,
        }
    }

    pub(super) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Take `len` bytes that were received into [`Buffers::room`]. Plaintext goes to `plain`; with None
    /// any is unexpected. What is to be sent is in `buffers.outgoing` afterwards, also after a failure.
    pub fn read(&mut self, buffers: &mut Buffers, len: usize, plain: Option<&mut [u8]>) -> Step {
        buffers.outgoing.clear();
        let mut plain = Plain {
            into: plain,
            step: Step::default(),
        };
        let total = self.pending.len() + len;
        if self.failed || total > INCOMING {
            self.failed = true;
        } else if let Some(input) = buffers.incoming.get_mut(..total) {
            let is_server = matches!(*self.side, Side::Server(_));
            if is_server && self.fresh && input.first().is_some_and(u8::is_ascii_alphabetic) {
                self.failed = true;
                plain.step.plain_http = true;
            } else {
                self.fresh &= input.is_empty();
                self.process(input, &mut plain, &mut buffers.outgoing);
            }
        }
        Step {
            ready: self.ready,
            closed: self.closed,
            failed: self.failed,
            ..plain.step
        }
    }

    fn process(&mut self, input: &mut [u8], plain: &mut Plain<'_>, out: &mut Outgoing) {
        let done = match &mut *self.side {
            Side::Server(machine) => drive(machine, input, plain, out),
            Side::Client(machine) => drive(machine, input, plain, out),
        };
        self.ready |= done.ready;
        self.closed |= done.closed;
        self.failed |= done.failed;
        let rest = input.get(done.used..).unwrap_or_default();
        if self.failed || self.closed || rest.is_empty() {
            self.pending = Vec::new();
        } else if rest.len() > MAX_PENDING {
            self.failed = true;
        } else {
            self.pending = rest.to_vec();
        }
    }

    /// Encrypt `a` and `b` into `buffers.outgoing`; false when the connection can send no more.
    #[must_use]
    pub fn write(&mut self, buffers: &mut Buffers, a: &[u8], b: &[u8]) -> bool {
        let out = &mut buffers.outgoing;
        out.clear();
        if a.is_empty() || b.is_empty() || a.len() + b.len() > RECORD {
            return self.send(out, |traffic, out| {
                encrypt(traffic, a, out) && encrypt(traffic, b, out)
            });
        }
        let joined = &mut buffers.joined;
        joined.clear();
        joined.extend_from_slice(a);
        joined.extend_from_slice(b);
        self.send(out, |traffic, out| encrypt(traffic, joined, out))
    }

    /// Say that nothing more will be sent.
    pub fn close(&mut self, buffers: &mut Buffers) {
        buffers.outgoing.clear();
        // Without a handshake, or after a failure, there is nothing to be said.
        let _ = self.send(&mut buffers.outgoing, |traffic, out| traffic.close(out));
    }

    fn send(
        &mut self,
        out: &mut Outgoing,
        action: impl FnOnce(&mut dyn Traffic, &mut Outgoing) -> bool,
    ) -> bool {
        if self.failed || !self.ready {
            return false;
        }
        let (sent, used) = match &mut *self.side {
            Side::Server(machine) => with_traffic(machine, &mut self.pending, out, action),
            Side::Client(machine) => with_traffic(machine, &mut self.pending, out, action),
        };
        if used > 0 {
            self.pending.drain(..used.min(self.pending.len()));
        }
        sent
    }
}

/// What [`drive`] came to.
#[derive(Default)]
struct Done {
    used: usize,
    ready: bool,
    closed: bool,
    failed: bool,
}

/// Process all that is complete in `input`.
fn drive<M: Machine>(
    machine: &mut M,
    input: &mut [u8],
    plain: &mut Plain<'_>,
    out: &mut Outgoing,
) -> Done {
    let mut done = Done::default();
    loop {
        let Some(rest) = input.get_mut(done.used..) else {
            done.failed = true;
            return done;
        };
        let status = machine.process(rest);
        let mut discard = status.discard;
        let mut more = true;
        match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) if plain.take(record.payload) => discard += record.discard,
                        _ => {
                            done.failed = true;
                            more = false;
                            break;
                        }
                    }
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if !encode(&mut data, out) {
                    done.failed = true;
                    more = false;
                }
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => done.closed = true,
            Ok(ConnectionState::WriteTraffic(_)) => {
                done.ready = true;
                more = false;
            }
            Ok(ConnectionState::BlockedHandshake) => more = false,
            Ok(ConnectionState::Closed) => {
                done.closed = true;
                more = false;
            }
            // Early data is not accepted, and there are no other states.
            Ok(_) => {
                done.failed = true;
                more = false;
            }
            // Once more, for the alert that it may have left to be sent.
            Err(_) => {
                more = !done.failed;
                done.failed = true;
            }
        }
        done.used += discard;
        if !more {
            return done;
        }
    }
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, out: &mut Outgoing) -> bool {
    let mut size = HANDSHAKE_ROOM;
    loop {
        match data.encode(out.spare(size)) {
            Ok(written) => {
                out.used += written;
                return true;
            }
            Err(EncodeError::InsufficientSize(error)) if error.required_size > size => {
                size = error.required_size;
            }
            Err(_) => return false,
        }
    }
}

/// Bring the machine to where data can be sent, and send. Also returns how much of `pending` was used.
fn with_traffic<M: Machine>(
    machine: &mut M,
    pending: &mut [u8],
    out: &mut Outgoing,
    action: impl FnOnce(&mut dyn Traffic, &mut Outgoing) -> bool,
) -> (bool, usize) {
    let mut used = 0;
    loop {
        // What is pending must be there: rustls remembers which parts of it are which.
        let Some(rest) = pending.get_mut(used..) else {
            return (false, used);
        };
        let status = machine.process(rest);
        used += status.discard;
        match status.state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                return (action(&mut traffic, out), used);
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                if !encode(&mut data, out) {
                    return (false, used);
                }
            }
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => {}
            _ => return (false, used),
        }
    }
}

/// A machine that may send.
trait Traffic {
    fn encrypt(&mut self, data: &[u8], into: &mut [u8]) -> Result<usize, EncryptError>;
    fn close(&mut self, out: &mut Outgoing) -> bool;
}

impl<D> Traffic for WriteTraffic<'_, D> {
    fn encrypt(&mut self, data: &[u8], into: &mut [u8]) -> Result<usize, EncryptError> {
        self.encrypt(data, into)
    }

    fn close(&mut self, out: &mut Outgoing) -> bool {
        match self.queue_close_notify(out.spare(HANDSHAKE_ROOM)) {
            Ok(written) => {
                out.used += written;
                true
            }
            Err(_) => false,
        }
    }
}

fn encrypt(traffic: &mut dyn Traffic, data: &[u8], out: &mut Outgoing) -> bool {
    if data.is_empty() {
        return true;
    }
    // Header, content type, tag and, in TLS 1.2, a nonce; with some room for what waits to be sent.
    let mut size = data.len() + (data.len() / RECORD + 1) * 64 + 256;
    loop {
        match traffic.encrypt(data, out.spare(size)) {
            Ok(written) => {
                out.used += written;
                return true;
            }
            Err(EncryptError::InsufficientSize(error)) if error.required_size > size => {
                size = error.required_size;
            }
            Err(_) => return false,
        }
    }
}
