# One attempt after the other: from the decision about a request to the beginning of an answer.

cdef void attempt_begin(Client c) noexcept:
    """A backend is chosen: find a connection to it, make one, or stand in its queue."""
    cdef Exchange *x = c.x
    cdef Pool pool = c.server.pool_for(&x.core)
    cdef Upstream up = pool.take(x.core.idempotent and x.replayable and not x.request_open)
    if not c.enter(C_WAITING):
        return
    if up is not None:
        attempt_send(c, up)
        return
    x.core.waited = True
    if pool.open < pool.limit:
        if not pool.connect(c):
            attempt_connect_failed(c)
        return
    if <size_t>len(pool.waiting) >= c.server.max_waiting:
        c.refuse(HS_WHY_POOL_FULL)
        return
    c.queued_in = pool
    pool.waiting[c] = None
    attempt_wait(c, x.core.pool_wait_ms)


cdef void attempt_wait(Client c, uint32_t ms) noexcept:
    """At most `ms`, and no longer than the exchange has."""
    wheel_set(&c.reactor.wheel, &c.timer, min(c.x.due, c.reactor.now + ticks(ms)))


cdef void attempt_send(Client c, Upstream up) noexcept:
    """The exchange has its connection: the request goes out."""
    cdef Exchange *x = c.x
    c.queued_in = None
    up.client = c
    c.upstream = up
    if not c.enter(C_SENT):
        return
    if up.codec is not None:
        c.server.begin_codec(up.codec)
    x.core.sent_ns = net_now_ns()
    if not up.send2(x.head, x.head_len, buffer_ptr(&x.body), buffer_len(&x.body)):
        c.upstream_write_failed()
    c.progress()


cdef void attempt_connect_failed(Client c, int why=HS_WHY_CONNECT_FAILED) noexcept:
    c.queued_in = None
    if c.state == C_WAITING:
        if c.x.core.address_len:
            attempt_failed(c, why)
        else:
            c.refuse(HS_WHY_NO_SOCKET)


cdef void attempt_lost(Client c) noexcept:
    """The connection broke before the answer was whole."""
    cdef Exchange *x = c.x
    cdef Upstream up = c.upstream
    if c.state == C_TUNNEL:
        x.core.why = 1 + HS_WHY_BACKEND_CLOSED
        c.close()
        return
    x.core.failed = True
    if c.state == C_CAPTURE:
        c.refuse(HS_WHY_BACKEND_CLOSED)
    elif c.state != C_SENT:
        x.cut = True
        x.core.why = 1 + HS_WHY_BACKEND_CLOSED
        c.close()
    elif (up.reused and not up.answered and x.replayable and not x.replayed and x.core.idempotent):
        attempt_replay(c)
    else:
        attempt_failed(c, HS_WHY_BACKEND_CLOSED)


cdef void attempt_replay(Client c) noexcept:
    """A pooled connection had been closed under the request (RFC 9112 section 9.3.1): once more on a new one."""
    cdef Upstream up = c.upstream
    c.x.core.failed = False
    c.x.replayed = True
    c.x.core.resent = True
    c.upstream = None
    up.pool.close(up)  # no release: its place is the new one's
    if c.enter(C_WAITING) and not up.pool.connect(c):
        attempt_connect_failed(c)
        up.pool.serve_waiting()


cdef void attempt_drop(Client c) noexcept:
    """Give up the connection and the place in the queue, whichever there is."""
    cdef Upstream up = c.upstream
    cdef Pool pool = c.queued_in
    c.upstream = None
    c.queued_in = None
    if up is not None:
        up.client = None
        up.pool.release(up)
    if pool is not None:
        pool.waiting.pop(c, None)


cdef void attempt_failed(Client c, int why) noexcept:
    """No answer came of it: the core says whether there is another attempt, and where."""
    cdef hs_out out
    cdef int result
    cdef Exchange *x = c.x
    x.core.resend = x.replayable and not x.request_open
    result = api.again(c.server.worker, &x.core, &c.peer, net_now_ns(), why, x.origin, x.origin_len, &out)
    if result == HS_FORWARD:
        if attempt_take_head(c, &out) and c.enter(C_BACKOFF):
            attempt_drop(c)
            attempt_go_on(c)
    elif result == HS_RETRY:
        attempt_retry(c, False)
    else:
        c.refuse(why)


cdef void attempt_retry(Client c, bint reusable) noexcept:
    """Give up the connection, which is `reusable` when its answer was read whole, and wait for the next attempt."""
    cdef Upstream up = c.upstream
    if not c.enter(C_BACKOFF):
        return
    if reusable:
        c.upstream = None
        up.pool.put(up)
    else:
        attempt_drop(c)
    if c.x.core.delay_ms:
        attempt_wait(c, c.x.core.delay_ms)
    else:
        attempt_again(c)


cdef void attempt_again(Client c) noexcept:
    """The wait is over."""
    cdef hs_out out
    cdef Exchange *x = c.x
    if api.again(c.server.worker, &x.core, &c.peer, net_now_ns(), -1, x.origin, x.origin_len, &out) == HS_FORWARD:
        if attempt_take_head(c, &out):
            attempt_go_on(c)
    else:
        c.refuse(HS_WHY_NO_BACKEND)


cdef void attempt_go_on(Client c) noexcept:
    """To the backend that was chosen; what the client sent meanwhile has waited for it."""
    attempt_begin(c)
    if c.fd >= 0:
        c.reactor.defer(c)


cdef bint attempt_take_head(Client c, hs_out *head) noexcept:
    """For the backend that was chosen now, if it needs one of its own. Before anything else is done: giving up a
    connection may lead to other calls of the core."""
    cdef Exchange *x = c.x
    if head.len and not exchange_replace_head(x, head.ptr, head.len):
        c.close()
        return False
    x.core.failed = False
    x.core.seen = 0
    x.replayed = False
    return True
