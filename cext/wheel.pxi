# One coarse timer wheel per worker (Varghese and Lauck 1987, scheme 6): a deadline is a number on the stream, moved
# without touching the wheel while it only gets later; the wheel looks again when the old one passes.

cdef enum:
    TICK_MS = 100


cdef void wheel_init(Wheel *w) noexcept nogil:
    cdef int i
    w.tick = 1
    for i in range(SLOTS):
        w.slots[i].prev = &w.slots[i]
        w.slots[i].next = &w.slots[i]


cdef inline void wheel_unlink(TimerNode *t) noexcept nogil:
    if t.armed:
        t.prev.next = t.next
        t.next.prev = t.prev
        t.armed = 0


cdef inline void wheel_link(Wheel *w, TimerNode *t) noexcept nogil:
    cdef uint64_t due = t.deadline
    cdef TimerNode *head
    if due <= w.tick:
        due = w.tick + 1
    elif due >= w.tick + SLOTS:
        due = w.tick + SLOTS - 1
    head = &w.slots[due % SLOTS]
    t.armed = due
    t.prev = head.prev
    t.next = head
    head.prev.next = t
    head.prev = t


cdef inline void wheel_set(Wheel *w, TimerNode *t, uint64_t deadline) noexcept nogil:
    """Due at `deadline` (tick). Costs a comparison when the deadline only moves away."""
    t.deadline = deadline
    if t.armed == 0:
        wheel_link(w, t)
    elif deadline < t.armed:
        wheel_unlink(t)
        wheel_link(w, t)


cdef inline uint64_t ticks(uint64_t ms) noexcept nogil:
    """Rounded up, and one more: a timeout may come late by a step, never early."""
    return (ms + TICK_MS - 1) // TICK_MS + 1
