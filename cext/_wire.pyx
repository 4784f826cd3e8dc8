# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, autotestdict=False
"""The data plane of one worker: sockets, buffers and the life of a connection.

Decisions are the core's (``_core``), called through a table of C functions: at most four calls a request
(``begin``, ``respond``, ``finish``; ``chunked`` where a body is chunked), none of which touches a Python object.
"""

from asyncio import current_task, shield
from collections import OrderedDict

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport (
    EAGAIN, ECONNABORTED, ECONNRESET, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno,
)
from libc.stdint cimport uintptr_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset
from posix.unistd cimport close

from core_api cimport *

from hotswap_proxy import _core


cdef extern from "net.h" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        pass
    enum:
        NET_READ, NET_WRITE, NET_EOF, NET_HANGUP, NET_BATCH, SHUT_WR, MSG_PEEK
    ctypedef struct net_event:
        int fd
        uint32_t token
        uint32_t mask
    ssize_t net_recv(int fd, void *data, size_t n, int flags)
    ssize_t net_send(int fd, const void *data, size_t n)
    int shutdown(int fd, int how)
    uint64_t net_now_ns()
    int net_prepare(int fd)
    void net_nodelay(int fd)
    int net_accept(int fd, sockaddr *address, socklen_t *length)
    int net_socket(int family)
    int net_connect(int fd, const void *address, socklen_t length)
    int net_connect_error(int fd)
    bint net_quiet(int fd)
    void net_reset_on_close(int fd)
    ssize_t net_send2(int fd, const void *a, size_t an, const void *b, size_t bn)
    int poller_open()
    int poller_add(int poller, int fd, uint32_t token)
    int poller_add_listener(int poller, int fd, uint32_t token)
    void poller_remove(int poller, int fd)
    int poller_wait(int poller, net_event *events, int wait_ms)


cdef const hs_api *api = <const hs_api *>PyCapsule_GetPointer(_core._C_API, b"hotswap_proxy._core._C_API")
if api.abi != HS_ABI or api.exchange_size != sizeof(hs_exchange):
    raise ImportError("hotswap_proxy._core and hotswap_proxy._wire were built from different sources")

include "buffer.pxi"
include "wheel.pxi"
include "exchange.pxi"
include "tls.pxi"
include "reactor.pxi"
include "upstream.pxi"
include "attempt.pxi"
include "edge.pxi"
include "client.pxi"
include "request.pxi"
include "collect.pxi"
include "response.pxi"
include "middleware.pxi"
include "server.pxi"
