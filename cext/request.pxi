# The way there: what a client sends becomes the backend's request. Each function returns how many bytes it took.

cdef bytes REFUSED = b"\0\r\n\r\n"  # in place of what the codec refused; the core refuses it as well


cdef size_t request_head(Client c, const uint8_t *p, size_t n) noexcept:
    cdef hs_out out
    cdef int result
    cdef size_t used
    cdef Exchange *x = exchange_new()
    if x == NULL:
        c.close()
        return 0
    x.core.seen = c.head_seen
    x.core.draining = c.server.draining
    result = api.begin(c.server.worker, &x.core, &c.peer, net_now_ns(), p, n, &out)
    if result == HS_MORE:
        exchange_free(x)
        c.head_seen = n
        if c.state == C_IDLE:
            c.head_begins()
        return 0
    c.x = x
    c.head_seen = 0
    x.core.seen = 0
    used = x.core.head_len
    if result == HS_REPLY:
        c.answered(&out)
        return used
    if result == HS_COLLECT:
        collect_begin(c, p, n > used)
        return used
    if result != HS_FORWARD:  # the core failed
        x.core.why = 1 + HS_WHY_INTERNAL
        c.close()
        return 0
    x.request_left = x.core.request_length
    x.request_open = x.core.request_framing == HS_BODY_CHUNKED or x.request_left > 0
    if not exchange_keep_head(x, out.ptr, out.len):
        c.close()
        return 0
    if x.core.keep_head and not exchange_keep_origin(x, p, used):
        c.close()
        return 0
    if x.request_left:
        used += request_small_body(x, p + used, n - used)
    x.due = c.reactor.now + ticks(x.core.timeout_ms)
    attempt_begin(c)
    return used


cdef size_t request_small_body(Exchange *x, const uint8_t *p, size_t n) noexcept nogil:
    """What has come of a short body goes with the head in one write."""
    cdef size_t take = <size_t>min(<uint64_t>min(n, exchange_room(x)), x.request_left)
    exchange_keep_body(x, p, take)
    x.request_left -= take
    x.request_bytes += take
    x.request_open = x.request_left > 0
    return take


cdef size_t request_body(Client c, const uint8_t *p, size_t n) noexcept:
    cdef Exchange *x = c.x
    cdef size_t take, data
    cdef int result
    cdef hs_out out
    if c.upstream.blocked():
        x.rate_tick = 0  # it is the backend that is slow
        return 0
    x.core.expect_continue = False
    if x.core.request_framing == HS_BODY_LENGTH:
        take = data = <size_t>min(<uint64_t>n, x.request_left)
        out.ptr = <uint8_t *>p
        out.len = take
        x.request_left -= take
        x.request_open = x.request_left > 0
    else:
        result = api.chunked(c.server.worker, &x.request_chunks, p, n, HS_BARE if x.core.cut_trailers else HS_RECHUNK,
                             &take, &data, &out)
        if result < 0:
            c.refuse(HS_WHY_BAD_REQUEST_BODY)
            return take
        if x.request_bytes + data > x.core.max_request_body:
            c.refuse(HS_WHY_REQUEST_TOO_LARGE)  # what is left of it is not read: the connection closes
            return take
        x.request_open = result == 0
    x.request_bytes += data
    exchange_keep_body(x, out.ptr, out.len)
    if out.len and not c.upstream.send(out.ptr, out.len):
        c.upstream_write_failed()
    if x.request_open and edge_too_slow(c, x.request_bytes, c.server.body_timeout_ms):
        c.refuse(HS_WHY_REQUEST_TIMEOUT)
    else:
        c.progress()
    return take


cdef size_t request_tunnel(Client c, const uint8_t *p, size_t n) noexcept:
    if c.upstream.blocked():
        return 0
    c.x.request_bytes += n
    if c.upstream.send(p, n):
        c.due_in(c.server.stream_idle_ms)
    else:
        c.close()
    return n
