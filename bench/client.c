/* A strict keep-alive load client: no retries, and every request, failure and closed connection is recorded.
 *
 *   client PORT CONNECTIONS SECONDS RATE ROUTES OUTPUT
 *
 * RATE is requests per second over all connections, evenly spaced (0: each connection sends as soon as it has its
 * answer). ROUTES: requests go to /r0/item .. /r(ROUTES-1)/item in a fixed scrambled order. A paced request's latency counts from the
 * moment it was due, so a stall of the server is not hidden by the client waiting for it.
 *
 * OUTPUT: records of 16 bytes: u64 start (CLOCK_MONOTONIC, µs), u32 latency (µs), u16 status, u8 first letter of
 * X-Backend, u8 outcome (the enum below).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum outcome { OK, NO_ANSWER, BROKEN_ANSWER, BAD_STATUS, NO_CONNECTION, CLOSED_IDLE, CLOSED_POLITELY };
enum { INPUT = 65536, EVENTS = 256, MAX_RECORDS = 8 << 20 };

struct record { uint64_t start; uint32_t latency; uint16_t status; uint8_t backend, outcome; };

struct conn {
    int fd, busy, goodbye;      /* goodbye: the answer said Connection: close */
    uint64_t start, due;        /* µs; due: when the next paced request is to be sent */
    size_t have, body;          /* body: bytes of it still to come, once the head is read */
    int in_body;
    uint16_t status;
    uint8_t backend;
    char in[INPUT];
};

static struct record *records;
static size_t recorded;
static int poller, port, routes;
static uint64_t turn;

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void note(struct conn *c, enum outcome outcome)
{
    if (recorded == MAX_RECORDS) return;
    uint64_t now = now_us(), start = c->busy ? c->start : now;
    records[recorded++] = (struct record){start, (uint32_t)(now - start), c->status, c->backend, (uint8_t)outcome};
}

static void dial(struct conn *c)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    c->busy = c->goodbye = c->in_body = 0;
    c->have = 0;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a)) { note(c, NO_CONNECTION); close(c->fd); c->fd = -1; return; }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

static void redial(struct conn *c) { close(c->fd); dial(c); }

static void ask(struct conn *c, uint64_t start)
{
    char request[512];
    int route = (int)(turn++ * 7919u % (unsigned)routes); /* 7919 is prime: visits all, in no order */
    int length = snprintf(request, sizeof request,
        "GET /r%d/item HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench/1\r\nAccept: */*\r\n"
        "Accept-Encoding: gzip, br\r\nCookie: session=0123456789abcdef\r\n\r\n", route);
    if (c->fd < 0) dial(c);
    if (c->fd < 0) return;
    c->start = start;
    c->busy = 1;
    c->status = c->backend = 0;
    if (send(c->fd, request, (size_t)length, MSG_NOSIGNAL) != length) { note(c, NO_ANSWER); redial(c); }
}

/* Read the head in the buffer. 0: not whole yet, 1: read, -1: not an answer we can follow. */
static int read_head(struct conn *c)
{
    c->in[c->have] = 0;
    char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
    if (!end) return c->have >= INPUT - 1 ? -1 : 0;
    *end = 0;
    char *length = strcasestr(c->in, "\r\ncontent-length:"), *backend = strcasestr(c->in, "\r\nx-backend:");
    if (strncmp(c->in, "HTTP/1.1 ", 9) || !length) return -1;
    c->status = (uint16_t)atoi(c->in + 9);
    c->backend = backend ? (uint8_t)backend[12 + (backend[12] == ' ')] : 0;
    c->goodbye = strcasestr(c->in, "\r\nconnection: close") != NULL;
    size_t total = strtoul(length + 17, NULL, 10), here = c->have - (size_t)(end - c->in) - 4;
    if (here > total) return -1;
    c->body = total - here;
    c->in_body = 1;
    return 1;
}

/* 1 when a request was completed. */
static int ready(struct conn *c)
{
    ssize_t n = recv(c->fd, c->in + (c->in_body ? 0 : c->have), INPUT - 1 - (c->in_body ? 0 : c->have), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) {
        note(c, !c->busy ? CLOSED_IDLE : c->have || c->in_body ? BROKEN_ANSWER : NO_ANSWER);
        redial(c);
        return 0;
    }
    if (!c->busy) { note(c, BROKEN_ANSWER); redial(c); return 0; } /* bytes nobody asked for */
    if (c->in_body) c->body -= (size_t)n <= c->body ? (size_t)n : c->body;
    else {
        c->have += (size_t)n;
        int state = read_head(c);
        if (state < 0) { note(c, BROKEN_ANSWER); redial(c); return 0; }
        if (state == 0) return 0;
    }
    if (c->body) return 0;
    note(c, c->status == 200 ? OK : BAD_STATUS);
    c->busy = c->in_body = 0;
    c->have = 0;
    if (c->goodbye) { note(c, CLOSED_POLITELY); redial(c); }
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 7) { fprintf(stderr, "usage: client PORT CONNECTIONS SECONDS RATE ROUTES OUTPUT\n"); return 2; }
    signal(SIGPIPE, SIG_IGN);
    port = atoi(argv[1]);
    int count = atoi(argv[2]);
    double seconds = atof(argv[3]), rate = atof(argv[4]);
    routes = atoi(argv[5]);
    poller = epoll_create1(0);
    records = malloc(sizeof *records * MAX_RECORDS);
    struct conn *all = calloc((size_t)count, sizeof *all);
    if (!records || !all || count < 1 || routes < 1) return 1;
    uint64_t begin = now_us(), end = begin + (uint64_t)(seconds * 1e6);
    uint64_t period = rate > 0 ? (uint64_t)((double)count * 1e6 / rate) : 0;
    for (int i = 0; i < count; i++) {
        dial(&all[i]);
        all[i].due = begin + 10000 + period * (uint64_t)i / (uint64_t)count;
        if (!period) ask(&all[i], now_us());
    }
    struct epoll_event events[EVENTS];
    uint64_t now;
    while ((now = now_us()) < end) {
        uint64_t wake = now + 10000;
        for (int i = 0; i < count; i++) { /* a few dozen connections: a scan is cheaper than a heap */
            struct conn *c = &all[i];
            if (c->busy || (!period && c->fd >= 0)) continue;
            if (period && c->due > now) { if (c->due < wake) wake = c->due; continue; }
            ask(c, period ? c->due : now);
            c->due += period;
        }
        struct timespec wait = {.tv_nsec = (long)(wake - now) * 1000};
        int n = epoll_pwait2(poller, events, EVENTS, &wait, NULL);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            ready(c);
            if (!period && c->fd >= 0 && !c->busy) ask(c, now_us());
        }
    }
    FILE *out = fopen(argv[6], "wb");
    if (!out || fwrite(records, sizeof *records, recorded, out) != recorded || fclose(out)) { perror("client"); return 1; }
    return 0;
}
