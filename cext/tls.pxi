# TLS under a Stream: what `receive` and `send` do where the stream has a TLS connection. All that can be decrypted is
# delivered at once, so that nothing readable is ever left where no event would tell of it.

cdef enum:
    ROUNDS_TLS = 8    # reads without a byte of plaintext (handshake, tickets) before others get their turn


cdef ssize_t tls_receive(Stream s) noexcept:
    """As `Stream.receive`. An end without close_notify is one too, but sets `truncated` (RFC 9112 section 9.8)."""
    cdef hs_worker *worker = s.reactor.worker
    cdef hs_out room, out
    cdef ssize_t n
    cdef size_t plain
    cdef int round
    if s.tls_state & HS_TLS_CLOSED:
        return 0
    for round in range(ROUNDS_TLS):
        api.tls_room(worker, s.tls, &room)
        n = net_recv(s.fd, room.ptr, room.len, 0)
        if n < 0:
            if errno != EAGAIN:
                return -2
            s.readable = False
            return -1
        if n == 0:
            s.eof_seen = True
            s.truncated = True
            return 0
        if <size_t>n < room.len and not s.eof_seen:
            s.readable = False
        plain = READ_SIZE
        s.tls_state = api.tls_read(worker, s.tls, n, s.reactor.input, &plain, &out)
        if s.tls_state & HS_TLS_FAILED:
            tls_say(s, &out)
            return -2
        if out.len and not s.send_bytes(out.ptr, out.len):
            return -2
        if s.tls_state & HS_TLS_CLOSED:
            s.eof_seen = True
            s.readable = True  # the end is found by the next read, which no event announces
            return plain
        if plain:
            return plain
        if not s.readable:
            return -1
    s.reactor.defer(s)
    return -1


cdef bint tls_quiet(Stream s) noexcept:
    """As `net_quiet`. Session tickets come when they like (RFC 8446 section 4.6.1): they are no noise."""
    cdef hs_worker *worker = s.reactor.worker
    cdef hs_out room, out
    cdef ssize_t n
    cdef size_t plain = 0
    cdef int round
    if s.tls_state & HS_TLS_CLOSED:
        return False
    for round in range(ROUNDS_TLS):
        api.tls_room(worker, s.tls, &room)
        n = net_recv(s.fd, room.ptr, room.len, 0)
        if n < 0:
            return errno == EAGAIN
        if n == 0:
            return False
        # Without a place for plaintext: the shared buffer may hold the request that looks for a connection.
        s.tls_state = api.tls_read(worker, s.tls, n, NULL, &plain, &out)
        if s.tls_state & (HS_TLS_FAILED | HS_TLS_CLOSED | HS_TLS_UNEXPECTED):
            return False
        if out.len and not s.send_bytes(out.ptr, out.len):
            return False
        if <size_t>n < room.len:
            return True
    return False


cdef bint tls_send(Stream s, const uint8_t *a, size_t an, const uint8_t *b, size_t bn) noexcept:
    cdef hs_out out
    if not api.tls_write(s.reactor.worker, s.tls, a, an, b, bn, &out):
        return False
    return s.send_bytes(out.ptr, out.len)


cdef bint tls_begin(Stream s) noexcept:
    """Send the first words of a handshake that is ours to begin."""
    cdef hs_out out
    cdef size_t plain = 0
    api.tls_room(s.reactor.worker, s.tls, &out)
    s.tls_state = api.tls_read(s.reactor.worker, s.tls, 0, NULL, &plain, &out)
    return not s.tls_state & HS_TLS_FAILED and s.send_bytes(out.ptr, out.len)


cdef void tls_end(Stream s) noexcept:
    """Say close_notify: all that was sent is all there is. Once, and only where that is true."""
    cdef hs_out out
    if s.tls != NULL and not s.tls_state & HS_TLS_FAILED:
        api.tls_close(s.reactor.worker, s.tls, &out)
        tls_say(s, &out)


cdef void tls_say(Stream s, hs_out *alert) noexcept:
    """A last word: it is lost if the socket does not take it."""
    if alert.len and s.out.data == NULL and s.fd >= 0:
        net_send(s.fd, alert.ptr, alert.len)


cdef void tls_drop(Stream s) noexcept:
    if s.tls != NULL:
        api.tls_free(s.tls)
        s.tls = NULL
