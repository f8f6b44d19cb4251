// uses: servers/conn.c servers/conn_http.c servers/conn_out.c servers/server.c servers/net.c servers/loop_poll.c servers/loop_epoll.c ws_handshake.c utf8.c number.c
/* The whole server under any sequence of what clients and its endpoint can do,
 * with time that passes only when the input says so. What it sends must be
 * whole answers and frames, nothing behind a close; and when all are left
 * alone for long enough, nobody is connected and nothing is held any more. Their
 * connections are in memory: a run makes no system call.
 *
 * Input: one action after another, a byte for what and a byte for whom, then
 * what it needs. */
#include <malloc.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int sim_clock(clockid_t clock, struct timespec *t);
static int sim_close(int fd);

#define clock_gettime sim_clock
#define close sim_close
#include "../../servers/loop.c"
#undef close
#undef clock_gettime

/* Large blocks from the heap too, where one byte too many is seen. */
#define mmap(at, bytes, ...) malloc(bytes)
#define munmap(p, bytes) free(p)
#define malloc_trim(pad) ((void)0)
#include "../../servers/conn_pool.c"
#undef mmap
#undef munmap
#undef malloc_trim

/* One comparison traced for each byte of a payload would take most of the time. */
static bool mask(uint8_t *to, const uint8_t *from, size_t n, const uint8_t key[4])
    __attribute__((no_sanitize("coverage")));
#include "../../ws.c"

/* What plays the peers is not what is explored, nor what has its own target. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#include "sim_net.h"
#include "fuzz.h"
#include "../wire.h"
#include "../../base64.c"
#include "../../http.c"
#include "../../sha1.c"

enum { CLIENTS = 4, BUDGET = 300000, MOST = 100000 };

static int64_t sim_ms;

static int sim_clock(clockid_t clock, struct timespec *t)
{
    (void)clock;
    t->tv_sec = (time_t)(sim_ms / 1000);
    t->tv_nsec = (long)(sim_ms % 1000) * 1000000;
    return 0;
}

struct client { int fd; struct bytes got; };

static struct client client[CLIENTS];      /* [CLIENTS]; their room serves all inputs */

static struct world {
    struct server     server;
    struct loop      *loop;
    struct conn_pool *pool;
    unsigned          opened, closed;
    struct conn      *open[SIM_PAIRS];     /* [opened - closed], in the order in which they were opened */
    const uint8_t    *in;
    size_t            left;
    bool              ending;                /* nobody is held any more */
} w;

/* Little is kept of what is free, so that its pages are in use again soon. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=8:thread_local_quarantine_size_kb=512:allocator_release_to_os_interval_ms=-1";
}

static unsigned next(void)
{
    if (!w.left) return 0;
    w.left--;
    return *w.in++;
}

static void on_opened(struct conn *c) { w.open[w.opened++ - w.closed] = c; }

static void on_message(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    require(op == WS_TEXT || op == WS_BINARY, "messages are text or binary");
    require(op == WS_BINARY || utf8_valid(p, n), "text is UTF-8");
    if (n && p[0] == '!') conn_close(c, 4000, "asked for");
    else if (n && p[0] == '=' && !w.ending) conn_hold(c, true);
    else if (n && p[0] == '~') sim_ms += 5, conn_took_long(c);   /* enough for a turn */
    else conn_send(c, op, p, n);
}

static void on_closed(struct conn *c, const struct conn_end *end)
{
    unsigned i = 0;
    require(end->code >= 1000 && end->code <= 4999, "a code");
    while (i < w.opened - w.closed && w.open[i] != c) i++;
    require(i < w.opened - w.closed, "who is closed was open");
    for (w.closed++; i < w.opened - w.closed; i++) w.open[i] = w.open[i + 1];
}

static const struct server_ops ops = { .opened = on_opened, .message = on_message, .closed = on_closed };

static void dial(struct client *c)
{
    if (c->fd < 0 && w.server.accepting) c->fd = sim_dial();
}

static void say(struct client *c, const void *p, size_t n)
{
    if (c->fd >= 0 && n) sim_say(c->fd, p, n);
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
    say(c, b.p, b.n);
    say(c, payload, n < MOST ? n : MOST);
    bytes_free(&b);
}

static void listen_to(struct client *c)
{
    static uint8_t buf[SIM_TO_CLIENT];
    if (c->fd >= 0) bytes_add(&c->got, buf, sim_hear(c->fd, buf, sizeof buf));
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

static struct conn *nth(unsigned n) { return n < w.opened - w.closed ? w.open[n] : NULL; }

static void let_go(struct client *c)
{
    if (c->fd >= 0) sim_hang_up(c->fd);
    judge(c);
    c->got.n = 0;
    c->fd = -1;
}

#define UPGRADE "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

#pragma clang attribute pop

static void act(void)
{
    static const uint8_t plain[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const size_t piece[] = { SIZE_MAX, SIZE_MAX, 1, 700 };
    static char large[MOST];
    unsigned what = next(), whom = next();
    struct client *c = &client[whom % CLIENTS];
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
    case 7:  if (c->fd >= 0) sim_pair[c->fd].client_shut = true; break;
    case 8:  let_go(c); break;
    case 9:  sim_ms += whom * 100; break;
    case 10: if (conn) conn_hold(conn, next() & 1); break;
    case 11: if (conn) conn_close(conn, 1001, "going"); break;
    case 12: if (conn) conn_send(conn, WS_BINARY, large, next() * (size_t)390); break;
    case 13: say(c, plain, sizeof plain - 1); break;
    case 14: if (whom == 255) server_shutdown(&w.server, 1001, "shutdown"); break;
    case 15: sim.piece = piece[whom >> 6]; turns((int)(whom % 8)); break;
    }
    turns(1);
}

/* Everybody falls silent and is not held; clients read, every other one. */
static void wait_for_the_end(void)
{
    sim.piece = SIZE_MAX;
    w.ending = true;
    for (int i = 0; i < 60 && w.server.n.active; i++) {
        for (unsigned k = 0; k < CLIENTS; k++) {
            struct conn *c = nth(k);
            if (c) conn_hold(c, false);
            if (k & 1) listen_to(&client[k]);
        }
        sim_ms += 5000;
        turns(2);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
    static struct loop *loop;      /* loop and buffers serve all inputs */
    static struct conn_pool *pool;
    const struct net_listeners door = { { SIM_FD + SIM_PAIRS, -1 }, 1, 1, false, { { 0 }, 0 } };
    if (!loop) {
        loop = loop_new();
        pool = conn_pool_new(loop, MOST, BUDGET);
    }
    memset(&w, 0, sizeof w);
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
    for (unsigned i = 0; i < CLIENTS; i++) client[i].fd = -1;
    sim.piece = SIZE_MAX;
    require(server_listen(&w.server, &door) == 0, "the server listens");
    while (w.left) act();
    wait_for_the_end();
    require(!w.server.n.active, "nobody is left in the end");
    require(w.opened == w.closed, "who was opened is closed");
    require(!conn_pool_held(w.pool), "nothing is held in the end");
    require(!w.server.extra && !w.server.n.open, "counts are at zero in the end");
    for (unsigned i = 0; i < CLIENTS; i++) {
        listen_to(&client[i]);
        let_go(&client[i]);
    }
    server_free(&w.server);
    sim_ms += 1000000;
    turns(1);
    require(!sim_open(), "no connection is left open");
    require(!w.pool->spare && !w.pool->dirty && !w.pool->starved && !w.pool->dead && !w.pool->servers,
            "the pool is as it was");
    require(!w.loop->due_n && !w.loop->job, "nothing is due or waits for its turn");
    return 0;
}
