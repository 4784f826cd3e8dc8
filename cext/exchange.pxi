# One request and its answer: what the data plane itself must remember, beside what the core decided.

cdef enum:
    SPARE_EXCHANGES = 256    # kept for the next requests; more go back to the allocator

cdef Exchange *free_exchanges = NULL
cdef int free_count = 0


cdef Exchange *exchange_new() noexcept nogil:
    """Zeroed but for the stash; NULL when memory is out."""
    global free_exchanges, free_count
    cdef Exchange *x = free_exchanges
    if x != NULL:
        free_exchanges = x.next_free
        free_count -= 1
    else:
        x = <Exchange *>malloc(sizeof(Exchange))
        if x == NULL:
            return NULL
    memset(x, 0, sizeof(Exchange) - STASH)
    return x


cdef void exchange_free(Exchange *x) noexcept nogil:
    global free_exchanges, free_count
    if x.head != x.stash:
        free(x.head)
    free(x.origin)
    if x.body.data != NULL:
        buffer_clear(&x.body)
    if free_count == SPARE_EXCHANGES:
        free(x)
        return
    free_count += 1
    x.next_free = free_exchanges
    free_exchanges = x


cdef bint exchange_keep_head(Exchange *x, const uint8_t *head, size_t n) noexcept nogil:
    x.head = x.stash
    if n > STASH:
        x.head = <uint8_t *>malloc(n)
        if x.head == NULL:
            return False
    memcpy(x.head, head, n)
    x.head_len = n
    x.body_at = n
    x.replayable = True
    return True


cdef bint exchange_keep_origin(Exchange *x, const uint8_t *head, size_t n) noexcept nogil:
    """For whoever decides again later: the head that is the request's own, in place of an earlier one."""
    free(x.origin)
    x.origin = <uint8_t *>malloc(n)
    if x.origin == NULL:
        return False
    memcpy(x.origin, head, n)
    x.origin_len = n
    return True


cdef bint exchange_replace_head(Exchange *x, const uint8_t *head, size_t n) noexcept nogil:
    """Another head before the body that was kept."""
    cdef size_t body = x.head_len - x.body_at
    cdef uint8_t *old = x.head
    cdef uint8_t *new = <uint8_t *>malloc(n + body)
    if new == NULL:
        return False
    memcpy(new, head, n)
    memcpy(new + n, old + x.body_at, body)
    if old != x.stash:
        free(old)
    x.head = new
    x.head_len = n + body
    x.body_at = n
    return True


cdef void exchange_keep_body(Exchange *x, const uint8_t *body, size_t n) noexcept nogil:
    if not x.replayable:
        return
    if x.head != x.stash or x.head_len + n > STASH:
        x.replayable = False
        return
    memcpy(x.stash + x.head_len, body, n)
    x.head_len += n


cdef size_t exchange_room(const Exchange *x) noexcept nogil:
    return STASH - x.head_len if x.head == x.stash else 0
