/* A server and its clients in one process, over loopback: the client side is
 * sent and read while the loop turns. What the server tells its endpoint is
 * written down in words. */
#ifndef CONN_RIG_H
#define CONN_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "servers/conn_impl.h"
#include "test.h"
#include "wire.h"

#ifdef LOOP_POLL
enum { ON_EPOLL = 0 };
#else
enum { ON_EPOLL = 1 };
#endif

/* Walk the WebSockets: first with i = 0; NULL at the end. */
__attribute__((unused)) static struct conn *rig_each(struct server *s, uint32_t *i)
{
    while (*i < s->slabs * CONN_SLAB) {
        struct conn *c = &s->slab[*i / CONN_SLAB][*i % CONN_SLAB];
        ++*i;
        if (c->state == CONN_OPEN) return c;
    }
    return NULL;
}

#define HANDSHAKE_MS 60
#define PING_MS      60
#define CLOSE_MS     60
#define MESSAGE_MS   150
#define SLACK_MS     6000    /* how late a loaded machine may be */
#define RIG_REPLY    200000

#define UPGRADE                                                                                    \
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"           \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

struct rig {
    struct server     server;
    struct loop      *loop;
    struct conn_pool *pool;
    unsigned          port;
    char              told[4096];
    char             *got;              /* [n], NUL behind it: of the client that is read */
    size_t            n, cap, some;
    bool              ended, reset;
    int               fd[6000];         /* [fds] dialled, closed at the end */
    int               fds;
};

static inline void rig_tell(struct server *s, const char *what)
{
    struct rig *r = (struct rig *)(void *)s;
    size_t n = strlen(r->told), m = strlen(what);
    if (n + m < sizeof r->told) memcpy(r->told + n, what, m + 1);
}

static inline void rig_opened(struct conn *c) { rig_tell(conn_server(c), "opened "); }

static inline void rig_message(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    char what[64];
    snprintf(what, sizeof what, "%s(%.*s) ", op == WS_TEXT ? "text" : "binary",
             n < 20 ? (int)n : 20, (char *)p);
    rig_tell(conn_server(c), what);
}

static inline void rig_closed(struct conn *c, const struct conn_end *end)
{
    char what[200];
    snprintf(what, sizeof what, "closed(%u%s%s%.*s) ", end->code, end->by_peer ? " by peer" : "",
             end->reason.len ? " " : "", (int)end->reason.len, end->reason.p);
    rig_tell(conn_server(c), what);
}

static inline void rig_refused(struct conn *c, int status, const char *why)
{
    char what[64];
    (void)why;
    snprintf(what, sizeof what, "refused(%d) ", status);
    if (c) rig_tell(conn_server(c), what);
}

static inline void rig_echo_message(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    if (n < 20) rig_message(c, op, p, n);
    conn_send(c, op, p, n);
}

static const struct server_ops rig_echo = {
    .message = rig_echo_message, .opened = rig_opened, .closed = rig_closed, .refused = rig_refused,
};

static inline void rig_open_budget(struct rig *r, const struct server_ops *ops, size_t budget)
{
    struct net_listeners l;
    memset(r, 0, sizeof *r);
    r->loop = loop_new();
    r->pool = conn_pool_new(r->loop, RIG_REPLY, budget);
    r->server = (struct server){
        .loop = r->loop, .pool = r->pool, .ops = ops,
        .handshake_timeout_ms = 30000, .max_connections = 5000,
        .ws = { .max_message = 4000000, .ping_interval_ms = 30000, .ping_timeout_ms = 30000,
                .close_timeout_ms = 30000, .message_timeout_ms = 30000 },
    };
    cr_assert_eq(net_listen(&l, "127.0.0.1", 0, 0), 0);
    cr_assert_eq(server_listen(&r->server, &l), 0);
    r->port = l.port;
    r->cap = 262144;
    r->got = (char *)calloc(1, r->cap);
}

static inline void rig_open(struct rig *r, const struct server_ops *ops)
{
    rig_open_budget(r, ops, 64u << 20);
}

/* For tests of timers; the others have all the time in the world. */
static inline void rig_hurry(struct rig *r)
{
    r->server.handshake_timeout_ms = HANDSHAKE_MS;
    r->server.ws.ping_interval_ms = r->server.ws.ping_timeout_ms = PING_MS;
    r->server.ws.close_timeout_ms = CLOSE_MS;
    r->server.ws.message_timeout_ms = MESSAGE_MS;
}

static inline void rig_close(struct rig *r)
{
    server_free(&r->server);
    cr_assert_eq(r->server.n.active, 0);
    cr_assert_eq(conn_pool_held(r->pool), 0, "%zu bytes held after all was closed", conn_pool_held(r->pool));
    conn_pool_free(r->pool);
    loop_free(r->loop);
    free(r->got);
    while (r->fds) close(r->fd[--r->fds]);
}

static inline void rig_turn(struct rig *r, int64_t ms)
{
    int64_t end = loop_clock() + ms;
    while (loop_clock() < end) loop_turn(r->loop, 1);
}

/* From here on another client is read. */
static inline void rig_fresh(struct rig *r)
{
    r->n = 0;
    r->got[0] = '\0';
    r->ended = r->reset = false;
}

static inline int rig_dial(struct rig *r)
{
    struct net_address a;
    struct sockaddr_storage s;
    net_parse(&a, "127.0.0.1", (uint16_t)r->port);
    socklen_t len = net_to_sockaddr(&a, &s);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    rig_fresh(r);
    if (connect(fd, (struct sockaddr *)&s, len)) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (r->fds < 6000) r->fd[r->fds++] = fd;
    return fd;
}

static inline void rig_send(struct rig *r, int fd, const void *p, size_t n)
{
    const char *at = (const char *)p;
    for (int idle = 0; n && idle < 2000; idle++) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return;
        if (sent > 0) { at += sent; n -= (size_t)sent; idle = 0; }
        if (n) loop_turn(r->loop, 1);
    }
    cr_assert_eq(n, 0, "the server does not read");
}

static inline void rig_send_pieces(struct rig *r, int fd, const char *p, size_t n, size_t piece)
{
    for (size_t at = 0; at < n; at += piece) {
        rig_send(r, fd, p + at, n - at < piece ? n - at : piece);
        loop_turn(r->loop, 0);
    }
}

/* As much as the server takes within a while; rig_send_rest() sends what is left. */
static inline void rig_send_some(struct rig *r, int fd, const void *p, size_t n)
{
    r->some = 0;
    for (int idle = 0; r->some < n && idle < 20; idle++) {
        ssize_t sent = send(fd, (const char *)p + r->some, n - r->some, MSG_NOSIGNAL);
        if (sent > 0) { r->some += (size_t)sent; idle = 0; }
        loop_turn(r->loop, 1);
    }
}

static inline void rig_send_rest(struct rig *r, int fd, const void *p, size_t n)
{
    rig_send(r, fd, (const char *)p + r->some, n - r->some);
}

static inline void rig_read_now(struct rig *r, int fd)
{
    while (!r->ended) {
        if (r->cap - r->n < 65536) {
            r->cap *= 2;
            r->got = (char *)realloc(r->got, r->cap);
        }
        ssize_t n = recv(fd, r->got + r->n, r->cap - r->n - 1, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) r->ended = true;
        if (n < 0) r->reset = true;
        if (n > 0) r->n += (size_t)n;
        r->got[r->n] = '\0';
    }
}

/* Read what comes in so many milliseconds, or until the server ends TCP. */
static inline void rig_read(struct rig *r, int fd, int64_t ms)
{
    int64_t end = loop_clock() + ms;
    do {
        loop_turn(r->loop, 1);
        rig_read_now(r, fd);
    } while (!r->ended && loop_clock() < end);
}

static inline bool rig_begins(const struct rig *r, const char *text)
{
    return !strncmp(r->got, text, strlen(text));
}

static inline int rig_upgrade(struct rig *r)
{
    int fd = rig_dial(r);
    rig_send(r, fd, UPGRADE, sizeof UPGRADE - 1);
    for (int i = 0; i < 1000 && !strstr(r->got, "\r\n\r\n"); i++) {
        loop_turn(r->loop, 1);
        rig_read_now(r, fd);
    }
    cr_assert(rig_begins(r, "HTTP/1.1 101 "), "%s", r->got);
    r->n = 0;
    r->got[0] = '\0';
    return fd;
}

static inline void rig_put_frame(struct bytes *b, unsigned first, const void *p, size_t n)
{
    wire_frame(b, first, true, 0, n, (const uint8_t *)p, n);
}

static inline void rig_frame(struct rig *r, int fd, unsigned first, const void *p, size_t n)
{
    struct bytes b = { 0 };
    rig_put_frame(&b, first, p, n);
    rig_send(r, fd, b.p, b.n);
    bytes_free(&b);
}

/* Wait for n bytes at the start of got. */
static inline void rig_await(struct rig *r, int fd, size_t n)
{
    for (int i = 0; i < 3000 && r->n < n && !r->ended; i++) {
        rig_read_now(r, fd);
        if (r->n < n) loop_turn(r->loop, 1);
    }
    cr_assert(r->n >= n, "%zu of %zu bytes came", r->n, n);
}

static inline void rig_drop(struct rig *r, size_t n)
{
    memmove(r->got, r->got + n, r->n - n + 1);
    r->n -= n;
}

/* One frame of the server whose payload is len times the same byte. */
static inline void rig_expect_run(struct rig *r, int fd, unsigned op, int byte, size_t len)
{
    uint8_t head[10];
    size_t h = ws_head(head, (enum ws_op)op, len);
    rig_await(r, fd, h + len);
    cr_assert_arr_eq(r->got, head, h, "header of %zu bytes", len);
    for (size_t i = 0; i < len; i++)
        cr_assert_eq(r->got[h + i], (char)byte, "byte %zu of %zu", i, len);
    rig_drop(r, h + len);
}

/* Send one message in pieces and get it back. */
static inline void rig_echo_one(struct rig *r, int fd, size_t n, size_t piece)
{
    struct bytes wire = { 0 };
    uint8_t *payload = (uint8_t *)malloc(n + 1), head[10];
    for (size_t i = 0; i < n; i++) payload[i] = (uint8_t)(i * 7 + i / 251);
    rig_put_frame(&wire, 0x82, payload, n);
    rig_fresh(r);
    size_t at = 0, h = ws_head(head, WS_BINARY, n);
    for (int idle = 0; (at < wire.n || r->n < h + n) && idle < 3000; idle++) {
        size_t want = wire.n - at < piece ? wire.n - at : piece, before = r->n;
        ssize_t sent = want ? send(fd, wire.p + at, want, MSG_NOSIGNAL) : 0;
        if (sent > 0) { at += (size_t)sent; idle = 0; }
        loop_turn(r->loop, sent > 0 ? 0 : 1);
        rig_read_now(r, fd);
        if (r->n > before) idle = 0;
    }
    cr_assert_eq(r->n, h + n, "%zu bytes: %zu came back", n, r->n);
    cr_assert_arr_eq(r->got, head, h);
    cr_assert(!n || !memcmp(r->got + h, payload, n), "%zu bytes came back changed", n);
    rig_drop(r, h + n);
    loop_turn(r->loop, 0);
    bytes_free(&wire);
    free(payload);
}

/* Send the rest of the wire; count echoed messages: len bytes each, the i-th of byte i. */
static inline void rig_echoes(struct rig *r, int fd, const struct bytes *wire, size_t sent,
                              int count, size_t len)
{
    for (int i = 0; i < count; i++) {
        for (int idle = 0; r->n < len + 4 && idle < 3000; idle++) {
            ssize_t n = sent < wire->n ? send(fd, wire->p + sent, wire->n - sent, MSG_NOSIGNAL) : 0;
            if (n > 0) sent += (size_t)n;
            loop_turn(r->loop, 0);
            rig_read_now(r, fd);
        }
        size_t whole = r->n / (len + 4) ? r->n / (len + 4) : 1, from = 0;
        for (size_t k = 0; k < whole; k++, from += len + 4) {
            cr_assert_arr_eq(r->got + from, "\x82\x7e", 2);
            cr_assert_eq(r->got[from + 4], (char)(i + (int)k), "message %d", i + (int)k);
        }
        i += (int)whole - 1;
        rig_drop(r, from);
    }
}

/* valgrind takes a connection and closes it where the system would say EMFILE. */
static inline bool rig_has_real_limits(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return !preload || !strstr(preload, "vgpreload");
}

static int rig_first_dup;
static struct rlimit rig_limit;

/* Take every descriptor; returns the last. */
static inline int rig_use_up_descriptors(void)
{
    struct rlimit limit = { 128, 4096 };
    int fd, last = -1;
    getrlimit(RLIMIT_NOFILE, &limit);
    rig_limit = limit;
    limit.rlim_cur = 128;
    setrlimit(RLIMIT_NOFILE, &limit);
    rig_first_dup = -1;
    while ((fd = dup(2)) >= 0) {
        if (rig_first_dup < 0) rig_first_dup = fd;
        last = fd;
    }
    return last;
}

static inline void rig_give_back_descriptors(int last)
{
    for (int fd = rig_first_dup; fd >= 0 && fd <= last; fd++) close(fd);
    setrlimit(RLIMIT_NOFILE, &rig_limit);
}

/* Bytes for each of a thousand idle WebSockets: what malloc says, where it says
 * anything, else what the structs take. */
static inline size_t rig_idle_bytes(void)
{
    enum { N = 1000 };
    struct rig r;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    rig_open(&r, &rig_echo);
    size_t structs = sizeof(struct conn) + 16;
#if defined(__GLIBC__) && !defined(SANITIZED)
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < N; i++) {                /* no cr_assert here: it allocates */
        int fd = rig_dial(&r);
        if (send(fd, UPGRADE, sizeof UPGRADE - 1, MSG_NOSIGNAL) < 0) return SIZE_MAX;
        for (int k = 0; k < 1000 && !r.n; k++) {
            loop_turn(r.loop, 1);
            rig_read_now(&r, fd);
        }
    }
    size_t taken = (mallinfo2().uordblks - before) / N;
    if (taken > structs) structs = taken;
#endif
    rig_close(&r);
    return structs;
}

#endif
