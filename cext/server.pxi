# The worker's side towards Python: settings, listening sockets, draining.

cdef enum:
    LAST_ACCEPTS = 65536    # more than a queue holds
    ACCEPTS = 64            # connections taken from a listening socket before others get their turn
    ACCEPT_PAUSE_MS = 100   # out of descriptors: look again after this
    DRAIN_IDLE_MS = 1_000   # draining: a connection without a request is closed after this
    POOLS_PER_TICK = 256    # looked at each turn of the wheel: whether their backend is still configured


@cython.final
cdef class Listener(Stream):
    """A listening socket, level-triggered: what is not accepted now is reported again."""

    cdef void on_readable(self) noexcept:
        self.accept(ACCEPTS)

    cdef void accept(self, int most) noexcept:
        cdef sockaddr_storage address
        cdef socklen_t length
        cdef int fd
        for _ in range(most):
            length = sizeof(address)
            fd = net_accept(self.fd, <sockaddr *>&address, &length)
            if fd >= 0:
                edge_accept(self.server, fd, &address, length, self.speaks_tls)
            elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                poller_remove(self.reactor.poller, self.fd)
                self.due_in(ACCEPT_PAUSE_MS)
                return
            elif errno != ECONNABORTED and errno != EINTR:
                return

    cdef void on_timer(self) noexcept:
        if poller_add_listener(self.reactor.poller, self.fd, self.token):
            self.due_in(ACCEPT_PAUSE_MS)


@cython.final
cdef class Server:
    """Serves clients on listening sockets with the routes of the worker's current snapshot.

    `worker` is a `_core.Worker`, `loop` the running event loop, `settings` a dict of numbers: `keepalive_timeout`,
    `header_timeout`, `body_timeout`, `write_timeout`, `stream_idle_timeout` (seconds), `max_waiting` (clients
    queued for one backend), `max_connections` (0: any number), `min_transfer_rate` (bytes per second; 0: any),
    `proxy_protocol` (0 or 1); all have defaults. `codec` is None (native) or a pair of factories for request and
    response codecs, see `hotswap_proxy.worker.codec`. `middleware` gets a `Call` for each request on a route with
    middleware and returns the task that deals with it, see `hotswap_proxy.worker.middleware`.
    """

    def __init__(self, worker, loop, settings=None, codec=None, middleware=None):
        settings = settings or {}
        self.core_worker = worker
        self.worker = <hs_worker *><uintptr_t>worker.handle
        self.reactor = Reactor(loop)
        self.reactor.worker = self.worker
        self.reactor.on_tick = self._tick
        self.listeners = []
        self.clients = set()
        self.pools = []
        self.keepalive_ms = int(1000 * settings.get("keepalive_timeout", 75))
        self.header_timeout_ms = int(1000 * settings.get("header_timeout", 10))
        self.body_timeout_ms = int(1000 * settings.get("body_timeout", 30))
        self.write_timeout_ms = int(1000 * settings.get("write_timeout", 30))
        self.stream_idle_ms = int(1000 * settings.get("stream_idle_timeout", 300))
        self.max_waiting = settings.get("max_waiting", 10_000)
        self.max_connections = settings.get("max_connections", 0)
        self.min_transfer_rate = settings.get("min_transfer_rate", 0)
        self.proxy_protocol = settings.get("proxy_protocol", 0)
        self.middleware = middleware
        if codec is not None:
            self.make_request_codec, self.make_response_codec = codec

    @property
    def connections(self):
        """Client connections that are open."""
        return len(self.clients)

    def listen(self, int fd, bint tls=False):
        """Accept on the listening socket `fd`, which this server owns from now on; `tls`: its clients speak TLS."""
        cdef Listener listener = Listener.__new__(Listener)
        listener.speaks_tls = tls
        listener.server = self
        listener.reactor = self.reactor
        listener.fd = fd
        if net_prepare(fd) < 0 or not self.reactor.register(listener, True):
            raise OSError(errno, "cannot listen")
        net_nodelay(fd)  # inherited by what is accepted
        self.listeners.append(listener)

    def stop_accepting(self):
        """Take what stands in the queue and no more: closing a listening socket resets what is left in it."""
        cdef Listener listener
        for listener in self.listeners:
            if listener.fd >= 0:
                listener.accept(LAST_ACCEPTS)
                poller_remove(self.reactor.poller, listener.fd)  # another process may hold the same socket
            listener.close_socket()
        self.listeners.clear()

    async def drain(self):
        """Finish what is under way, close what stays idle; returns when no client is left.

        A client that was told nothing may be sending its next request at this moment, and would lose it to a closed
        connection: whoever asks within DRAIN_IDLE_MS is answered, and told in the answer that this was the last one.
        """
        cdef Client client
        self.draining = True  # first: whoever is accepted now hears that the connection will not go on
        self.stop_accepting()
        for client in list(self.clients):
            if client.state == C_IDLE:
                client.readable = True  # a request may have come that the loop has not seen yet
                client.on_readable()
            if client.state == C_PROXY:
                client.close()  # it has asked for nothing yet
            # One whose handshake is under way is about to send its request: it has its own time for that.
            elif client.state == C_IDLE and (client.tls == NULL or client.tls_state & HS_TLS_READY):
                client.due_in(DRAIN_IDLE_MS)
        if self.reactor.later:
            self.reactor.run_later()
        if self.clients:
            if self.drained is None:
                self.drained = self.reactor.loop.create_future()
            await shield(self.drained)

    def close(self):
        """Close every connection now."""
        cdef Client client
        cdef Pool pool
        cdef Upstream up
        self.stop_accepting()
        for client in list(self.clients):
            if client.x != NULL:
                client.x.core.why = 1 + HS_WHY_STOPPED
            client.close()
        for pool in self.pools:
            if pool is not None:
                pool.retire_all()
        self._tick()
        self.reactor.shut()

    def _tick(self):
        cdef Pool pool
        for _ in range(min(len(self.pools), POOLS_PER_TICK)):
            self.next_pool = (self.next_pool + 1) % len(self.pools)
            pool = <Pool>self.pools[self.next_pool]
            if pool is not None and api.incarnation(self.worker, self.next_pool) != pool.incarnation:
                self.pools[self.next_pool] = None
                pool.retire_all()
            elif pool is not None and pool.sibling is not None and pool.sibling.open == 0 \
                    and not pool.sibling.waiting:
                pool.sibling = pool.sibling.sibling
        if self.idle_upstreams != self.idle_upstreams_told:
            api.upstream_idle(self.worker, self.idle_upstreams - self.idle_upstreams_told)
            self.idle_upstreams_told = self.idle_upstreams

    cdef void client_closed(self, Client client) noexcept:
        self.clients.discard(client)
        api.connection(self.worker, False)
        api.part(self.worker, &client.peer)
        if not self.clients and self.drained is not None and not self.drained.done():
            self.drained.set_result(None)

    cdef Pool pool_for(self, const hs_exchange *ex):
        cdef size_t slot = ex.backend
        cdef Pool pool = None
        if slot < <size_t>len(self.pools):
            pool = <Pool>self.pools[slot]
        else:
            self.pools.extend([None] * (<Py_ssize_t>slot + 16 - len(self.pools)))
        if pool is not None and pool.incarnation != ex.incarnation:
            pool.retire_all()
            pool = self.pools[slot] = None
        while pool is not None and pool.tls != ex.tls:
            pool = pool.sibling
        if pool is None:
            pool = Pool.__new__(Pool)
            pool.server = self
            pool.incarnation = ex.incarnation
            pool.tls = ex.tls
            pool.sibling = <Pool>self.pools[slot]
            self.pools[slot] = pool
        pool.used = self.reactor.now
        pool.configure(ex)
        return pool

    cdef object new_codec(self, object factory):
        """None when out of memory: the connection must not be served without its second parser."""
        try:
            return factory()
        except Exception:
            return None

    cdef void begin_codec(self, object codec) noexcept:
        codec.begin()

    cdef bint is_passing(self, object codec) noexcept:
        return codec.passing

    cdef bytes end_passing(self, object codec, bint switched):
        """What the codec has held back, as received or in canonical form; None when out of memory."""
        try:
            return <bytes?>(codec.release() if switched else codec.resume())
        except Exception:
            return None

    cdef bytes run_codec(self, object codec, const uint8_t *p, size_t n):
        """The canonical form of what the codec accepted, or None when it refused (`codec_status`)."""
        try:
            return <bytes?>codec.feed(PyBytes_FromStringAndSize(<const char *>p, n))
        except ValueError as refusal:
            self.codec_status = refusal.args[0] if refusal.args and isinstance(refusal.args[0], int) else 400
        except Exception:
            self.codec_status = 400
        return None
