# The client's side: the life of a connection and of each exchange on it.

cdef enum:
    C_IDLE = 0        # between requests
    C_HEAD = 1        # part of a request head has come
    C_WAITING = 2     # decided; waits for a connection to the backend
    C_SENT = 3        # the head went to the backend; no final answer yet
    C_STREAMING = 4   # the answer's head went to the client
    C_FLUSHING = 5    # all of the answer is here, not all of it is sent
    C_TUNNEL = 6      # upgraded: bytes both ways
    C_LINGER = 7      # answered for good; the rest of the input is read and dropped
    C_CLOSED = 8
    C_STATES = 9

    PIPELINE = 64 * 1024     # bytes of later requests that are kept while one is served
    LINGER_MS = 2_000

# From each state, the states that may follow. Anything else is a bug in this file and closes the connection.
cdef uint16_t[C_STATES] LEGAL = [
    1 << C_IDLE | 1 << C_HEAD | 1 << C_WAITING | 1 << C_FLUSHING | 1 << C_LINGER | 1 << C_CLOSED,      # IDLE
    1 << C_IDLE | 1 << C_WAITING | 1 << C_FLUSHING | 1 << C_LINGER | 1 << C_CLOSED,                    # HEAD
    1 << C_SENT | 1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,                       # WAITING
    1 << C_WAITING | 1 << C_STREAMING | 1 << C_FLUSHING | 1 << C_TUNNEL | 1 << C_IDLE | 1 << C_LINGER
    | 1 << C_CLOSED,                                                                                   # SENT
    1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,                                     # STREAMING
    1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,                                                       # FLUSHING
    1 << C_FLUSHING | 1 << C_LINGER | 1 << C_CLOSED,                                                   # TUNNEL
    1 << C_CLOSED,                                                                                     # LINGER
    0,                                                                                                 # CLOSED
]


cdef class Client(Stream):
    """One client connection. `x` is its exchange, NULL between requests."""

    def __dealloc__(self):
        buffer_clear(&self.inb)
        if self.x != NULL:
            exchange_free(self.x)

    cdef bint enter(self, uint8_t state) noexcept:
        if not (LEGAL[self.state] >> state) & 1:
            self.server.illegal_moves += 1
            self.close()
            return False
        self.state = state
        return True

    # ---- input from the client ----

    cdef void on_readable(self) noexcept:
        cdef ssize_t n
        cdef int reads = 0
        if self.inb.data != NULL:
            self.take_waiting_input()
        while self.readable and self.fd >= 0 and not self.input_held():
            n = self.receive()
            if n > 0:
                self.received(self.reactor.input, n)
            elif n == 0:
                self.readable = False
                self.input_ended()
                return
            elif n == -1:
                return
            else:
                self.close()
                return
            reads += 1
            if reads == READS and self.readable:
                self.reactor.defer(self)
                return

    cdef void on_hangup(self) noexcept:
        if self.input_held():  # nobody is there for the answer
            self.close()
        else:
            self.on_readable()

    cdef bint input_held(self) noexcept:
        """Reading on would only fill memory."""
        if self.state == C_TUNNEL:
            return self.upstream.blocked()
        return buffer_len(&self.inb) >= PIPELINE

    cdef void received(self, const uint8_t *p, size_t n) noexcept:
        cdef size_t used
        cdef bytes canonical
        if self.codec is not None and self.state != C_TUNNEL and self.state != C_LINGER:
            canonical = self.server.run_codec(self.codec, p, n)
            if canonical is None:
                self.reject(self.server.codec_status)
                return
            p = canonical
            n = len(canonical)
        if self.inb.data != NULL:
            if not buffer_append(&self.inb, p, n):
                self.close()
                return
            self.take_waiting_input()
            return
        used = self.consume(p, n)
        if used < n and self.fd >= 0 and not buffer_append(&self.inb, p + used, n - used):
            self.close()

    cdef void take_waiting_input(self) noexcept:
        cdef size_t used = self.consume(buffer_ptr(&self.inb), buffer_len(&self.inb))
        if self.fd >= 0 and used:
            buffer_consume(&self.inb, used)

    cdef size_t consume(self, const uint8_t *p, size_t n) noexcept:
        """Take from the input what the state allows; returns how much."""
        cdef size_t used = 0
        cdef size_t step
        while used < n and self.fd >= 0:
            if self.state == C_IDLE or self.state == C_HEAD:
                step = self.take_head(p + used, n - used)
            elif self.state == C_TUNNEL:
                step = self.take_tunnel(p + used, n - used)
            elif self.state == C_LINGER:
                step = n - used
            elif self.x != NULL and self.x.request_open and self.upstream is not None and (
                    self.state == C_SENT or self.state == C_STREAMING):
                step = self.take_body(p + used, n - used)
            else:
                break
            if step == 0:
                break
            used += step
        return used

    cdef size_t take_head(self, const uint8_t *p, size_t n) noexcept:
        cdef hs_out out
        cdef int result
        cdef size_t used
        cdef Exchange *x = self.x
        if x == NULL:
            x = self.x = exchange_new()
            if x == NULL:
                self.close()
                return 0
        x.core.seen = self.head_seen
        result = api.begin(self.server.worker, &x.core, &self.peer, net_now_ns(), p, n, &out)
        if result == HS_MORE:
            exchange_free(x)
            self.x = NULL
            self.head_seen = n
            if self.state == C_IDLE and self.enter(C_HEAD):
                self.due_in(self.server.header_timeout_ms)
            return 0
        self.head_seen = 0
        used = x.core.head_len
        if self.server.draining:
            x.core.client_keep_alive = False
        if result == HS_REPLY:
            self.answered(&out)
            return used
        if result != HS_FORWARD:  # the core failed
            self.close()
            return 0
        x.request_open = x.core.request_framing != HS_BODY_NONE
        x.request_left = x.core.request_length
        if x.request_open and x.core.request_framing == HS_BODY_LENGTH and x.request_left == 0:
            x.request_open = False
        if not exchange_keep_head(x, out.ptr, out.len):
            self.close()
            return 0
        if x.request_open and x.core.request_framing == HS_BODY_LENGTH:
            used += self.take_small_body(p + used, n - used)
        x.due = self.reactor.wheel.tick + ticks(x.core.timeout_ms)
        self.find_upstream()
        return used

    cdef size_t take_small_body(self, const uint8_t *p, size_t n) noexcept:
        """What has come of a short body goes with the head in one write."""
        cdef Exchange *x = self.x
        cdef size_t take = min(n, <size_t>x.request_left, exchange_room(x))
        exchange_keep_body(x, p, take)
        x.request_left -= take
        x.request_bytes += take
        x.request_open = x.request_left > 0
        return take

    cdef size_t take_body(self, const uint8_t *p, size_t n) noexcept:
        cdef Exchange *x = self.x
        cdef size_t take, data = 0
        cdef int result
        cdef hs_out out
        if self.upstream.blocked():
            return 0
        if x.core.request_framing == HS_BODY_LENGTH:
            take = min(n, <size_t>x.request_left)
            out.ptr = <uint8_t *>p
            out.len = take
            x.request_left -= take
            x.request_open = x.request_left > 0
            data = take
        else:
            result = api.chunked(self.server.worker, &x.request_chunks, p, n, 0, &take, &data, &out)
            if result < 0:
                self.refuse(HS_WHY_BAD_REQUEST_BODY)
                return take
            x.request_open = result == 0
            if x.request_bytes + data > x.core.max_request_body:
                x.request_open = True  # what is left of it is not read: the connection closes
                self.refuse(HS_WHY_REQUEST_TOO_LARGE)
                return take
        x.request_bytes += data
        exchange_keep_body(x, out.ptr, out.len)
        if out.len and not self.upstream.send(out.ptr, out.len):
            self.upstream_write_failed()
        else:
            self.progress()
        return take

    cdef size_t take_tunnel(self, const uint8_t *p, size_t n) noexcept:
        if self.upstream.blocked():
            return 0
        self.x.request_bytes += n
        if not self.upstream.send(p, n):
            self.close()
        else:
            self.due_in(self.server.stream_idle_ms)
        return n

    cdef void input_ended(self) noexcept:
        """The client has sent its last byte (it may still read: RFC 9112 section 9.6 does not forbid half-closing)."""
        if self.state == C_TUNNEL:
            shutdown(self.upstream.fd, SHUT_WR)  # its own end closes the tunnel
        elif self.state == C_IDLE or self.state == C_HEAD or self.state == C_LINGER:
            self.close()
        elif self.x != NULL and self.x.request_open:
            self.close()

    # ---- the backend's connection ----

    cdef void find_upstream(self) noexcept:
        cdef Exchange *x = self.x
        cdef Pool pool = self.server.pool_for(&x.core)
        cdef Upstream up = pool.take(x.core.idempotent)
        if not self.enter(C_WAITING):
            return
        if up is not None:
            self.attach(up)
            return
        if pool.open < pool.limit:
            self.wait_for(x.core.connect_ms)
            if not pool.connect(self):
                self.connect_failed()
            return
        if <size_t>len(pool.waiting) >= self.server.max_waiting:
            self.refuse(HS_WHY_POOL_FULL)
            return
        self.queued_in = pool
        pool.waiting.append(self)
        self.wait_for(x.core.pool_wait_ms)

    cdef void wait_for(self, uint32_t ms) noexcept:
        wheel_set(&self.reactor.wheel, &self.timer, min(self.x.due, self.reactor.wheel.tick + ticks(ms)))

    cdef void attach(self, Upstream up) noexcept:
        """The exchange has its connection: the request goes out."""
        cdef Exchange *x = self.x
        self.queued_in = None
        up.client = self
        self.upstream = up
        if not self.enter(C_SENT):
            return
        x.core.sent_ns = net_now_ns()
        self.progress()
        if not up.send(x.head, x.head_len):
            self.upstream_write_failed()

    cdef void progress(self) noexcept:
        """Something moved: the read timeout starts again, the exchange's own goes on."""
        cdef uint64_t due = self.reactor.wheel.tick + ticks(self.x.core.read_ms)
        if not self.x.core.endless and due > self.x.due:
            due = self.x.due
        wheel_set(&self.reactor.wheel, &self.timer, due)

    cdef void connect_failed(self) noexcept:
        self.queued_in = None
        if self.state == C_WAITING:
            self.refuse(HS_WHY_CONNECT_FAILED)

    cdef void upstream_drained(self) noexcept:
        """The backend takes bytes again."""
        self.on_readable()

    cdef void upstream_write_failed(self) noexcept:
        """It will take no more; an answer may be on its way all the same (RFC 9112 section 9.5)."""
        self.upstream.readable = True
        self.upstream.eof_seen = True
        self.reactor.defer(self.upstream)

    cdef void drop_upstream(self) noexcept:
        """Give up the connection and the place in the queue, whichever there is."""
        cdef Upstream up = self.upstream
        cdef Pool pool = self.queued_in
        self.upstream = None
        self.queued_in = None
        if up is not None:
            up.client = None
            up.pool.release(up)
        if pool is not None:
            pool.waiting.remove(self)

    cdef void upstream_lost(self) noexcept:
        """The connection broke before the answer was whole."""
        cdef Exchange *x = self.x
        cdef Upstream up = self.upstream
        if self.state == C_TUNNEL:
            self.close()
            return
        x.core.failed = True
        if self.state != C_SENT:
            self.close()  # a cut answer must not look whole
        elif (up.reused and not up.answered and x.replayable and not x.replayed and x.core.idempotent):
            self.replay()
        else:
            self.refuse(HS_WHY_BACKEND_CLOSED)

    cdef void replay(self) noexcept:
        """A pooled connection had been closed under the request (RFC 9112 section 9.3.1): once more on a new one."""
        cdef Pool pool = self.upstream.pool
        self.x.core.failed = False
        self.x.replayed = True
        self.drop_upstream()
        if self.enter(C_WAITING):
            self.wait_for(self.x.core.connect_ms)
            if not pool.connect(self):
                self.connect_failed()

    # ---- answers ----

    cdef void answered(self, hs_out *out) noexcept:
        """The gateway's own answer is the end of the exchange."""
        if not self.send(out.ptr, out.len):
            self.close()
        elif self.blocked():
            if self.enter(C_FLUSHING):
                self.due_in(self.server.write_timeout_ms)
        else:
            self.exchange_done()

    cdef void refuse(self, int why) noexcept:
        """Answer instead of the backend; too late for that once its head went out: then cut the connection."""
        cdef hs_out out
        cdef Exchange *x = self.x
        self.drop_upstream()
        if self.state == C_STREAMING or self.state == C_TUNNEL:
            self.close()
            return
        if x.request_open:
            x.core.client_keep_alive = False
        api.refuse(self.server.worker, &x.core, net_now_ns(), why, not x.core.client_keep_alive, &out)
        self.answered(&out)

    cdef void reject(self, int status) noexcept:
        """Answer bytes that never became a request."""
        cdef hs_out out
        if self.x != NULL or not (self.state == C_IDLE or self.state == C_HEAD):
            self.close()
            return
        self.x = exchange_new()
        if self.x == NULL:
            self.close()
            return
        api.reject(self.server.worker, &self.x.core, &self.peer, net_now_ns(), status, &out)
        self.answered(&out)

    cdef void exchange_done(self) noexcept:
        cdef Exchange *x = self.x
        cdef bint keep = x.core.client_keep_alive and not x.request_open and not self.server.draining
        cdef bint unread = x.request_open or not x.core.client_keep_alive
        self.end_exchange(HS_COMPLETED)
        if keep:
            if self.enter(C_IDLE):
                self.due_in(self.server.keepalive_ms)
                if self.inb.data != NULL or self.eof_seen:
                    self.reactor.defer(self)
        elif unread and not self.eof_seen and not self.server.draining and self.enter(C_LINGER):
            # Closing with input unread would reset the connection under the answer (RFC 9112 section 9.6).
            buffer_clear(&self.inb)
            shutdown(self.fd, SHUT_WR)
            self.due_in(LINGER_MS)
        else:
            self.close()

    cdef void end_exchange(self, int outcome) noexcept:
        if self.x != NULL:
            api.finish(self.server.worker, &self.x.core, outcome, net_now_ns())
            exchange_free(self.x)
            self.x = NULL

    cdef void close(self) noexcept:
        if self.state == C_CLOSED:
            return
        self.state = C_CLOSED
        self.drop_upstream()
        if self.x != NULL:
            # An answer that the backend cut short ended too: only a client that left has aborted.
            self.end_exchange(HS_COMPLETED if self.x.core.failed else HS_ABORTED)
        buffer_clear(&self.inb)
        self.codec = None
        self.server.client_closed(self)
        self.close_socket()

    # ---- the socket takes bytes again, or time has passed ----

    cdef void on_writable(self) noexcept:
        if self.out.data == NULL:
            return
        if not self.flush():
            self.close()
        elif self.out.data == NULL:
            if self.state == C_FLUSHING:
                self.exchange_done()
            elif self.upstream is not None:
                self.upstream.on_readable()
        elif self.state == C_FLUSHING:
            self.due_in(self.server.write_timeout_ms)

    cdef void on_timer(self) noexcept:
        if self.state == C_HEAD:
            self.reject(408)
        elif self.state == C_WAITING:
            self.refuse(HS_WHY_POOL_FULL if self.queued_in is not None else HS_WHY_CONNECT_TIMEOUT)
        elif self.state == C_SENT:
            self.refuse(HS_WHY_REQUEST_TIMEOUT if self.x.request_open and not self.upstream.blocked()
                        else HS_WHY_BACKEND_TIMEOUT)
        else:
            if self.state == C_STREAMING and not self.blocked():
                self.x.core.failed = True
            self.close()
