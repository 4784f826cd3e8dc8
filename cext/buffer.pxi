# Bytes that wait: malloc'ed only while something waits, so that an idle connection owns none.

cdef inline size_t buffer_len(const Buffer *b) noexcept nogil:
    return b.end - b.start


cdef inline uint8_t *buffer_ptr(const Buffer *b) noexcept nogil:
    return b.data + b.start


cdef void buffer_clear(Buffer *b) noexcept nogil:
    free(b.data)
    memset(b, 0, sizeof(Buffer))


cdef bint buffer_append(Buffer *b, const uint8_t *data, size_t n) noexcept nogil:
    """False when memory is out: the caller closes the connection."""
    cdef size_t live = b.end - b.start
    cdef size_t wanted
    cdef uint8_t *grown
    if b.capacity - b.end < n:
        if b.start:
            memmove(b.data, b.data + b.start, live)
            b.start = 0
            b.end = live
        if b.capacity - live < n:
            wanted = max(live + n, 2 * b.capacity)
            grown = <uint8_t *>realloc(b.data, wanted)
            if grown == NULL:
                return False
            b.data = grown
            b.capacity = wanted
    memcpy(b.data + b.end, data, n)
    b.end += n
    return True


cdef void buffer_consume(Buffer *b, size_t n) noexcept nogil:
    b.start += n
    if b.start == b.end:
        buffer_clear(b)
