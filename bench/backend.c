/* A fixed-answer HTTP/1.1 server, so that the backend is never what a benchmark measures.
 *
 *   backend PORT LABEL        listens on 127.0.0.1:PORT, one thread, epoll
 *
 * Answers 128 bytes; a path that ends in /size/N answers N bytes (at most 1 MiB). Each answer names the server in
 * X-Backend: LABEL. Keeps connections alive, answers pipelined requests in order, ignores request bodies (none are
 * sent by our clients).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INPUT = 16384, EVENTS = 256, SIZES = 16, MAX_BODY = 1 << 20 };

struct answer { size_t size, length; char *bytes; };

struct conn {
    int fd, closing;
    size_t have, sent;
    const struct answer *pending; /* being sent, or NULL */
    char in[INPUT];
};

static struct answer cache[SIZES];
static const char *label;
static int poller;

/* Answers are made once per size and live for ever; a client asking for more sizes than SIZES gets the first. */
static const struct answer *answer_of(size_t size)
{
    int i = 0;
    for (; i < SIZES && cache[i].bytes; i++)
        if (cache[i].size == size) return &cache[i];
    if (i == SIZES) return &cache[0];
    char *bytes = malloc(size + 256);
    if (!bytes) exit(1);
    int head = snprintf(bytes, 256,
        "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nX-Backend: %s\r\nContent-Length: %zu\r\n\r\n",
        label, size);
    memset(bytes + head, 'x', size);
    cache[i] = (struct answer){size, (size_t)head + size, bytes};
    return &cache[i];
}

static size_t size_wanted(const char *head, size_t length)
{
    const char *line_end = memchr(head, '\r', length);
    const char *found = line_end ? memmem(head, (size_t)(line_end - head), "/size/", 6) : NULL;
    if (!found) return 128;
    unsigned long size = strtoul(found + 6, NULL, 10);
    return size > MAX_BODY ? MAX_BODY : size;
}

static void drop(struct conn *c)
{
    close(c->fd); /* also leaves the epoll set */
    free(c);
}

static void interest(struct conn *c, unsigned events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

/* Send what is pending. 1: all gone, 0: the socket is full, -1: the connection is dead. */
static int flush(struct conn *c)
{
    while (c->sent < c->pending->length) {
        ssize_t n = send(c->fd, c->pending->bytes + c->sent, c->pending->length - c->sent, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        c->sent += (size_t)n;
    }
    c->pending = NULL;
    return c->closing ? -1 : 1;
}

/* Answer every whole request in the buffer; same result as flush(). */
static int serve(struct conn *c)
{
    char *end;
    while ((end = memmem(c->in, c->have, "\r\n\r\n", 4))) {
        size_t length = (size_t)(end - c->in) + 4;
        *end = 0;
        c->closing = strcasestr(c->in, "\r\nconnection: close") != NULL;
        c->pending = answer_of(size_wanted(c->in, length));
        c->sent = 0;
        memmove(c->in, c->in + length, c->have - length);
        c->have -= length;
        int state = flush(c);
        if (state <= 0) return state;
    }
    return 1;
}

static void ready(struct conn *c, unsigned events)
{
    if (c->pending) {
        int state = flush(c);
        if (state > 0) { interest(c, EPOLLIN); state = serve(c); }
        if (state < 0) { drop(c); return; }
        if (state == 0) { interest(c, EPOLLOUT); return; }
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    ssize_t n = recv(c->fd, c->in + c->have, INPUT - 1 - c->have, 0);
    if (n <= 0) { if (n == 0 || errno != EAGAIN) drop(c); return; }
    c->have += (size_t)n;
    int state = serve(c);
    if (state < 0) drop(c);
    else if (state == 0) interest(c, EPOLLOUT);
}

int main(int argc, char **argv)
{
    if (argc != 3) { fprintf(stderr, "usage: backend PORT LABEL\n"); return 2; }
    label = argv[2];
    signal(SIGPIPE, SIG_IGN);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("backend"); return 1; }
    answer_of(128);
    poller = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) { ready(events[i].data.ptr, events[i].events); continue; }
            int fd;
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                struct conn *c = calloc(1, sizeof *c);
                if (!c) return 1;
                c->fd = fd;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                struct epoll_event added = {.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &added);
            }
        }
    }
}
