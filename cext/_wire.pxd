# The classes of the data plane, their fields grouped by lifetime, and who may call what.
#
#   Reactor   readiness set, timer wheel, shared read buffer            (one per worker)
#   Server    settings, pools, clients; the face towards Python         (one per worker)
#   Client    one client connection and its current exchange
#   Upstream  one connection to a backend, lent to one Client at a time
#   Pool      this worker's connections to one backend

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from core_api cimport hs_api, hs_chunked, hs_exchange, hs_out, hs_peer, hs_tls, hs_worker


cdef struct Buffer:
    uint8_t *data       # NULL: empty
    size_t start
    size_t end
    size_t capacity


cdef enum:
    SLOTS = 1024        # of the timer wheel: horizon of 102 s; a later deadline is looked at once per turn
    STASH = 4000        # bytes of head and small body kept until an answer begins


cdef struct TimerNode:
    TimerNode *prev
    TimerNode *next
    void *owner         # Stream, borrowed: it leaves the wheel before it dies
    uint64_t deadline   # tick at which it is due
    uint64_t armed      # tick at which the wheel will look; 0: not in the wheel


cdef struct Wheel:
    TimerNode slots[SLOTS]
    uint64_t tick


cdef struct Exchange:
    hs_exchange core
    hs_chunked request_chunks
    hs_chunked response_chunks
    uint64_t request_left     # body bytes still to come from the client (HS_BODY_LENGTH)
    uint64_t response_left
    uint64_t request_bytes
    uint64_t response_bytes
    uint64_t due              # tick at which the whole exchange times out
    uint8_t *head             # what was sent to the backend: `stash`, or malloc'ed when larger
    size_t head_len
    uint64_t rate_tick        # since when the client's rate is watched; 0: it is not
    uint64_t rate_bytes       # what it had moved by then
    size_t body_at            # where in `head` the small body begins
    uint8_t *origin           # the client's own head, where it will be read again; or NULL
    size_t origin_len
    Buffer body               # a request body that was collected: sent after `head`, as often as that is
    bint request_open         # the request body has not ended
    bint replayable           # `head` and `body` are all that was sent
    bint replayed
    uint32_t interims         # answers of status 1xx so far
    bint cut                  # the gateway ended the answer before it was whole
    Exchange *next_free
    uint8_t stash[STASH]


cdef class Stream:
    cdef Reactor reactor
    cdef int fd               # -1: closed
    cdef uint32_t token
    cdef bint registered
    cdef bint readable        # an edge came and no read has come up short since
    cdef bint eof_seen        # the peer has closed its side: read on until 0
    cdef bint deferred
    cdef Buffer out           # bytes that the socket did not take
    cdef TimerNode timer
    cdef hs_tls *tls          # NULL: plain
    cdef uint8_t tls_state    # HS_TLS_… of the last read
    cdef bint truncated       # it ended without close_notify

    cdef void on_readable(self) noexcept
    cdef void on_writable(self) noexcept
    cdef void on_hangup(self) noexcept
    cdef void on_timer(self) noexcept
    cdef bint blocked(self) noexcept
    cdef void due_in(self, uint64_t ms) noexcept
    cdef ssize_t receive(self) noexcept
    cdef bint send(self, const uint8_t *data, size_t n) noexcept
    cdef bint send_bytes(self, const uint8_t *data, size_t n) noexcept
    cdef bint send2(self, const uint8_t *a, size_t an, const uint8_t *b, size_t bn) noexcept
    cdef bint flush(self) noexcept
    cdef bint quiet(self) noexcept
    cdef void end_output(self) noexcept
    cdef void close_socket(self) noexcept


@cython.final
cdef class Reactor:
    cdef int poller
    cdef hs_worker *worker
    cdef uint8_t *storage
    cdef uint8_t *input       # storage + HEADROOM
    cdef void **table         # fd → Stream (owned reference) or NULL
    cdef size_t table_size
    cdef uint32_t next_token
    cdef Wheel wheel
    cdef uint64_t wheel_base_ns
    cdef uint64_t now         # tick of the clock, where `wheel.tick` is how far the wheel has turned
    cdef list later           # streams with work left, served after the batch
    cdef bint resuming        # the event loop will come back for them
    cdef object loop
    cdef object timer_handle
    cdef object on_tick       # called each turn of the wheel

    cdef bint register(self, Stream s, bint listener=*) noexcept
    cdef void forget(self, Stream s, int fd) noexcept
    cdef void defer(self, Stream s) noexcept
    cdef void dispatch(self, int fd, uint32_t token, uint32_t mask) noexcept
    cdef void run_later(self) noexcept
    cdef void look_at_clock(self) noexcept
    cdef void come_back(self) noexcept
    cdef bint handle_batch(self, int wait_ms) noexcept
    cdef void mark(self, int fd, uint32_t token, uint32_t mask) noexcept
    cdef void expire(self, TimerNode *head) noexcept
    cdef void shut(self) noexcept


@cython.final
cdef class Upstream(Stream):
    cdef Pool pool
    cdef Client client
    cdef Buffer inb           # a response head that is not complete
    cdef uint8_t state
    cdef bint reused          # it has served an exchange before: it may be stale
    cdef bint answered        # a byte of an answer came in this exchange
    cdef object codec         # a second parser in front (--http httptools), or None


@cython.final
cdef class Pool:
    cdef Server server
    cdef uint32_t incarnation
    cdef uint32_t open        # connecting, busy and idle
    cdef uint32_t limit
    cdef uint32_t keep        # idle connections that do not expire
    cdef uint32_t idle_ms
    cdef uint64_t tls         # which TLS settings its connections were made with; 0: plain
    cdef uint64_t used        # tick of the last request
    cdef Pool sibling         # another pool of the same backend, with other TLS settings
    cdef bint retired         # its backend has left the configuration
    cdef list idle            # most recently used last
    cdef object waiting       # Clients in the order in which they came (an OrderedDict as a set)

    cdef void configure(self, const hs_exchange *ex) noexcept
    cdef Upstream take(self, bint replayable)
    cdef bint connect(self, Client client) noexcept
    cdef void connected(self, Upstream up, int error) noexcept
    cdef void connect_over(self, Upstream up, int why) noexcept
    cdef void ready(self, Upstream up) noexcept
    cdef void put(self, Upstream up) noexcept
    cdef void serve_waiting(self) noexcept
    cdef void drop(self, Upstream up) noexcept
    cdef void close(self, Upstream up) noexcept
    cdef void retire_all(self) noexcept
    cdef void release(self, Upstream up) noexcept
    cdef void expire_idle(self, Upstream up) noexcept
    cdef void retire(self) noexcept


@cython.final
cdef class Client(Stream):
    # connection
    cdef Server server
    cdef hs_peer peer
    cdef Buffer inb           # input that can't be taken yet
    cdef uint8_t state
    cdef bint input_over      # all of the input has been read
    cdef uint32_t head_seen   # bytes of an incomplete head that were looked at
    cdef object codec         # a second parser in front (--http httptools), or None
    cdef bint passing         # the codec holds back what it gets until it is known which protocol it is
    cdef size_t held          # bytes it holds, at most
    # exchange
    cdef Exchange *x          # NULL between requests
    cdef Upstream upstream
    cdef Pool queued_in       # the pool in whose queue it waits
    cdef Call call            # the request is in a middleware's hands

    cdef bint enter(self, uint8_t state) noexcept
    # input
    cdef bint input_held(self) noexcept
    cdef void received(self, const uint8_t *p, size_t n) noexcept
    cdef void take_held(self) noexcept
    cdef void take_waiting_input(self) noexcept
    cdef size_t consume(self, const uint8_t *p, size_t n) noexcept
    cdef void head_begins(self) noexcept
    cdef void input_ended(self) noexcept
    # while its backend has it
    cdef bint body_is_due(self) noexcept
    cdef void progress(self) noexcept
    cdef void upstream_drained(self) noexcept
    cdef void upstream_write_failed(self) noexcept
    # the end of an exchange
    cdef void answered(self, hs_out *out) noexcept
    cdef void refuse(self, int why) noexcept
    cdef void reject(self, int status) noexcept
    cdef void tls_refused(self) noexcept
    cdef void exchange_done(self) noexcept
    cdef void end_exchange(self, int outcome) noexcept
    cdef void close(self) noexcept


@cython.final
cdef class Call:
    cdef Client client        # None: the exchange has ended
    cdef object task          # of the middleware
    cdef object waiter        # Future of the backend's answer
    cdef Buffer captured      # of that answer
    cdef readonly bytes description
    cdef readonly bytes body


@cython.final
cdef class Listener(Stream):
    cdef Server server
    cdef bint speaks_tls

    cdef void accept(self, int most) noexcept


@cython.final
cdef class Server:
    # process
    cdef readonly object core_worker     # _core.Worker; keeps `worker` alive
    cdef hs_worker *worker
    cdef Reactor reactor
    cdef list listeners
    cdef set clients
    cdef list pools                      # state slot → Pool or None
    cdef object drained                  # Future while draining
    cdef object make_request_codec       # httptools codec factories, or None (native)
    cdef object make_response_codec
    cdef object middleware               # starts the middleware of a Call: returns its task; or None
    cdef readonly bint draining
    cdef readonly uint64_t illegal_moves
    cdef int64_t idle_upstreams
    cdef int64_t idle_upstreams_told
    cdef size_t next_pool                # whose backend is looked at next
    cdef int codec_status                # of the last refusal by a codec
    # settings
    cdef uint64_t keepalive_ms
    cdef uint64_t header_timeout_ms
    cdef uint64_t body_timeout_ms
    cdef uint64_t write_timeout_ms
    cdef uint64_t stream_idle_ms
    cdef size_t max_waiting
    cdef size_t max_connections          # 0: any number
    cdef uint64_t min_transfer_rate      # bytes per second that a client must move; 0: any
    cdef bint proxy_protocol             # connections begin with a PROXY header

    cdef Pool pool_for(self, const hs_exchange *ex)
    cdef object new_codec(self, object factory)
    cdef void begin_codec(self, object codec) noexcept
    cdef bint is_passing(self, object codec) noexcept
    cdef bytes end_passing(self, object codec, bint switched)
    cdef bytes run_codec(self, object codec, const uint8_t *p, size_t n)
    cdef void client_closed(self, Client client) noexcept
