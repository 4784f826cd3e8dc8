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
    C_COLLECT = 9     # admitted; its body is read whole before a backend is chosen
    C_BACKOFF = 10    # an attempt failed; waits before the next
    C_HANDED = 11     # a middleware has the request, and nothing is at a backend
    C_CAPTURE = 12    # the answer's body is read for a middleware
    C_PROXY = 13      # before anything else: its PROXY header is awaited
    C_STATES = 14

    PIPELINE = 64 * 1024     # bytes of later requests that are kept while one is served
    LINGER_MS = 2_000
    HEADS = 16               # requests of one client answered before others get their turn

# From each state, the states that may follow. Anything else is a bug in this file and closes the connection.
cdef uint16_t[C_STATES] LEGAL = [
    1 << C_HEAD | 1 << C_COLLECT | 1 << C_WAITING | 1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER
    | 1 << C_CLOSED,                                                                                   # IDLE
    1 << C_COLLECT | 1 << C_WAITING | 1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,   # HEAD
    1 << C_SENT | 1 << C_BACKOFF | 1 << C_HANDED | 1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER
    | 1 << C_CLOSED,                                                                                   # WAITING
    1 << C_WAITING | 1 << C_BACKOFF | 1 << C_STREAMING | 1 << C_CAPTURE | 1 << C_HANDED | 1 << C_FLUSHING
    | 1 << C_TUNNEL | 1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,                                     # SENT
    1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,                                     # STREAMING
    1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,                                                       # FLUSHING
    1 << C_FLUSHING | 1 << C_LINGER | 1 << C_CLOSED,                                                   # TUNNEL
    1 << C_CLOSED,                                                                                     # LINGER
    0,                                                                                                 # CLOSED
    1 << C_WAITING | 1 << C_HANDED | 1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,    # COLLECT
    1 << C_WAITING | 1 << C_HANDED | 1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,    # BACKOFF
    1 << C_WAITING | 1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,                    # HANDED
    1 << C_HANDED | 1 << C_FLUSHING | 1 << C_IDLE | 1 << C_LINGER | 1 << C_CLOSED,                     # CAPTURE
    1 << C_IDLE | 1 << C_CLOSED,                                                                       # PROXY
]


@cython.final
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
        if self.state == C_PROXY and not edge_take_proxy_header(self):
            return
        if self.passing:
            self.take_held()
        if self.inb.data != NULL:
            self.take_waiting_input()
        while self.readable and self.fd >= 0 and not self.deferred and not self.input_held():
            n = self.receive()
            if n > 0:
                self.received(self.reactor.input, n)
            elif n == 0:
                # Still readable: between two requests that were already here, the end is found again.
                self.input_over = True
                self.input_ended()
                return
            elif n == -1:
                return
            elif self.tls_state & HS_TLS_FAILED and self.state == C_IDLE:
                self.tls_refused()
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
        if self.state == C_IDLE or self.state == C_HEAD or self.state == C_COLLECT:
            return False  # the core bounds a head, and what is collected
        return buffer_len(&self.inb) + self.held >= PIPELINE

    cdef void received(self, const uint8_t *p, size_t n) noexcept:
        cdef size_t used
        cdef bytes canonical
        if self.codec is not None and self.state != C_TUNNEL and self.state != C_LINGER:
            canonical = self.server.run_codec(self.codec, p, n)
            if canonical is None:
                if self.x == NULL:
                    self.reject(self.server.codec_status)
                    return
                canonical = REFUSED  # refused again when its turn comes: answers keep their order
            elif self.server.is_passing(self.codec):
                self.passing = True
                self.held += n
            p = canonical
            n = len(canonical)
            if n == 0:
                if self.state == C_IDLE:
                    self.head_begins()
                return
        if self.inb.data != NULL:
            if not buffer_append(&self.inb, p, n):
                self.close()
                return
            self.take_waiting_input()
            return
        used = self.consume(p, n)
        if used < n and self.fd >= 0 and not buffer_append(&self.inb, p + used, n - used):
            self.close()

    cdef void take_held(self) noexcept:
        """What has followed a request for an upgrade is of the new protocol, or HTTP after all."""
        cdef bint switched = self.state == C_TUNNEL
        cdef bytes held
        if self.inb.data != NULL or not (switched or self.state == C_IDLE):
            return  # its turn has not come
        held = self.server.end_passing(self.codec, switched)
        self.passing = not switched and self.server.is_passing(self.codec)
        if not self.passing:
            self.held = 0
        if held is None or not buffer_append(&self.inb, held, len(held)):
            self.close()

    cdef void take_waiting_input(self) noexcept:
        cdef Buffer input = self.inb  # taken out: what it leads to may clear the connection's own
        cdef size_t used
        memset(&self.inb, 0, sizeof(Buffer))
        used = self.consume(buffer_ptr(&input), buffer_len(&input))
        if self.fd < 0:
            buffer_clear(&input)
        elif used:
            buffer_consume(&input, used)
        self.inb = input

    cdef size_t consume(self, const uint8_t *p, size_t n) noexcept:
        """Take from the input what the state allows; returns how much."""
        cdef size_t used = 0
        cdef size_t step
        cdef int heads = 0
        while used < n and self.fd >= 0:
            if self.state == C_IDLE or self.state == C_HEAD:
                if heads == HEADS:
                    self.reactor.defer(self)
                    break
                heads += 1
                step = request_head(self, p + used, n - used)
            elif self.state == C_TUNNEL:
                step = request_tunnel(self, p + used, n - used)
            elif self.state == C_LINGER:
                step = n - used
            elif self.state == C_COLLECT:
                step = collect_body(self, p + used, n - used)
            elif self.x != NULL and self.x.request_open and self.upstream is not None and (
                    self.state == C_SENT or self.state == C_STREAMING):
                step = request_body(self, p + used, n - used)
            else:
                break
            if step == 0:
                break
            used += step
        return used

    cdef void head_begins(self) noexcept:
        if self.enter(C_HEAD):
            self.due_in(self.server.header_timeout_ms)

    cdef void input_ended(self) noexcept:
        """The client has sent its last byte (it may still read: RFC 9112 section 9.6 does not forbid half-closing)."""
        if self.state == C_TUNNEL:
            self.upstream.end_output()  # its own end closes the tunnel
        elif self.state == C_IDLE or self.state == C_HEAD or self.state == C_LINGER:
            self.close()
        elif self.state == C_STREAMING and self.x.core.endless:
            self.close()  # who does not close at the end of events has left
        elif self.x != NULL and self.x.request_open and self.state != C_FLUSHING and self.inb.data == NULL:
            self.close()  # the body was cut short; with input left it is not known yet, and looked at again

    # ---- while the backend has the request ----

    cdef bint body_is_due(self) noexcept:
        """The next move is the client's: it has neither sent all of its body nor waits for 100 (Continue)."""
        return self.x.request_open and not self.x.core.expect_continue and not self.upstream.blocked()

    cdef void progress(self) noexcept:
        """Something moved: whose turn it is now has its own time for it, the whole exchange goes on with its."""
        cdef Exchange *x = self.x
        cdef uint64_t ms = x.core.read_ms
        cdef uint64_t due
        if self.blocked():
            ms = self.server.write_timeout_ms
        elif self.upstream.blocked():
            ms = x.core.write_ms
        elif self.state == C_SENT and self.body_is_due():
            ms = self.server.body_timeout_ms
        due = self.reactor.now + ticks(ms)
        if not x.core.endless and due > x.due:
            due = x.due
        wheel_set(&self.reactor.wheel, &self.timer, due)

    cdef void upstream_drained(self) noexcept:
        """The backend takes bytes again."""
        if self.state == C_SENT or self.state == C_STREAMING or self.state == C_CAPTURE:
            self.progress()
        self.on_readable()

    cdef void upstream_write_failed(self) noexcept:
        """It will take no more; an answer may be on its way all the same (RFC 9112 section 9.5)."""
        cdef Upstream up = self.upstream
        buffer_clear(&up.out)
        up.readable = True
        up.eof_seen = True
        self.reactor.defer(up)

    # ---- answers ----

    cdef void answered(self, hs_out *out) noexcept:
        """The gateway's own answer is the end of the exchange; an empty one means that the core failed."""
        if self.call is not None and self.x.core.awaited:
            call_answered(self, PyBytes_FromStringAndSize(<const char *>out.ptr, out.len))
        elif out.len == 0 or not self.send(out.ptr, out.len):
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
        attempt_drop(self)
        if self.state == C_STREAMING or self.state == C_TUNNEL:
            x.cut = True
            x.core.why = 1 + why
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
        self.x.core.secure = self.peer.tls
        api.reject(self.server.worker, &self.x.core, &self.peer, net_now_ns(), status, &out)
        self.answered(&out)

    cdef void tls_refused(self) noexcept:
        """There is no TLS with this client: what it sends from here on is not looked at, but read, see LINGER."""
        cdef bint plain_http = self.tls_state & HS_TLS_PLAIN_HTTP
        tls_drop(self)
        if plain_http:
            self.peer.tls = False
            self.reject(HS_PLAIN_HTTP)
        elif self.enter(C_LINGER):
            shutdown(self.fd, SHUT_WR)
            self.due_in(LINGER_MS)
        if self.readable and self.fd >= 0:
            self.reactor.defer(self)

    cdef void exchange_done(self) noexcept:
        cdef Exchange *x = self.x
        cdef bint keep = x.core.client_keep_alive and not x.request_open
        # Nothing more is to come when the request was taken whole and its sender wants to close.
        cdef bint unread = (
            x.core.sent_ns == 0 or x.request_open or self.inb.data != NULL or self.held > 0 or self.server.draining)
        self.end_exchange(HS_COMPLETED)
        if keep:
            if self.enter(C_IDLE):
                self.due_in(DRAIN_IDLE_MS if self.server.draining else self.server.keepalive_ms)
                if self.inb.data != NULL or self.eof_seen or self.passing:
                    self.reactor.defer(self)
        elif unread and not self.input_over and self.enter(C_LINGER):
            # Closing with input unread would reset the connection under the answer (RFC 9112 section 9.6).
            buffer_clear(&self.inb)
            self.end_output()
            self.due_in(LINGER_MS)
        else:
            self.close()

    cdef void end_exchange(self, int outcome) noexcept:
        cdef uint64_t unsent
        if self.call is not None:
            call_ended(self)
        if self.x != NULL:
            unsent = min(<uint64_t>buffer_len(&self.out), self.x.response_bytes)
            api.finish(self.server.worker, &self.x.core, outcome, net_now_ns(), self.x.request_bytes,
                       self.x.response_bytes - unsent)
            exchange_free(self.x)
            self.x = NULL

    cdef void close(self) noexcept:
        if self.state == C_CLOSED:
            return
        if self.x != NULL and (self.state == C_STREAMING or self.state == C_FLUSHING) \
                and self.x.core.client_framing == HS_BODY_CLOSE:
            net_reset_on_close(self.fd)  # a cut answer must not look whole
        elif self.x == NULL:
            tls_end(self)
        self.state = C_CLOSED
        attempt_drop(self)
        if self.x != NULL:
            # An answer that was cut short here ended too: only a client that left has aborted.
            self.end_exchange(HS_COMPLETED if self.x.cut else HS_ABORTED)
        buffer_clear(&self.inb)
        self.codec = None
        self.server.client_closed(self)
        self.close_socket()

    # ---- the socket takes bytes again, or time has passed ----

    cdef void on_writable(self) noexcept:
        cdef Upstream up = self.upstream
        if self.out.data == NULL:
            return
        if not self.flush():
            self.close()
        elif self.state == C_FLUSHING and self.out.data == NULL:
            self.exchange_done()
        elif edge_sips(self):
            self.x.core.why = 1 + HS_WHY_CLIENT_SLOW
            self.close()
        elif self.state == C_FLUSHING:
            self.due_in(self.server.write_timeout_ms)
        elif up is not None:
            if self.state == C_STREAMING or self.state == C_SENT:
                self.progress()
            if self.out.data == NULL:
                up.on_readable()

    cdef void on_timer(self) noexcept:
        if self.call is not None and self.reactor.now >= self.x.due:
            call_failed(self, HS_WHY_MIDDLEWARE_TIMEOUT)
        elif self.state == C_HEAD:
            self.reject(408)
        elif self.state == C_COLLECT:
            self.refuse(HS_WHY_REQUEST_TIMEOUT)
        elif self.state == C_CAPTURE:
            self.x.core.failed = True
            self.refuse(HS_WHY_BACKEND_TIMEOUT)
        elif self.state == C_WAITING:
            if self.queued_in is not None:
                self.refuse(HS_WHY_POOL_FULL)
            else:
                attempt_failed(self, HS_WHY_CONNECT_TIMEOUT)
        elif self.state == C_BACKOFF:
            attempt_again(self)
        elif self.state == C_SENT:
            if self.blocked():  # it does not take interim answers: nobody else's fault
                self.x.core.why = 1 + HS_WHY_CLIENT_SLOW
                self.close()
            elif self.body_is_due():
                self.refuse(HS_WHY_REQUEST_TIMEOUT)
            else:
                attempt_failed(self, HS_WHY_BACKEND_TIMEOUT)
        else:
            if self.state == C_STREAMING and not self.blocked():
                self.x.core.failed = True
                self.x.cut = True
                self.x.core.why = 1 + HS_WHY_BACKEND_TIMEOUT
            elif self.x != NULL:
                self.x.core.why = 1 + (HS_WHY_STREAM_IDLE if self.state == C_TUNNEL else HS_WHY_CLIENT_SLOW)
            self.close()
