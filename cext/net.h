/* The few socket calls that differ between Linux and the BSDs: edge-triggered readiness, accept, no SIGPIPE. */
#ifndef HOTSWAP_NET_H
#define HOTSWAP_NET_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NET_READ = 1, NET_WRITE = 2, NET_EOF = 4, NET_HANGUP = 8 };

typedef struct {
    int fd;
    uint32_t token;
    uint32_t mask;
} net_event;

static inline uint64_t net_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int net_prepare(int fd) {
#ifdef SO_NOSIGPIPE
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one);
#endif
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) return -1;
    return fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static inline void net_nodelay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

#ifdef __linux__
#include <sys/epoll.h>

#define NET_SEND_FLAGS MSG_NOSIGNAL

static inline int net_accept(int listener, struct sockaddr *addr, socklen_t *len) {
    return accept4(listener, addr, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static inline int net_socket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

static inline int poller_open(void) { return epoll_create1(EPOLL_CLOEXEC); }

/* Both directions, edge-triggered: registered once, never modified, so that pausing a side costs no system call. */
static inline int poller_add(int poller, int fd, uint32_t token) {
    struct epoll_event e;
    e.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    e.data.u64 = (uint64_t)token << 32 | (uint32_t)fd;
    return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

/* A listening socket: level-triggered, because accepting stops before the queue is empty. */
static inline int poller_add_listener(int poller, int fd, uint32_t token) {
    struct epoll_event e;
    e.events = EPOLLIN;
    e.data.u64 = (uint64_t)token << 32 | (uint32_t)fd;
    return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
}

static inline void poller_remove(int poller, int fd) { epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL); }

#define NET_BATCH 128

static inline int poller_wait(int poller, net_event *out, int wait_ms) {
    struct epoll_event events[NET_BATCH];
    int i, n = epoll_wait(poller, events, NET_BATCH, wait_ms);
    for (i = 0; i < n; i++) {
        uint32_t e = events[i].events;
        out[i].fd = (int)(events[i].data.u64 & 0xffffffffu);
        out[i].token = (uint32_t)(events[i].data.u64 >> 32);
        out[i].mask = (e & EPOLLIN ? NET_READ : 0) | (e & EPOLLOUT ? NET_WRITE : 0) |
                      (e & EPOLLRDHUP ? NET_EOF | NET_READ : 0) |
                      (e & (EPOLLHUP | EPOLLERR) ? NET_HANGUP | NET_EOF | NET_READ : 0);
    }
    return n;
}

#else
#include <sys/event.h>

#ifdef MSG_NOSIGNAL
#define NET_SEND_FLAGS MSG_NOSIGNAL
#else
#define NET_SEND_FLAGS 0
#endif

static inline int net_accept(int listener, struct sockaddr *addr, socklen_t *len) {
    int fd = accept(listener, addr, len);
    if (fd >= 0 && net_prepare(fd) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline int net_socket(int family) {
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0 && net_prepare(fd) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline int poller_open(void) { return kqueue(); }

static inline int poller_add(int poller, int fd, uint32_t token) {
    struct kevent changes[2];
    EV_SET(&changes[0], fd, EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, (void *)(uintptr_t)token);
    EV_SET(&changes[1], fd, EVFILT_WRITE, EV_ADD | EV_CLEAR, 0, 0, (void *)(uintptr_t)token);
    return kevent(poller, changes, 2, NULL, 0, NULL);
}

static inline int poller_add_listener(int poller, int fd, uint32_t token) {
    struct kevent change;
    EV_SET(&change, fd, EVFILT_READ, EV_ADD, 0, 0, (void *)(uintptr_t)token);
    return kevent(poller, &change, 1, NULL, 0, NULL);
}

static inline void poller_remove(int poller, int fd) {
    struct kevent change;
    EV_SET(&change, fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
    kevent(poller, &change, 1, NULL, 0, NULL);
    EV_SET(&change, fd, EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
    kevent(poller, &change, 1, NULL, 0, NULL);
}

#define NET_BATCH 128

static inline int poller_wait(int poller, net_event *out, int wait_ms) {
    struct kevent events[NET_BATCH];
    struct timespec wait = {0, wait_ms * 1000000};
    int i, n = kevent(poller, NULL, 0, events, NET_BATCH, &wait);
    for (i = 0; i < n; i++) {
        out[i].fd = (int)events[i].ident;
        out[i].token = (uint32_t)(uintptr_t)events[i].udata;
        out[i].mask = (events[i].filter == EVFILT_READ ? NET_READ : NET_WRITE) |
                      (events[i].flags & EV_EOF && events[i].filter == EVFILT_READ ? NET_EOF : 0) |
                      (events[i].flags & EV_ERROR || (events[i].flags & EV_EOF && events[i].fflags)
                           ? NET_HANGUP | NET_EOF | NET_READ
                           : 0);
    }
    return n;
}
#endif

/* 0: connected, 1: in progress, -1: failed at once (errno). */
static inline int net_connect(int fd, const void *addr, socklen_t len) {
    if (connect(fd, (const struct sockaddr *)addr, len) == 0) return 0;
    return errno == EINPROGRESS || errno == EINTR ? 1 : -1;
}

static inline int net_connect_error(int fd) {
    int error = 0;
    socklen_t len = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) return errno;
    return error;
}

/* An interrupted call is made again here: readiness is edge-triggered, nobody would come back for it. */
static inline ssize_t net_recv(int fd, void *data, size_t n, int flags) {
    ssize_t got;
    do got = recv(fd, data, n, flags);
    while (got < 0 && errno == EINTR);
    return got;
}

static inline ssize_t net_send(int fd, const void *data, size_t n) {
    ssize_t sent;
    do sent = send(fd, data, n, NET_SEND_FLAGS);
    while (sent < 0 && errno == EINTR);
    return sent;
}

static inline ssize_t net_send2(int fd, const void *a, size_t an, const void *b, size_t bn) {
    struct iovec parts[2] = {{(void *)a, an}, {(void *)b, bn}};
    struct msghdr m = {0};
    ssize_t sent;
    m.msg_iov = parts;
    m.msg_iovlen = 2;
    do sent = sendmsg(fd, &m, NET_SEND_FLAGS);
    while (sent < 0 && errno == EINTR);
    return sent;
}

/* True when a pooled connection has neither been closed nor sent anything (one MSG_PEEK). */
static inline int net_quiet(int fd) {
    char byte;
    return net_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/* What follows is a reset, not an end of stream: a peer that reads to the end learns that it is not the end. */
static inline void net_reset_on_close(int fd) {
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

#endif
