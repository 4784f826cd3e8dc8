# Requests whose body is read whole, up to a bound, before the core decides what becomes of them.

cdef bytes CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


cdef void collect_begin(Client c, const uint8_t *head, bint more) noexcept:
    """`more`: bytes behind the head have come with it."""
    cdef Exchange *x = c.x
    x.request_left = x.core.request_length
    x.request_open = x.core.request_framing == HS_BODY_CHUNKED or x.request_left > 0
    x.due = c.reactor.now + ticks(x.core.timeout_ms)
    if not exchange_keep_origin(x, head, x.core.head_len):
        c.close()
    elif not c.enter(C_COLLECT):
        return
    elif not x.request_open:
        collect_complete(c)
    # It is the gateway that wants the body now (RFC 9110 section 10.1.1).
    elif x.core.expect_continue and not more and not c.send(CONTINUE, len(CONTINUE)):
        c.close()
    else:
        attempt_wait(c, c.server.body_timeout_ms)


cdef size_t collect_body(Client c, const uint8_t *p, size_t n) noexcept:
    cdef Exchange *x = c.x
    cdef size_t take, data
    cdef int result
    cdef hs_out out
    if x.core.request_framing == HS_BODY_LENGTH:
        take = data = <size_t>min(<uint64_t>n, x.request_left)
        out.ptr = <uint8_t *>p
        out.len = take
        x.request_left -= take
        x.request_open = x.request_left > 0
    else:
        result = api.chunked(c.server.worker, &x.request_chunks, p, n, HS_PLAIN, &take, &data, &out)
        if result < 0:
            c.refuse(HS_WHY_BAD_REQUEST_BODY)
            return take
        if x.request_bytes + data > x.core.collect:
            c.refuse(HS_WHY_REQUEST_TOO_LARGE)  # what is left of it is not read: the connection closes
            return take
        x.request_open = result == 0
    x.request_bytes += data
    if out.len and not buffer_append(&x.body, out.ptr, out.len):
        c.close()
    elif x.request_open and edge_too_slow(c, x.request_bytes, c.server.body_timeout_ms):
        c.refuse(HS_WHY_REQUEST_TIMEOUT)
    elif x.request_open:
        attempt_wait(c, c.server.body_timeout_ms)
    else:
        collect_complete(c)
    return take


cdef void collect_complete(Client c) noexcept:
    cdef Exchange *x = c.x
    cdef hs_out out
    cdef int result
    if c.server.draining:  # since the head came
        x.core.client_keep_alive = False
    result = api.collected(c.server.worker, &x.core, &c.peer, net_now_ns(), x.origin, x.origin_len,
                           buffer_ptr(&x.body), buffer_len(&x.body), &out)
    if result == HS_REPLY:
        c.answered(&out)
    elif result == HS_CALL:
        call_begin(c, &out)
    elif result == HS_FORWARD and exchange_keep_head(x, out.ptr, out.len):
        attempt_begin(c)
    else:
        c.close()
