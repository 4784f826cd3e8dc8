/* The C face of the Rust core, as the Cython data plane calls it.
 *
 * `_core._C_API` is a capsule holding one `hs_api`. Its twin is rust/src/capi.rs: both state the same
 * layout, and `abi` + `exchange_size` are compared when the module is imported.
 *
 * Rules of the calls: none blocks, none touches a Python object, and none allocates but for the gateway's own
 * answers.
 * What `hs_out` points to belongs to the worker and is valid until the next call with the same worker.
 */
#ifndef HOTSWAP_CORE_API_H
#define HOTSWAP_CORE_API_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HS_ABI 5
#define HS_PROXY_HEADER 2048

typedef struct hs_worker hs_worker;
typedef struct hs_tls hs_tls; /* one TLS connection */

typedef struct {
    uint8_t *ptr;
    size_t len;
} hs_out;

/* How the end of a body is known (RFC 9112 section 6). */
enum { HS_BODY_NONE = 0, HS_BODY_LENGTH = 1, HS_BODY_CHUNKED = 2, HS_BODY_CLOSE = 3 };

/* What `begin` and `respond` want done next. */
enum {
    HS_MORE = 0,    /* the head is not complete: call again with more bytes */
    HS_FORWARD = 1, /* send `out` to the other side, then the body */
    HS_REPLY = 2,   /* send `out` to the client: the gateway answers itself */
    HS_INTERIM = 3, /* send `out` (1xx, may be empty) to the client; another head follows */
    HS_SWITCH = 4,  /* send `out` to the client; both directions are opaque from here on (101) */
    HS_BAD = 5,     /* the backend's head is malformed: refuse with HS_WHY_BAD_RESPONSE */
    HS_RETRY = 6,   /* the attempt came to nothing, another is to be made: `again` after `delay_ms` */
    HS_COLLECT = 7, /* read the whole body, at most `collect` bytes, then ask `collected` */
    HS_CALL = 8,    /* `out` describes the request: a middleware decides about it */
    HS_CAPTURE = 9, /* `out` and the body that follows are a middleware's, not the client's */
};

/* Why the gateway answers instead of the backend (`refuse`). */
enum {
    HS_WHY_CONNECT_FAILED = 0,
    HS_WHY_CONNECT_TIMEOUT = 1,
    HS_WHY_POOL_FULL = 2,
    HS_WHY_BACKEND_CLOSED = 3,
    HS_WHY_BACKEND_TIMEOUT = 4,
    HS_WHY_BAD_RESPONSE = 5,
    HS_WHY_REQUEST_TOO_LARGE = 6,
    HS_WHY_RESPONSE_TOO_LARGE = 7,
    HS_WHY_BAD_REQUEST_BODY = 8,
    HS_WHY_REQUEST_TIMEOUT = 9,
    HS_WHY_NO_SOCKET = 10,
    HS_WHY_NO_BACKEND = 11,
    HS_WHY_MIDDLEWARE_FAILED = 12,
    HS_WHY_MIDDLEWARE_TIMEOUT = 13,
    HS_WHY_TLS_FAILED = 14,
    /* no answers of `refuse`: only for `why` of an exchange */
    HS_WHY_CLIENT_SLOW = 15,
    HS_WHY_STREAM_IDLE = 16,
    HS_WHY_STOPPED = 17,
    HS_WHY_INTERNAL = 18,
};

/* Not a status: `reject` answers 400 and says that this port speaks TLS. */
enum { HS_PLAIN_HTTP = 497 };

/* What `tls_read` found out. */
enum {
    HS_TLS_READY = 1,      /* the handshake is complete */
    HS_TLS_CLOSED = 2,     /* close_notify: nothing more will come */
    HS_TLS_FAILED = 4,     /* of no more use; `out` has the alert to be sent */
    HS_TLS_PLAIN_HTTP = 8, /* failed, because what came is no TLS but letters */
    HS_TLS_UNEXPECTED = 16 /* there was plaintext, and nobody wanted any */
};

/* How an exchange ended, for the conservation ledger (`finish`). */
enum { HS_COMPLETED = 0, HS_ABORTED = 1 };

typedef struct {
    char ip[46]; /* text form, as it stands in X-Forwarded-For */
    uint8_t ip_len;
    uint8_t tls;
    uint8_t trusted; /* its claims about the client are believed */
    uint32_t seat;   /* core's own: to be given back by `part`; 0: none */
    uint64_t key;    /* hash of the address, for IPHash */
    uint64_t client; /* the client as limits see it */
} hs_peer;

/* What `chunked` writes: chunks again; data only; chunks, but no trailers. */
enum { HS_RECHUNK = 0, HS_PLAIN = 1, HS_BARE = 2 };

/* State of one chunked body; all zero at its start. */
typedef struct {
    uint64_t words[6];
} hs_chunked;

typedef struct {
    /* decided by the core; the data plane only reads */
    uint64_t generation;
    uint64_t request_length;
    uint64_t response_length;
    uint64_t max_request_body;
    uint64_t max_response_body;
    uint64_t tried;
    uint64_t started_ns;
    uint64_t answered_ns;
    uint32_t row;
    uint32_t series;
    uint32_t backend;     /* state slot: the key of its connection pool */
    uint32_t incarnation; /* of that slot */
    uint32_t timeout_ms;
    uint32_t connect_ms;
    uint32_t read_ms;
    uint32_t write_ms;
    uint32_t pool_min;
    uint32_t pool_max;
    uint32_t pool_idle_ms;
    uint32_t pool_wait_ms;
    uint32_t head_len; /* bytes of the input that the parsed head took */
    uint32_t seen;     /* length of the input when its head was last found incomplete; told by the data plane */
    uint16_t status;
    uint8_t address[28]; /* struct sockaddr_in or sockaddr_in6 */
    uint8_t address_len;
    uint8_t phase; /* core's own: what is still to be given back */
    uint8_t method;
    uint8_t minor_version;
    uint8_t head_request;
    uint8_t idempotent;
    uint8_t expect_continue;
    uint8_t accepts_json;
    uint8_t upgrade;
    uint8_t request_framing;
    uint8_t response_framing; /* as the backend sends it */
    uint8_t client_framing;   /* as the client gets it */
    uint8_t client_keep_alive;
    uint8_t upstream_keep_alive;
    uint8_t endless; /* the answer is an event stream: only idle time bounds it */
    uint8_t failed;  /* counts as a failure of the backend */
    uint8_t request_id_len;
    char request_id[128];
    uint32_t route;    /* core's own, like what follows but for what is said otherwise: see rust/src/exchange/attempt.rs */
    uint32_t delay_ms; /* how long to wait before `again` */
    struct {
        uint32_t timeout_ms;
        uint16_t threshold;
        uint16_t trials;
    } breaker;
    uint32_t streak;
    uint16_t trial;
    uint8_t attempts;
    uint8_t moves;
    uint8_t settled;
    uint8_t alternatives;
    uint8_t retries;
    uint8_t keep_head; /* a head for another backend is another one: `again` wants the client's */
    uint8_t resend;    /* told by the data plane: all that was sent is at hand, and the client has got nothing */
    uint64_t collect; /* most bytes of the request body that are collected */
    uint8_t awaited;  /* a middleware waits for the backend's answer: `respond` and `refuse` answer it */
    uint8_t cut_trailers; /* the request's trailers end here: HS_BARE instead of HS_RECHUNK */
    uint64_t tls;   /* 0: plain; else which TLS settings connections to the backend must have been made with */
    uint8_t secure; /* the client came over TLS; told by the data plane before `reject` */
    void *extras; /* core's own: what the policies of the route keep */
    uint32_t arm; /* core's own: see rust/src/exchange/arm.rs */
    uint8_t judged;
    /* told by the data plane */
    uint8_t draining; /* before `begin`: the connection must not go on after this exchange */
    uint8_t waited;   /* the request waited for a connection: that time is not the gateway's own */
    uint8_t why;      /* before `finish`, of an exchange cut by the gateway: 1 + HS_WHY_… */
    uint8_t resent;   /* a pooled connection had been closed: the request was sent again on a new one */
    uint64_t sent_ns;
    void *entry; /* core's own: what is noted for the journal */
} hs_exchange;

typedef struct {
    uint32_t abi;
    uint32_t exchange_size;
    int (*begin)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t now_ns, const uint8_t *buf, size_t len,
                 hs_out *out);
    int (*respond)(hs_worker *, hs_exchange *, uint64_t now_ns, int request_done, const uint8_t *buf, size_t len,
                   hs_out *out);
    /* Opens an exchange for bytes that never became a request (malformed, too slow) and answers `status`.
     * Here and in `refuse` nothing is written when the core failed: close the connection. */
    void (*reject)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t now_ns, int status, hs_out *out);
    void (*refuse)(hs_worker *, hs_exchange *, uint64_t now_ns, int why, int close, hs_out *out);
    /* The bytes are those of the two bodies that passed through the data plane. */
    void (*finish)(hs_worker *, hs_exchange *, int outcome, uint64_t now_ns, uint64_t request_bytes,
                   uint64_t response_bytes);
    /* One step through a chunked body: writes what goes on to `out`, as `mode` says (HS_RECHUNK, …).
     * Returns 0: wants more, 1: the body ended, -1: malformed. `data` counts body bytes. */
    int (*chunked)(hs_worker *, hs_chunked *, const uint8_t *buf, size_t len, int mode, size_t *consumed,
                   size_t *data, hs_out *out);
    void (*peer)(const void *sockaddr, size_t len, hs_peer *peer);
    void (*connection)(hs_worker *, int opened); /* a client connection was opened, or closed */
    void (*upstream_idle)(hs_worker *, int delta);
    /* Of a backend slot as it is now: another than an exchange brought means that its backend is gone. */
    uint32_t (*incarnation)(hs_worker *, uint32_t slot);
    /* A connection was accepted; 0: close it, its peer may have no more, or may not speak for others. */
    int (*greet)(hs_worker *, hs_peer *, int proxy_protocol, uint64_t now_ns);
    /* Reads the PROXY header at the start of a connection (at most HS_PROXY_HEADER bytes) and makes the peer
     * the client that it names. Returns its length; 0: wants more; -1: close the connection. */
    ssize_t (*proxied)(hs_worker *, hs_peer *, uint64_t now_ns, const uint8_t *buf, size_t len);
    void (*part)(hs_worker *, hs_peer *);  /* the connection of a peer that was welcome is gone */
    void (*turned_away)(hs_worker *);      /* a connection was closed because the worker has enough */
    /* After an attempt that failed for `why`, while its answer has not begun: HS_FORWARD: go on to the backend
     * chosen now; HS_RETRY: wait, then call with `why` -1; HS_BAD: no more, `refuse`. With HS_FORWARD, `out` is the
     * head for the backend; empty: the one before is still right. `buf` is the client's head, empty without
     * `keep_head`. */
    int (*again)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t now_ns, int why, const uint8_t *buf,
                 size_t len, hs_out *out);
    /* After HS_COLLECT: `head` as `begin` took it, and the whole body. HS_FORWARD (send `out` and the body),
     * HS_REPLY or HS_CALL. */
    int (*collected)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t now_ns, const uint8_t *head, size_t head_len,
                     const uint8_t *body, size_t body_len, hs_out *out);
    /* After HS_CALL: the middleware sends this request on. HS_FORWARD, HS_REPLY (`out` is its answer), or HS_BAD:
     * no request; `out` says why. */
    int (*proceed)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t now_ns, const uint8_t *head, size_t head_len,
                   size_t body_len, hs_out *out);
    /* After HS_CALL: the middleware's answer, whose head this is. HS_FORWARD: send `out`, then `response_length`
     * bytes of body; HS_BAD: no answer. */
    int (*conclude)(hs_worker *, hs_exchange *, uint64_t now_ns, const uint8_t *head, size_t len, hs_out *out);
    /* A new connection of a client, or to the backend with the settings `tls` of an exchange that `begin` has
     * just decided. NULL: there are no certificates, or the settings are of no use. */
    hs_tls *(*tls_server)(hs_worker *);
    hs_tls *(*tls_client)(hs_worker *, uint64_t tls);
    void (*tls_free)(hs_tls *);
    /* Where to receive ciphertext for the next `tls_read` of this connection. */
    void (*tls_room)(hs_worker *, hs_tls *, hs_out *room);
    /* Takes `len` bytes that stand in that room. `*plain_len` is the room at `plain` (at least as much as
     * tls_room can give; NULL: none is expected), then the plaintext's length. `out` is to be sent. */
    int (*tls_read)(hs_worker *, hs_tls *, size_t len, uint8_t *plain, size_t *plain_len, hs_out *out);
    /* Encrypts two pieces; 0 when the connection can send no more. */
    int (*tls_write)(hs_worker *, hs_tls *, const uint8_t *a, size_t an, const uint8_t *b, size_t bn, hs_out *out);
    /* close_notify, if there is one to be sent. */
    void (*tls_close)(hs_worker *, hs_tls *, hs_out *out);
} hs_api;

#endif
