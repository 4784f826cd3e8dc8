//! Both sides in one process: what one sends is what the other gets. Certificates are made by the tests of
//! the data plane; here only what needs none.

use super::*;
use rustls::pki_types::ServerName;

fn client() -> Connection {
    let settings = ClientSettings::default();
    let config = Arc::new(settings.config().unwrap());
    let name = ServerName::try_from("a.example").unwrap();
    Connection::client(rustls::client::UnbufferedClientConnection::new(config, name).unwrap())
}

fn feed(connection: &mut Connection, buffers: &mut Buffers, bytes: &[u8]) -> Step {
    buffers.room(connection)[..bytes.len()].copy_from_slice(bytes);
    let mut plain = vec![0; INCOMING];
    connection.read(buffers, bytes.len(), Some(&mut plain))
}

#[test]
fn a_client_begins_and_can_send_nothing_before_the_handshake() {
    let (mut connection, mut buffers) = (client(), Buffers::default());
    let step = feed(&mut connection, &mut buffers, b"");
    assert_eq!(step, Step::default());
    assert_eq!(buffers.outgoing.filled()[0], 0x16);
    assert!(!connection.write(&mut buffers, b"GET", b" /"));
    assert!(buffers.outgoing.filled().is_empty());
    connection.close(&mut buffers);
    assert!(buffers.outgoing.filled().is_empty());
}

#[test]
fn noise_fails_with_an_alert_and_stays_failed() {
    let (mut connection, mut buffers) = (client(), Buffers::default());
    feed(&mut connection, &mut buffers, b"");
    let step = feed(
        &mut connection,
        &mut buffers,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    );
    assert!(step.failed && !step.plain_http);
    assert_eq!(buffers.outgoing.filled()[0], 0x15);
    assert!(feed(&mut connection, &mut buffers, b"more").failed);
}

#[test]
fn the_beginning_of_a_record_waits_for_the_rest() {
    let (mut connection, mut buffers) = (client(), Buffers::default());
    feed(&mut connection, &mut buffers, b"");
    let begun = [0x16, 3, 3, 0x40, 0];
    assert!(!feed(&mut connection, &mut buffers, &begun).failed);
    assert_eq!(connection.pending(), begun);
    assert_eq!(buffers.room(&connection).len(), INCOMING - begun.len());
}

#[test]
fn settings_have_numbers_of_their_own() {
    let plain = ClientSettings {
        verify: true,
        ..Default::default()
    };
    let mut all = vec![
        plain.digest(),
        ClientSettings {
            verify: false,
            ..plain
        }
        .digest(),
        ClientSettings {
            ca: Some(""),
            ..plain
        }
        .digest(),
        ClientSettings {
            certificate: Some(""),
            ..plain
        }
        .digest(),
        client::named_digest(plain.digest(), "a"),
        client::named_digest(plain.digest(), "b"),
    ];
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 6);
}
