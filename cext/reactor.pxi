# Plain sockets driven under one readiness set that hangs below the event loop: the loop sees one file descriptor,
# and a batch of events is handled in C without a Python call for each.

cdef enum:
    HEADROOM = 72 * 1024   # room before received bytes: a rewritten head is put in front of the body it belongs to
    READ_SIZE = 128 * 1024
    ROUNDS = 16            # batches handled before the event loop gets its turn
    READS = 8              # reads of one stream before the others get theirs


cdef class Stream:
    """One registered socket. Readiness is edge-triggered: `readable` stays set until a read comes up short."""

    def __cinit__(self):
        self.fd = -1
        self.timer.owner = <void *>self

    def __dealloc__(self):
        buffer_clear(&self.out)
        tls_drop(self)
        if self.fd >= 0:
            close(self.fd)

    cdef void on_readable(self) noexcept:
        pass

    cdef void on_writable(self) noexcept:
        pass

    cdef void on_hangup(self) noexcept:
        """Both directions are gone (reset, or closed by both)."""
        self.on_readable()

    cdef void on_timer(self) noexcept:
        pass

    cdef bint blocked(self) noexcept:
        return self.out.data != NULL

    cdef void due_in(self, uint64_t ms) noexcept:
        wheel_set(&self.reactor.wheel, &self.timer, self.reactor.now + ticks(ms))

    cdef ssize_t receive(self) noexcept:
        """Read into the reactor's buffer: > 0 bytes, 0 end of stream, -1 nothing now, -2 broken."""
        cdef ssize_t n
        if self.tls != NULL:
            return tls_receive(self)
        n = net_recv(self.fd, self.reactor.input, READ_SIZE, 0)
        if n > 0:
            if n < READ_SIZE and not self.eof_seen:
                self.readable = False
            return n
        if n == 0:
            self.eof_seen = True
            return 0
        if errno == EAGAIN:
            self.readable = False
            return -1
        return -2

    cdef bint send(self, const uint8_t *data, size_t n) noexcept:
        """Send now or keep for later; False when the connection is broken."""
        if self.tls != NULL:
            return tls_send(self, data, n, NULL, 0)
        return self.send_bytes(data, n)

    @cython.final
    cdef bint send_bytes(self, const uint8_t *data, size_t n) noexcept:
        """`send` what goes on the wire as it is."""
        cdef ssize_t sent = 0
        if self.out.data == NULL:
            sent = net_send(self.fd, data, n)
            if sent == <ssize_t>n:
                return True
            if sent < 0:
                if errno != EAGAIN:
                    return False
                sent = 0
        return buffer_append(&self.out, data + sent, n - sent)

    cdef bint send2(self, const uint8_t *a, size_t an, const uint8_t *b, size_t bn) noexcept:
        cdef ssize_t sent = 0
        if bn == 0:
            return self.send(a, an)
        if self.tls != NULL:
            return tls_send(self, a, an, b, bn)
        if self.out.data == NULL:
            sent = net_send2(self.fd, a, an, b, bn)
            if sent == <ssize_t>(an + bn):
                return True
            if sent < 0:
                if errno != EAGAIN:
                    return False
                sent = 0
        if sent < <ssize_t>an:
            return buffer_append(&self.out, a + sent, an - sent) and buffer_append(&self.out, b, bn)
        return buffer_append(&self.out, b + (sent - an), bn - (sent - an))

    cdef bint flush(self) noexcept:
        """Send what waits; False when the connection is broken."""
        cdef ssize_t sent
        while self.out.data != NULL:
            sent = net_send(self.fd, buffer_ptr(&self.out), buffer_len(&self.out))
            if sent < 0:
                return errno == EAGAIN
            buffer_consume(&self.out, sent)
        return True

    @cython.final
    cdef bint quiet(self) noexcept:
        """True when a pooled connection has neither been closed nor sent anything that matters."""
        return net_quiet(self.fd) if self.tls == NULL else tls_quiet(self)

    @cython.final
    cdef void end_output(self) noexcept:
        """Nothing more will be sent; reading goes on."""
        tls_end(self)
        shutdown(self.fd, SHUT_WR)

    cdef void close_socket(self) noexcept:
        cdef int fd = self.fd
        buffer_clear(&self.out)
        tls_drop(self)
        wheel_unlink(&self.timer)
        if fd >= 0:
            self.fd = -1
            close(fd)
            self.reactor.forget(self, fd)


@cython.final
cdef class Reactor:
    """The readiness set, the timer wheel and the shared read buffer of a worker."""

    def __cinit__(self):
        self.poller = -1
        self.storage = <uint8_t *>malloc(HEADROOM + READ_SIZE)
        if self.storage == NULL:
            raise MemoryError()
        self.input = self.storage + HEADROOM
        wheel_init(&self.wheel)

    def __init__(self, loop):
        self.loop = loop
        self.later = []
        self.poller = poller_open()
        if self.poller < 0:
            raise OSError(errno, "cannot open a readiness set")
        self.wheel_base_ns = net_now_ns()
        self.now = self.wheel.tick
        loop.add_reader(self.poller, self.run_batches)
        self.timer_handle = loop.call_later(TICK_MS * 0.001, self.turn_wheel)

    def __dealloc__(self):
        if self.poller >= 0:
            close(self.poller)
        free(self.storage)
        free(self.table)

    cdef bint register(self, Stream s, bint listener=False) noexcept:
        cdef size_t size
        cdef void **grown
        cdef int failed
        if <size_t>s.fd >= self.table_size:
            size = max(<size_t>256, 2 * (<size_t>s.fd + 1))
            grown = <void **>realloc(self.table, size * sizeof(void *))
            if grown == NULL:
                return False
            memset(grown + self.table_size, 0, (size - self.table_size) * sizeof(void *))
            self.table = grown
            self.table_size = size
        self.next_token += 1
        s.token = self.next_token
        failed = poller_add_listener(self.poller, s.fd, s.token) if listener \
            else poller_add(self.poller, s.fd, s.token)
        if failed:
            return False
        Py_INCREF(s)
        self.table[s.fd] = <void *>s
        s.registered = True
        return True

    cdef void forget(self, Stream s, int fd) noexcept:
        """The kernel drops a closed descriptor from the set by itself; the table must not keep the stream."""
        if s.registered:
            s.registered = False
            self.table[fd] = NULL
            Py_DECREF(s)  # every callback is entered with a reference of its own: this is not the last

    cdef void defer(self, Stream s) noexcept:
        if not s.deferred:
            s.deferred = True
            self.later.append(s)

    def run_batches(self):
        """Handle what is ready; called by the event loop when the readiness set is.

        Under load something is ready again within microseconds: waiting for it here, up to a millisecond, costs
        a third of going back through the event loop, whose other work (timers of 100 ms, control messages) can
        stand that delay.
        """
        cdef int round
        cdef int wait_ms = 0
        for round in range(ROUNDS):
            if not self.handle_batch(wait_ms) and not self.later:
                return
            if self.later:
                self.run_later()
            wait_ms = 0 if self.later else 1

    cdef bint handle_batch(self, int wait_ms) noexcept:
        """One look at the readiness set; False when nothing is ready."""
        cdef net_event events[NET_BATCH]
        cdef int n, i
        if wait_ms:
            with nogil:  # an embedding program has other threads
                n = poller_wait(self.poller, events, wait_ms)
        else:
            n = poller_wait(self.poller, events, 0)
        self.look_at_clock()
        # All are marked before the first is handled: what it does may concern one that stands later in the batch.
        for i in range(n):
            self.mark(events[i].fd, events[i].token, events[i].mask)
        for i in range(n):
            self.dispatch(events[i].fd, events[i].token, events[i].mask)
        return n > 0

    cdef void look_at_clock(self) noexcept:
        self.now = 1 + (net_now_ns() - self.wheel_base_ns) // (TICK_MS * 1_000_000)

    cdef void mark(self, int fd, uint32_t token, uint32_t mask) noexcept:
        cdef Stream s
        if <size_t>fd < self.table_size and self.table[fd] != NULL:
            s = <Stream>self.table[fd]
            if s.token == token:
                if mask & NET_EOF:
                    s.eof_seen = True
                if mask & NET_READ:
                    s.readable = True

    cdef void dispatch(self, int fd, uint32_t token, uint32_t mask) noexcept:
        cdef Stream s
        cdef void *found
        if <size_t>fd >= self.table_size:
            return
        found = self.table[fd]
        if found == NULL:
            return
        s = <Stream>found  # holds a reference through the callbacks
        if s.token != token:
            return
        if mask & NET_WRITE:
            s.on_writable()
        if s.fd < 0 or s.token != token:
            return
        if mask & NET_HANGUP:
            s.on_hangup()
        elif mask & NET_READ:
            s.on_readable()

    cdef void run_later(self) noexcept:
        cdef list batch = self.later
        cdef Stream s
        self.later = []
        for s in batch:
            s.deferred = False
            if s.fd >= 0:
                s.on_readable()
        self.come_back()

    cdef void come_back(self) noexcept:
        """The loop must look at `later` although the kernel reports nothing new: once, however often this is reached."""
        if self.later and not self.resuming:
            self.resuming = True
            self.loop.call_soon(self.resume)

    def resume(self):
        self.resuming = False
        if self.later:
            self.run_later()

    def turn_wheel(self):
        """Move the wheel up to now; called each TICK_MS by the event loop."""
        self.timer_handle = self.loop.call_later(TICK_MS * 0.001, self.turn_wheel)
        # What has come counts before what has not: after a standstill both are found at once.
        self.handle_batch(0)
        if self.now > self.wheel.tick + SLOTS:
            self.wheel.tick = self.now - SLOTS  # a whole turn looks at every slot
        while self.wheel.tick < self.now:
            self.wheel.tick += 1
            self.expire(&self.wheel.slots[self.wheel.tick % SLOTS])
        if self.on_tick is not None:
            self.on_tick()
        if self.later:
            self.run_later()

    cdef void expire(self, TimerNode *head) noexcept:
        cdef TimerNode due
        cdef TimerNode *t
        cdef Stream s
        # Taken out as a whole first: a callback may link into this very slot.
        if head.next == head:
            return
        due.next = head.next
        due.prev = head.prev
        due.next.prev = &due
        due.prev.next = &due
        head.next = head
        head.prev = head
        while due.next != &due:
            t = due.next
            wheel_unlink(t)
            if t.deadline > self.now:
                wheel_link(&self.wheel, t)
            else:
                s = <Stream>t.owner
                s.on_timer()

    cdef void shut(self) noexcept:
        if self.poller >= 0:
            self.loop.remove_reader(self.poller)
            self.timer_handle.cancel()
