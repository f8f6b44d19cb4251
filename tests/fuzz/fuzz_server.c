// uses: servers/conn.c servers/conn_http.c servers/conn_out.c servers/conn_pool.c servers/server.c servers/net.c servers/loop_poll.c servers/loop_epoll.c ws.c ws_handshake.c http.c sha1.c base64.c utf8.c
/* The whole server under any sequence of what clients and its endpoint can do,
 * with time that passes only when the input says so. What it sends must be
 * whole answers and frames, nothing behind a close; and when all are left
 * alone for long enough, nobody is connected and nothing is held any more.
 *
 * Input: one action after another, a byte for what and a byte for whom, then
 * what it needs. */
#define clock_gettime sim_clock
#include "../../servers/loop.c"
#undef clock_gettime

#include <fcntl.h>
#include <stddef.h>
#include <sys/un.h>

#include "../../servers/conn_impl.h"
#include "../wire.h"

enum { CLIENTS = 4, BUDGET = 300000, MOST = 100000 };

static int64_t sim_ms;

int sim_clock(clockid_t clock, struct timespec *t)
{
    (void)clock;
    t->tv_sec = (time_t)(sim_ms / 1000);
    t->tv_nsec = (long)(sim_ms % 1000) * 1000000;
    return 0;
}

struct client { int fd; struct bytes got; bool done; };

static struct world {
    struct server     server;
    struct loop      *loop;
    struct conn_pool *pool;
    struct client     client[CLIENTS];
    unsigned          opened, closed;
    const uint8_t    *in;
    size_t            left;
} w;

static void require(bool held, const char *what)
{
    if (held) return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

static unsigned next(void)
{
    if (!w.left) return 0;
    w.left--;
    return *w.in++;
}

static void on_opened(struct conn *c) { (void)c; w.opened++; }

static void on_message(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    require(op == WS_TEXT || op == WS_BINARY, "messages are text or binary");
    require(op == WS_BINARY || utf8_valid(p, n), "text is UTF-8");
    if (n && p[0] == '!') conn_close(c, 4000, "asked for");
    else if (n && p[0] == '=') conn_hold(c, true);
    else conn_send(c, op, p, n);
}

static void on_closed(struct conn *c, const struct conn_end *end)
{
    (void)c;
    require(end->code >= 1000 && end->code <= 4999, "a code");
    w.closed++;
}

static const struct server_ops ops = { .opened = on_opened, .message = on_message, .closed = on_closed };

static void open_door(void)
{
    static unsigned serial;
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "fuzz-%d-%u", (int)getpid(), ++serial);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct net_listeners l = { { fd, -1 }, 1, 1, false, { { 0 }, 0 } };
    require(fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof a) && !listen(fd, 16), "a socket to listen on");
    require(server_listen(&w.server, &l) == 0, "the server listens");
}

static void dial(struct client *c)
{
    struct sockaddr_un a;
    socklen_t len = sizeof a;
    if (c->fd >= 0 || !w.server.accepting) return;
    getsockname(w.server.listener[0].fd, (struct sockaddr *)&a, &len);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(c->fd, (struct sockaddr *)&a, len)) { close(c->fd); c->fd = -1; }
}

static void say(struct client *c, const void *p, size_t n)
{
    if (c->fd >= 0 && n) (void)!send(c->fd, p, n, MSG_NOSIGNAL);
}

static void say_frame(struct client *c, unsigned first, size_t n)
{
    struct bytes b = { 0 };
    uint8_t payload[126];
    for (size_t i = 0; i < n; i++) payload[i] = (uint8_t)next();
    wire_frame(&b, first, true, 0, n, payload, n);
    say(c, b.p, b.n);
    bytes_free(&b);
}

/* Many bytes, the same after unmasking as before but for the key. */
static void say_much(struct client *c, unsigned first, size_t n)
{
    static uint8_t payload[MOST];
    struct bytes b = { 0 };
    wire_frame(&b, first, true, 0, n, NULL, 0);
    bytes_add(&b, payload, n < MOST ? n : MOST);
    say(c, b.p, b.n);
    bytes_free(&b);
}

static void listen_to(struct client *c)
{
    uint8_t buf[16384];
    ssize_t n;
    while (c->fd >= 0 && (n = recv(c->fd, buf, sizeof buf, 0)) > 0) bytes_add(&c->got, buf, (size_t)n);
}

/* One frame of the server, or 0 where it is cut off. */
static size_t judge_frame(const uint8_t *p, size_t n, bool *closed)
{
    size_t ext = n < 2 ? 0 : p[1] == 127 ? 8 : p[1] == 126 ? 2 : 0;
    uint64_t len = 0;
    if (n < 2 + ext) return 0;
    for (size_t i = 0; i < ext; i++) len = len << 8 | p[2 + i];
    if (!ext) len = p[1];
    require(p[0] == 0x81 || p[0] == 0x82 || p[0] == 0x88 || p[0] == 0x89 || p[0] == 0x8a, "frames of the server are whole");
    require(p[1] < 128, "frames of the server are not masked");
    require(!ext || len >= (ext == 2 ? 126u : 65536u), "lengths in their shortest form");
    require(!(p[0] & 8) || len <= 125, "control frames are short");
    if (n - 2 - ext < len) return 0;
    *closed = p[0] == 0x88;
    if (p[0] == 0x81) require(utf8_valid(p + 2 + ext, (size_t)len), "text of the server is UTF-8");
    return 2 + ext + (size_t)len;
}

/* Everything that a client got: answers, then, after a 101, frames. */
static void judge(const struct client *c)
{
    static struct http_head h;
    const uint8_t *p = c->got.p;
    size_t n = c->got.n;
    bool frames = false, closed = false;
    while (n) {
        size_t used;
        require(!closed, "nothing behind a close");
        if (frames) {
            used = judge_frame(p, n, &closed);
        } else {
            used = http_response(&h, (const char *)p, n) == 200 ? h.size : 0;
            require(used || n < 2000, "answers are well formed");
            if (!used) return;
            const struct http_header *length = http_find(&h, "Content-Length");
            frames = h.status == 101;
            for (size_t i = 0, body = 0; length && i < length->value.len; i++) {
                body = body * 10 + (size_t)(length->value.p[i] - '0');
                if (i + 1 == length->value.len) used += body;
            }
            if (used > n) return;
        }
        if (!used) return;
        p += used;
        n -= used;
    }
}

static void turns(int n)
{
    while (n-- > 0) loop_turn(w.loop, 0);
}

static struct conn *nth(unsigned n)
{
    uint32_t i = 0;
    struct conn *c = server_each(&w.server, &i);
    while (c && n--) c = server_each(&w.server, &i);
    return c;
}

static void let_go(struct client *c)
{
    if (c->fd >= 0) close(c->fd);
    judge(c);
    bytes_free(&c->got);
    c->fd = -1;
}

#define UPGRADE "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

static void act(void)
{
    static const uint8_t plain[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static char large[MOST];
    unsigned what = next(), whom = next();
    struct client *c = &w.client[whom % CLIENTS];
    struct conn *conn = nth(whom % CLIENTS);
    size_t n;
    switch (what % 16) {
    case 0:  dial(c); break;
    case 1:  dial(c); turns(1); say(c, UPGRADE, sizeof UPGRADE - 1); break;
    case 2:  n = next(); say(c, UPGRADE, n < sizeof UPGRADE - 1 ? n : sizeof UPGRADE - 1); break;
    case 3:  n = next(); n = n < w.left ? n : w.left; say(c, w.in, n); w.in += n; w.left -= n; break;
    case 4:  n = next(); say_frame(c, n, next() % 126); break;
    case 5:  n = next(); say_much(c, n & 1 ? 0x82 : 0x02, n * 400); break;
    case 6:  listen_to(c); break;
    case 7:  if (c->fd >= 0) shutdown(c->fd, SHUT_WR); break;
    case 8:  let_go(c); break;
    case 9:  sim_ms += whom * 100; break;
    case 10: if (conn) conn_hold(conn, next() & 1); break;
    case 11: if (conn) conn_close(conn, 1001, "going"); break;
    case 12: if (conn) conn_send(conn, WS_BINARY, large, next() * (size_t)390); break;
    case 13: say(c, plain, sizeof plain - 1); break;
    case 14: if (whom == 255) server_shutdown(&w.server, 1001, "shutdown"); break;
    case 15: turns((int)(whom % 8)); break;
    }
    turns(2);
}

/* Everybody falls silent and is not held; clients read, every other one. */
static void wait_for_the_end(void)
{
    for (int i = 0; i < 60 && w.server.n.active; i++) {
        for (unsigned k = 0; k < CLIENTS; k++) {
            struct conn *c = nth(k);
            if (c) conn_hold(c, false);
            if (k & 1) listen_to(&w.client[k]);
        }
        sim_ms += 5000;
        turns(4);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
    static struct loop *loop;      /* loop and buffers serve all inputs */
    static struct conn_pool *pool;
    if (!loop) {
        loop = loop_new();
        pool = conn_pool_new(loop, MOST, BUDGET);
    }
    memset(&w, 0, sizeof w);
    sim_ms += 1000000;
    w.in = in;
    w.left = n;
    w.loop = loop;
    w.pool = pool;
    w.server.loop = w.loop;
    w.server.pool = w.pool;
    w.server.ops = &ops;
    w.server.ws = (struct ws_config){ MOST, 20000, 20000, 10000, 60000, false };
    w.server.handshake_timeout_ms = 10000;
    w.server.max_connections = 3;
    for (unsigned i = 0; i < CLIENTS; i++) w.client[i].fd = -1;
    open_door();
    while (w.left) act();
    wait_for_the_end();
    require(!w.server.n.active, "nobody is left in the end");
    require(w.opened == w.closed, "who was opened is closed");
    require(!conn_pool_held(w.pool), "nothing is held in the end");
    for (unsigned i = 0; i < CLIENTS; i++) {
        listen_to(&w.client[i]);
        let_go(&w.client[i]);
    }
    server_free(&w.server);
    turns(1);
    return 0;
}
