# The backend's side: one connection, and the pool of this worker's connections to one backend.

cdef enum:
    U_CONNECTING = 0
    U_HANDSHAKE = 1    # connected; TLS is being agreed on
    U_BUSY = 2
    U_IDLE = 3
    U_CLOSED = 4


@cython.final
cdef class Upstream(Stream):
    """One connection to a backend: connecting, serving one client's exchange, or idle in its pool."""

    def __dealloc__(self):
        buffer_clear(&self.inb)

    cdef void on_writable(self) noexcept:
        cdef Client client = self.client
        if self.state == U_CONNECTING:
            self.pool.connected(self, net_connect_error(self.fd))
            return
        if self.out.data == NULL or client is None:
            return
        if self.state == U_HANDSHAKE:
            if not self.flush():
                self.pool.connect_over(self, HS_WHY_TLS_FAILED)
            return
        if not self.flush():
            client.upstream_write_failed()
        else:
            client.upstream_drained()

    cdef void on_hangup(self) noexcept:
        if self.state == U_CONNECTING:
            self.pool.connected(self, net_connect_error(self.fd) or ECONNRESET)
        else:
            self.on_readable()

    cdef void on_readable(self) noexcept:
        cdef ssize_t n
        cdef int reads = 0
        cdef Client client
        if self.state == U_CONNECTING:
            return
        if self.state == U_HANDSHAKE:
            n = self.receive()
            if n == -1 and self.tls_state & HS_TLS_READY:
                self.pool.ready(self)
            elif n != -1:  # data before there was a request is as wrong as an end
                self.pool.connect_over(self, HS_WHY_TLS_FAILED)
            return
        if self.state == U_IDLE:
            if self.quiet():
                self.readable = False  # the event was older than the read that ended the last exchange
            else:  # closed by the backend, or bytes that nobody asked for
                self.pool.drop(self)
            return
        while self.readable and self.state == U_BUSY:
            client = self.client
            if client.blocked():  # a slow reader stops its backend
                return
            n = self.receive()
            if n > 0:
                self.answered = True
                response_received(client, n)
            elif n == 0:
                response_ended(client)
                return
            elif n == -1:
                return
            else:
                attempt_lost(client)
                return
            reads += 1
            if reads == READS and self.readable:
                self.reactor.defer(self)
                return

    cdef void on_timer(self) noexcept:
        if self.state == U_IDLE:
            self.pool.expire_idle(self)


@cython.final
cdef class Pool:
    """This worker's connections to one backend, most recently used first; clients queue when it is at its limit."""

    def __cinit__(self):
        self.idle = []
        self.waiting = OrderedDict()

    cdef void configure(self, const hs_exchange *ex) noexcept:
        cdef bint raised = ex.pool_max > self.limit
        self.limit = ex.pool_max
        self.keep = ex.pool_min
        self.idle_ms = ex.pool_idle_ms
        if raised:
            self.serve_waiting()

    cdef Upstream take(self, bint replayable):
        """An idle connection that is fit for use, or None. One that has a word for us waiting is not: see `dispatch`."""
        cdef Upstream up
        while self.idle:
            up = <Upstream>self.idle.pop()
            self.server.idle_upstreams -= 1
            # A request that cannot be sent again gets a connection that was just seen to be alive.
            if not up.eof_seen and ((replayable and not up.readable) or up.quiet()):
                up.readable = False
                up.state = U_BUSY
                return up
            self.close(up)
        return None

    cdef bint connect(self, Client client) noexcept:
        """Open a connection for `client`; False when there is no room or it failed at once."""
        cdef Upstream up
        cdef int fd, result
        cdef hs_exchange *ex = &client.x.core
        fd = net_socket((<sockaddr *>ex.address).sa_family)
        if fd < 0:
            client.x.core.address_len = 0  # not the backend's fault, see attempt_connect_failed
            return False
        net_nodelay(fd)
        up = Upstream.__new__(Upstream)
        up.reactor = self.server.reactor
        up.pool = self
        up.fd = fd
        up.state = U_CONNECTING
        if self.server.make_response_codec is not None:
            up.codec = self.server.new_codec(self.server.make_response_codec)
            if up.codec is None:
                return False
        if ex.tls:
            up.tls = api.tls_client(self.server.worker, ex.tls)
            if up.tls == NULL:
                return False
        result = net_connect(fd, ex.address, ex.address_len)
        if result < 0 or not up.reactor.register(up):
            return False  # the descriptor goes with the object
        self.open += 1
        up.client = client
        client.upstream = up
        client.queued_in = None
        attempt_wait(client, ex.connect_ms)
        return True

    cdef void connected(self, Upstream up, int error) noexcept:
        cdef Client client = up.client  # when a client goes, so does the connection that is made for it
        if error:
            self.connect_over(up, HS_WHY_CONNECT_FAILED)
        elif up.tls == NULL:
            self.ready(up)
        else:
            up.state = U_HANDSHAKE
            if not tls_begin(up):
                self.connect_over(up, HS_WHY_TLS_FAILED)

    cdef void connect_over(self, Upstream up, int why) noexcept:
        """No connection came of it."""
        cdef Client client = up.client
        client.upstream = None
        self.close(up)
        attempt_connect_failed(client, why)
        self.serve_waiting()

    cdef void ready(self, Upstream up) noexcept:
        """A new connection can be used."""
        cdef Client client = up.client
        up.state = U_BUSY
        attempt_send(client, up)
        client.on_readable()

    cdef void put(self, Upstream up) noexcept:
        """Back from an exchange, clean: to the first client that waits, else to the idle ones."""
        cdef Client client
        up.client = None
        up.answered = False
        up.reused = True
        if self.retired or up.eof_seen or self.open > self.limit or (
                (up.readable or self.waiting) and not up.quiet()):
            self.release(up)
            return
        up.readable = False
        if self.waiting:
            client = <Client>self.waiting.popitem(False)[0]
            attempt_send(client, up)
            client.on_readable()
            return
        up.state = U_IDLE
        self.idle.append(up)
        self.server.idle_upstreams += 1
        up.due_in(self.idle_ms)

    cdef void serve_waiting(self) noexcept:
        """A place has become free: open a connection for the client that has waited longest."""
        cdef Client client
        while self.waiting and self.open < self.limit:
            client = <Client>self.waiting.popitem(False)[0]
            if not self.connect(client):
                attempt_connect_failed(client)

    cdef void drop(self, Upstream up) noexcept:
        """An idle connection that is of no more use."""
        if up in self.idle:
            self.idle.remove(up)
            self.server.idle_upstreams -= 1
        self.close(up)

    cdef void close(self, Upstream up) noexcept:
        if up.state != U_CLOSED:
            if up.state > U_HANDSHAKE:
                tls_end(up)
            up.state = U_CLOSED
            self.open -= 1
            up.client = None
            buffer_clear(&up.inb)
            up.close_socket()

    cdef void release(self, Upstream up) noexcept:
        """Back from an exchange, unfit for another."""
        self.close(up)
        self.serve_waiting()

    cdef void expire_idle(self, Upstream up) noexcept:
        # TLS settings that are not in use any more leave a pool that nobody asks.
        if len(self.idle) > <Py_ssize_t>self.keep or (
                self.tls and self.server.reactor.now > self.used + ticks(self.idle_ms)):
            self.drop(up)
        else:
            up.due_in(self.idle_ms)

    cdef void retire(self) noexcept:
        """The backend has left the configuration: idle connections go, busy ones when they are done."""
        cdef Upstream up
        self.retired = True
        for up in list(self.idle):
            self.drop(up)

    cdef void retire_all(self) noexcept:
        """This pool and its siblings."""
        cdef Pool pool = self
        while pool is not None:
            pool.retire()
            pool = pool.sibling
