# Requests that a middleware, a Python function of the operator's, decides about. The core hands them over when
# their body has been collected; the backend's answer is captured for the middleware instead of being passed on.

@cython.final
cdef class Call:
    """One request in the hands of a middleware: what Python may do with it, from the loop's own callbacks only."""

    def __dealloc__(self):
        buffer_clear(&self.captured)

    @property
    def open(self):
        """Whether anybody waits for an answer."""
        return self.client is not None

    def send(self, bytes head not None, bytes body not None):
        """Send this request on, once; returns a Future of the answer: the bytes of its head and body, framed by
        nothing but their end.

        Raises ValueError when the head is no request, RuntimeError when the exchange is over.
        """
        cdef Client c = self.client
        cdef Exchange *x
        cdef hs_out out
        cdef int result
        if c is None or c.state != C_HANDED or self.waiter is not None:
            raise RuntimeError("the request cannot be sent on any more")
        x = c.x
        result = api.proceed(c.server.worker, &x.core, &c.peer, net_now_ns(), <const uint8_t *><char *>head,
                             len(head), len(body), &out)
        if result == HS_BAD:
            raise ValueError(PyBytes_FromStringAndSize(<const char *>out.ptr, out.len).decode("latin-1"))
        buffer_clear(&x.body)
        self.waiter = c.reactor.loop.create_future()
        waiter = self.waiter
        c.reactor.look_at_clock()
        if result == HS_REPLY:
            c.answered(&out)
        elif (exchange_keep_head(x, out.ptr, out.len)
              and exchange_keep_origin(x, <const uint8_t *><char *>head, len(head))
              and buffer_append(&x.body, <const uint8_t *><char *>body, len(body))):
            attempt_begin(c)
        else:
            c.close()
        c.reactor.come_back()
        return waiter

    def answer(self, bytes head not None, bytes body not None):
        """The answer for the client; returns whether it was one. Too late, it has no effect."""
        cdef Client c = self.client
        cdef hs_out out
        cdef bint sound
        if c is None:
            return True
        c.reactor.look_at_clock()
        if c.server.draining:  # since the head came
            c.x.core.client_keep_alive = False
        attempt_drop(c)  # the middleware may have lost patience with the backend
        sound = api.conclude(c.server.worker, &c.x.core, net_now_ns(), <const uint8_t *><char *>head, len(head),
                             &out) == HS_FORWARD
        if sound and c.x.core.response_framing != HS_BODY_NONE and c.x.core.response_length != <uint64_t>len(body):
            sound = False
        if not sound:
            call_failed(c, HS_WHY_MIDDLEWARE_FAILED)
        elif not c.send2(out.ptr, out.len, <const uint8_t *><char *>body,
                         0 if c.x.core.response_framing == HS_BODY_NONE else len(body)):
            c.close()
        elif c.blocked():
            call_ended(c)
            if c.enter(C_FLUSHING):
                c.due_in(c.server.write_timeout_ms)
        else:
            c.exchange_done()
        c.reactor.come_back()
        return sound

    def fail(self):
        """Answer 500. Too late, it has no effect."""
        if self.client is not None:
            self.client.reactor.look_at_clock()
            reactor = self.client.reactor
            call_failed(self.client, HS_WHY_MIDDLEWARE_FAILED)
            (<Reactor>reactor).come_back()


cdef void call_begin(Client c, hs_out *out) noexcept:
    cdef Call call = Call.__new__(Call)
    cdef Exchange *x = c.x
    if not c.enter(C_HANDED):
        return
    wheel_set(&c.reactor.wheel, &c.timer, x.due)
    call.client = c
    c.call = call
    try:
        call.description = PyBytes_FromStringAndSize(<const char *>out.ptr, out.len)
        call.body = PyBytes_FromStringAndSize(<const char *>buffer_ptr(&x.body), buffer_len(&x.body))
        buffer_clear(&x.body)
        call.task = c.server.middleware(call)
    except Exception:  # this worker has no middleware, or no memory
        call_failed(c, HS_WHY_MIDDLEWARE_FAILED)


cdef void call_answered(Client c, bytes answer) noexcept:
    """What the middleware waits for is here."""
    cdef Call call = c.call
    buffer_clear(&call.captured)
    c.x.core.awaited = False
    if c.state != C_HANDED and not c.enter(C_HANDED):
        return
    wheel_set(&c.reactor.wheel, &c.timer, c.x.due)
    if not call.waiter.done():
        call.waiter.set_result(answer)


cdef void call_failed(Client c, int why) noexcept:
    """The gateway answers instead of the middleware."""
    call_ended(c)
    c.x.core.awaited = False
    c.refuse(why)


cdef void call_ended(Client c) noexcept:
    """Whatever the middleware still does is nobody's concern."""
    cdef Call call = c.call
    c.call = None
    call.client = None
    if call.waiter is not None and not call.waiter.done():
        call.waiter.cancel()
    if call.task is not None and not call.task.done():
        call_cancel(call)


cdef void call_cancel(Call call) noexcept:
    # A task that answers is still running, and must not be thrown out of its last lines.
    if current_task(call.task.get_loop()) is not call.task:
        call.task.cancel()


cdef void capture_begin(Client c, hs_out *head, const uint8_t *p, size_t n) noexcept:
    if not c.enter(C_CAPTURE):
        return
    c.x.response_left = c.x.core.response_length
    if buffer_append(&c.call.captured, head.ptr, head.len):
        capture_body(c, p, n)
    else:
        c.close()


cdef void capture_body(Client c, const uint8_t *p, size_t n) noexcept:
    cdef Exchange *x = c.x
    cdef size_t take = n
    cdef size_t data = n
    cdef bint done = False
    cdef int result
    cdef hs_out plain
    plain.ptr = <uint8_t *>p
    if x.core.response_framing == HS_BODY_CHUNKED:
        result = api.chunked(c.server.worker, &x.response_chunks, p, n, HS_PLAIN, &take, &data, &plain)
        if result < 0:
            response_malformed(c)
            return
        done = result == 1
    else:
        if x.core.response_framing != HS_BODY_CLOSE:
            take = data = <size_t>min(<uint64_t>n, x.response_left)
            x.response_left -= take
            done = x.response_left == 0
        plain.len = take
    x.response_bytes += data
    if x.response_bytes > x.core.max_response_body:
        x.core.failed = True
        c.refuse(HS_WHY_RESPONSE_TOO_LARGE)
    elif plain.len and not buffer_append(&c.call.captured, plain.ptr, plain.len):
        c.close()
    elif done:
        capture_complete(c, take == n and x.core.upstream_keep_alive)
    else:
        c.progress()


cdef void capture_complete(Client c, bint reusable) noexcept:
    response_release(c, reusable)
    call_answered(c, PyBytes_FromStringAndSize(<const char *>buffer_ptr(&c.call.captured),
                                               buffer_len(&c.call.captured)))
