# The way back: what a backend sends becomes the client's answer.

cdef enum:
    INTERIMS = 100  # answers of status 1xx to one request; a backend that sends more is not about to answer


cdef void response_received(Client c, ssize_t got) noexcept:
    """`got` bytes from the backend stand in the reactor's buffer, with HEADROOM writable bytes before them."""
    cdef Upstream up = c.upstream
    cdef uint8_t *p = c.reactor.input
    cdef size_t n = got
    cdef size_t used
    cdef bint room = True
    cdef bytes canonical
    cdef Buffer head
    if up.codec is not None and c.state != C_TUNNEL:
        canonical = c.server.run_codec(up.codec, p, n)
        if canonical is None:
            response_malformed(c)
            return
        p = canonical
        n = len(canonical)
        room = False
    if up.inb.data == NULL:
        used = response_consume(c, p, n, room)
        if c.upstream is up and used < n and not buffer_append(&up.inb, p + used, n - used):
            attempt_lost(c)
        return
    if not buffer_append(&up.inb, p, n):
        attempt_lost(c)
        return
    # Taken out: when the answer is whole, the connection goes on to another client and must not bring it along.
    head = up.inb
    memset(&up.inb, 0, sizeof(Buffer))
    used = response_consume(c, buffer_ptr(&head), buffer_len(&head), False)
    if c.upstream is up and used < buffer_len(&head):
        buffer_consume(&head, used)
        up.inb = head
    else:
        buffer_clear(&head)


cdef void response_malformed(Client c) noexcept:
    c.x.core.failed = True
    c.refuse(HS_WHY_BAD_RESPONSE)


cdef size_t response_consume(Client c, uint8_t *p, size_t n, bint room) noexcept:
    """Returns how much of the input is dealt with: all of it, but for the beginning of a head."""
    cdef hs_out out
    cdef size_t used = 0
    cdef int result
    cdef Exchange *x = c.x
    while c.state == C_SENT:
        if c.server.draining:
            x.core.client_keep_alive = False  # said in the head: who has not read it yet sends nothing into a closing door
        x.core.resend = x.replayable and not x.request_open
        result = api.respond(c.server.worker, &x.core, net_now_ns(), not x.request_open, p + used, n - used, &out)
        if result == HS_MORE:
            x.core.seen = n - used
            c.progress()
            return used
        if result == HS_BAD:
            response_malformed(c)
            return n
        used += x.core.head_len
        x.core.seen = 0
        if result == HS_RETRY:
            attempt_retry(c, response_drained(c, n - used))
            return n
        if result == HS_INTERIM:
            x.core.expect_continue = False
            x.interims += 1
            if x.interims > INTERIMS:
                response_malformed(c)
                return n
            if out.len:
                x.replayable = False  # the client has seen something of this attempt
            if out.len and not c.send(out.ptr, out.len):
                c.close()
                return n
            c.progress()
        elif result == HS_SWITCH:
            response_switch(c, &out, p + used, n - used)
            return n
        elif result == HS_CAPTURE:
            capture_begin(c, &out, p + used, n - used)
            return n
        else:
            x.response_left = x.core.response_length
            response_body(c, &out, p + used, n - used, room)
            return n
    if c.state == C_STREAMING:
        out.len = 0
        response_body(c, &out, p + used, n - used, room)
    elif c.state == C_CAPTURE:
        capture_body(c, p + used, n - used)
    elif c.state == C_TUNNEL:
        c.due_in(c.server.stream_idle_ms)
        x.response_bytes += n - used
        if not c.send(p + used, n - used):
            c.close()
    return n


cdef bint response_drained(Client c, size_t n) noexcept:
    """Whether the `n` bytes after a head that is held back are its whole answer, and the connection is clean."""
    cdef hs_exchange *ex = &c.x.core
    if not ex.upstream_keep_alive or c.upstream.blocked():
        return False
    if ex.response_framing == HS_BODY_LENGTH:
        return n == ex.response_length
    return ex.response_framing == HS_BODY_NONE and n == 0


cdef void response_switch(Client c, hs_out *head, const uint8_t *p, size_t n) noexcept:
    """101: from here on the connection is opaque (RFC 9110 section 7.8)."""
    if not c.enter(C_TUNNEL):
        return
    c.x.core.client_keep_alive = False
    c.x.request_open = False
    c.x.response_bytes += n
    c.due_in(c.server.stream_idle_ms)
    if not c.send2(head.ptr, head.len, p, n):
        c.close()
    elif c.inb.data != NULL or c.eof_seen or c.passing:
        c.reactor.defer(c)


cdef void response_body(Client c, hs_out *head, uint8_t *p, size_t n, bint room) noexcept:
    """Send `head` (may be empty) and what `p` holds of the body."""
    cdef Exchange *x = c.x
    cdef size_t take = n
    cdef size_t data = n
    cdef bint done = False
    cdef bint sent
    cdef int result
    cdef hs_out coded
    if x.core.response_framing == HS_BODY_CHUNKED:
        result = api.chunked(c.server.worker, &x.response_chunks, p, n, x.core.client_framing != HS_BODY_CHUNKED,
                             &take, &data, &coded)
        if result < 0:
            response_malformed(c)
            return
        done = result == 1
    elif x.core.response_framing != HS_BODY_CLOSE:
        take = data = <size_t>min(<uint64_t>n, x.response_left)
        x.response_left -= take
        done = x.response_left == 0
    x.response_bytes += data
    if x.response_bytes > x.core.max_response_body:
        x.core.failed = True
        c.refuse(HS_WHY_RESPONSE_TOO_LARGE)
        return
    if c.state == C_SENT and not c.enter(C_STREAMING):  # not before the first bytes have proved sound
        return
    if x.core.response_framing == HS_BODY_CHUNKED:
        sent = c.send2(head.ptr, head.len, coded.ptr, coded.len) if head.len + coded.len else True
    elif x.core.response_framing == HS_BODY_CLOSE:
        sent = response_send_undelimited(c, head, p, n, room)
    else:
        sent = response_send(c, head, p, take, room)
    if not sent:
        c.close()
    elif done:
        response_complete(c, take == n and x.core.upstream_keep_alive)
    else:
        c.progress()


cdef bint response_send(Client c, hs_out *head, uint8_t *p, size_t n, bint room) noexcept:
    if head.len == 0:
        return c.send(p, n) if n else True
    if not room or n == 0 or head.len > <size_t>(p - c.reactor.storage):
        return c.send2(head.ptr, head.len, p, n)
    # The head goes right in front of the body it belongs to: one write, and the smaller of the two is copied.
    memcpy(p - head.len, head.ptr, head.len)
    return c.send(p - head.len, head.len + n)


cdef bint response_send_undelimited(Client c, hs_out *head, uint8_t *p, size_t n, bint room) noexcept:
    """A body that ends with the connection: a chunk for a client that knows chunks, else as it is."""
    cdef char line[20]
    cdef int k
    if n == 0 or c.x.core.client_framing != HS_BODY_CHUNKED:
        return response_send(c, head, p, n, room)
    k = snprintf(line, sizeof(line), "%zx\r\n", n)
    if head.len and not c.send(head.ptr, head.len):
        return False
    return c.send(<const uint8_t *>line, k) and c.send2(p, n, <const uint8_t *>b"\r\n", 2)


cdef void response_complete(Client c, bint reusable) noexcept:
    """The answer is whole: the backend's connection is free, the client's when it has taken everything."""
    response_release(c, reusable)
    if not c.blocked():
        c.exchange_done()
    elif c.enter(C_FLUSHING):
        c.due_in(c.server.write_timeout_ms)


cdef void response_release(Client c, bint reusable) noexcept:
    cdef Upstream up = c.upstream
    c.upstream = None
    if reusable and not c.x.request_open and not up.blocked():
        up.pool.put(up)
    else:
        up.client = None
        up.pool.release(up)


cdef void response_ended(Client c) noexcept:
    """The backend closed its connection."""
    cdef Exchange *x = c.x
    if c.state == C_TUNNEL:
        response_complete(c, False)
    elif c.state == C_STREAMING and x.core.response_framing == HS_BODY_CLOSE and not c.upstream.truncated:
        if x.core.client_framing == HS_BODY_CHUNKED and not c.send(<const uint8_t *>b"0\r\n\r\n", 5):
            c.close()
        else:
            response_complete(c, False)
    elif c.state == C_CAPTURE and x.core.response_framing == HS_BODY_CLOSE and not c.upstream.truncated:
        capture_complete(c, False)
    else:
        attempt_lost(c)
