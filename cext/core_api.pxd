from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "core_api.h" nogil:
    enum:
        HS_ABI
        HS_PROXY_HEADER
        HS_BODY_NONE, HS_BODY_LENGTH, HS_BODY_CHUNKED, HS_BODY_CLOSE
        HS_MORE, HS_FORWARD, HS_REPLY, HS_INTERIM, HS_SWITCH, HS_BAD, HS_RETRY
        HS_COLLECT, HS_CALL, HS_CAPTURE
        HS_RECHUNK, HS_PLAIN, HS_BARE
        HS_WHY_CONNECT_FAILED, HS_WHY_CONNECT_TIMEOUT, HS_WHY_POOL_FULL, HS_WHY_BACKEND_CLOSED
        HS_WHY_BACKEND_TIMEOUT, HS_WHY_BAD_RESPONSE, HS_WHY_REQUEST_TOO_LARGE, HS_WHY_RESPONSE_TOO_LARGE
        HS_WHY_BAD_REQUEST_BODY, HS_WHY_REQUEST_TIMEOUT, HS_WHY_NO_SOCKET, HS_WHY_NO_BACKEND
        HS_WHY_MIDDLEWARE_FAILED, HS_WHY_MIDDLEWARE_TIMEOUT, HS_WHY_TLS_FAILED
        HS_WHY_CLIENT_SLOW, HS_WHY_STREAM_IDLE, HS_WHY_STOPPED, HS_WHY_INTERNAL
        HS_PLAIN_HTTP
        HS_TLS_READY, HS_TLS_CLOSED, HS_TLS_FAILED, HS_TLS_PLAIN_HTTP, HS_TLS_UNEXPECTED
        HS_COMPLETED, HS_ABORTED

    ctypedef struct hs_worker:
        pass

    ctypedef struct hs_tls:
        pass

    ctypedef struct hs_out:
        uint8_t *ptr
        size_t len

    ctypedef struct hs_peer:
        char ip[46]
        uint8_t ip_len
        uint8_t tls
        uint32_t seat
        uint64_t key

    ctypedef struct hs_chunked:
        uint64_t words[6]

    ctypedef struct hs_exchange:
        uint64_t request_length, response_length
        uint64_t max_request_body, max_response_body
        uint64_t started_ns, answered_ns, sent_ns
        uint32_t backend, incarnation
        uint32_t timeout_ms, connect_ms, read_ms, write_ms
        uint32_t pool_min, pool_max, pool_idle_ms, pool_wait_ms
        uint32_t head_len
        uint32_t seen
        uint16_t status
        uint8_t address[28]
        uint8_t address_len
        uint8_t minor_version, head_request, idempotent, expect_continue, upgrade
        uint8_t request_framing, response_framing, client_framing
        uint8_t client_keep_alive, upstream_keep_alive, endless, failed
        uint32_t delay_ms
        uint8_t keep_head, resend, retries
        uint64_t collect
        uint8_t awaited, cut_trailers
        uint64_t tls
        uint8_t secure
        uint8_t draining, waited
        uint8_t why, resent

    ctypedef struct hs_api:
        uint32_t abi
        uint32_t exchange_size
        int (*begin)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t, const uint8_t *, size_t, hs_out *) noexcept
        int (*respond)(hs_worker *, hs_exchange *, uint64_t, int, const uint8_t *, size_t, hs_out *) noexcept
        void (*reject)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t, int, hs_out *) noexcept
        void (*refuse)(hs_worker *, hs_exchange *, uint64_t, int, int, hs_out *) noexcept
        void (*finish)(hs_worker *, hs_exchange *, int, uint64_t, uint64_t, uint64_t) noexcept
        int (*chunked)(hs_worker *, hs_chunked *, const uint8_t *, size_t, int, size_t *, size_t *, hs_out *) noexcept
        void (*peer)(const void *, size_t, hs_peer *) noexcept
        void (*connection)(hs_worker *, int) noexcept
        void (*upstream_idle)(hs_worker *, int) noexcept
        uint32_t (*incarnation)(hs_worker *, uint32_t) noexcept
        int (*greet)(hs_worker *, hs_peer *, int, uint64_t) noexcept
        ssize_t (*proxied)(hs_worker *, hs_peer *, uint64_t, const uint8_t *, size_t) noexcept
        void (*part)(hs_worker *, hs_peer *) noexcept
        void (*turned_away)(hs_worker *) noexcept
        int (*again)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t, int, const uint8_t *, size_t, hs_out *) noexcept
        int (*collected)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t, const uint8_t *, size_t,
                         const uint8_t *, size_t, hs_out *) noexcept
        int (*proceed)(hs_worker *, hs_exchange *, const hs_peer *, uint64_t, const uint8_t *, size_t, size_t,
                       hs_out *) noexcept
        int (*conclude)(hs_worker *, hs_exchange *, uint64_t, const uint8_t *, size_t, hs_out *) noexcept
        hs_tls *(*tls_server)(hs_worker *) noexcept
        hs_tls *(*tls_client)(hs_worker *, uint64_t) noexcept
        void (*tls_free)(hs_tls *) noexcept
        void (*tls_room)(hs_worker *, hs_tls *, hs_out *) noexcept
        int (*tls_read)(hs_worker *, hs_tls *, size_t, uint8_t *, size_t *, hs_out *) noexcept
        int (*tls_write)(hs_worker *, hs_tls *, const uint8_t *, size_t, const uint8_t *, size_t, hs_out *) noexcept
        void (*tls_close)(hs_worker *, hs_tls *, hs_out *) noexcept
