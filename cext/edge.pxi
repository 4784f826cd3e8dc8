# What a connection goes through before its first request, and how slow a client may be.

cdef void edge_accept(Server server, int fd, void *address, size_t address_len, bint speaks_tls) noexcept:
    """A connection that was accepted: its client may have it, or it is closed at once."""
    cdef Client client = Client.__new__(Client)
    client.server = server
    client.reactor = server.reactor
    client.fd = fd  # closed with the object, where this returns early
    if server.max_connections and <size_t>len(server.clients) >= server.max_connections:
        api.turned_away(server.worker)
        return
    api.peer(address, address_len, &client.peer)
    if not api.greet(server.worker, &client.peer, server.proxy_protocol, net_now_ns()):
        return
    if not edge_equip(client, speaks_tls) or not server.reactor.register(client):
        api.part(server.worker, &client.peer)
        return
    if server.proxy_protocol:
        client.state = C_PROXY
    server.clients.add(client)
    api.connection(server.worker, True)
    client.due_in(server.header_timeout_ms)
    # Most clients have sent their request by now: reading saves a turn of the readiness set.
    client.readable = True
    client.on_readable()


cdef bint edge_equip(Client c, bint speaks_tls) noexcept:
    """What is between the socket and the core."""
    if speaks_tls:
        c.peer.tls = True
        c.tls = api.tls_server(c.server.worker)
        if c.tls == NULL:
            return False  # without a certificate there is nothing to be said
    if c.server.make_request_codec is not None:
        c.codec = c.server.new_codec(c.server.make_request_codec)
        return c.codec is not None
    return True


cdef bint edge_take_proxy_header(Client c) noexcept:
    """Read the PROXY header and not a byte beyond it: what follows may be for TLS. False while it is not whole."""
    cdef uint8_t *p = c.reactor.input
    cdef ssize_t n = net_recv(c.fd, p, HS_PROXY_HEADER, MSG_PEEK)
    cdef ssize_t used = 0
    if n < 0 and errno == EAGAIN:
        c.readable = False
        return False
    if n > 0:
        used = api.proxied(c.server.worker, &c.peer, net_now_ns(), p, n)
    if n > 0 and used == 0 and not c.eof_seen:
        c.readable = False  # peeking does not take the edge away: more bytes are a new one
        return False
    if used <= 0 or net_recv(c.fd, p, used, 0) != used:
        c.close()
        return False
    return c.enter(C_IDLE)


cdef bint edge_too_slow(Client c, uint64_t moved, uint64_t window_ms) noexcept:
    """Whether a client has moved too little for a whole window; `moved` only grows.

    Timers of silence do not see one who sends or takes a byte now and then.
    """
    cdef Exchange *x = c.x
    cdef uint64_t passed = c.reactor.now - x.rate_tick
    cdef bint slow = False
    if c.server.min_transfer_rate == 0:
        return False
    if x.rate_tick:
        if passed < ticks(window_ms):
            return False
        slow = (moved - x.rate_bytes) * 1000 < c.server.min_transfer_rate * passed * TICK_MS
    x.rate_tick = c.reactor.now
    x.rate_bytes = moved
    return slow


cdef bint edge_sips(Client c) noexcept:
    """Whether a client takes what waits for it too slowly; nothing is added meanwhile."""
    if c.x == NULL:
        return False
    if c.out.data == NULL:
        c.x.rate_tick = 0
        return False
    return edge_too_slow(c, (<uint64_t>1 << 62) - buffer_len(&c.out), c.server.write_timeout_ms)
