#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "servers/conn_impl.h"

#define SMALL_KEPT 1024    /* bytes kept so few go before the next ones in the shared buffer */
#define LOOK_FIRST 4096    /* read of a new message where the last was large, of any when late */
#define LARGE      65536
#define GATHER     65536   /* read at once behind a message whose length is not known yet */
#define FAIR       524288  /* read of one message at once: others wait meanwhile */
#define UNSEEN     32768   /* bytes read of whomever before the clock is looked at */

static int64_t now_of(const struct conn *c) { return loop_now(c->server->loop); }

/* The end. */

/* Tell the endpoint, once; nothing is said to the peer any more. */
static void report(struct conn *c, unsigned code, bool by_peer, struct slice reason)
{
    struct server *s = c->server;
    struct conn_end end = { .code = (uint16_t)code, .by_peer = by_peer, .reason = reason,
                            .bytes_in = c->bytes_in, .bytes_out = c->bytes_out,
                            .messages_in = c->messages_in, .messages_out = c->messages_out };
    if (c->state != CONN_OPEN) return;
    end.ms = (int64_t)((uint32_t)(now_of(c) >> 4) - c->since) << 4;
    c->state = CONN_DRAIN;
    memset(&c->u, 0, sizeof c->u);
    c->u.http.deadline = LOOP_NEVER;
    s->n.open--;
    s->n.closes[code >= 1000 && code < 1016 ? code - 1000 : 16]++;
    if (s->ops->closed) s->ops->closed(c, &end);
    c->user = NULL;
}

static struct slice text(const char *s) { return (struct slice){ s, strlen(s) }; }

void conn_lost(struct conn *c)
{
    if (c->state == CONN_DEAD) return;
    struct conn_pool *pool = c->server->pool;
    if (c->overrun) report(c, 1013, false, text("takes too little of what is sent"));
    else            report(c, 1006, false, text("connection lost"));
    if (pool->corked == c) conn_uncork(pool);
    conn_drop_queue(c);
    conn_drop_input(c);
    loop_at(pool->loop, &c->timer, LOOP_NEVER);
    loop_close(pool->loop, &c->watch);
    c->state = CONN_DEAD;
    server_closed(c);
    conn_bury(c);
}

static void finish(struct conn *c)
{
    if (!c->linger || c->eof || c->broken) {
        conn_lost(c);
        return;
    }
    shutdown(c->watch.fd, SHUT_WR);
    c->state = CONN_LINGERING;
    c->u.http.thrown = 0;
    c->u.http.deadline = now_of(c) + c->server->ws.close_timeout_ms;
}

/* It holds too much. Where nothing waits to be sent, it can be told so. */
static void overrun(struct conn *c)
{
    static const char why[] = "held too much of the server's memory";
    if (c->state != CONN_OPEN || c->closing || conn_queued(c)) {
        conn_lost(c);
        return;
    }
    conn_cork(c);
    while (ws_close(&c->u.ws, 1013, why, now_of(c)) == WS_FULL) conn_flush(c);
    conn_flush(c);
    report(c, 1013, false, text(why));
    conn_drain(c, true);
}

void conn_drain(struct conn *c, bool linger)
{
    if (c->state == CONN_DEAD) return;
    if (c->state == CONN_HEAD) c->u.http.deadline = LOOP_NEVER;
    if (c->server->ending) c->u.http.deadline = now_of(c) + c->server->ws.close_timeout_ms;
    c->state = CONN_DRAIN;
    c->linger = linger;
    c->hold = c->stalled = false;
    conn_flush(c);
    conn_drop_input(c);
    if (!conn_queued(c)) finish(c);
    conn_arm(c);
}

void conn_drained(struct conn *c)
{
    const struct server_ops *ops = c->server->ops;
    if (c->state == CONN_DRAIN) {
        finish(c);
    } else {
        if (c->state == CONN_HEAD)
            c->u.http.deadline = now_of(c) + c->server->handshake_timeout_ms;
        if (c->state == CONN_OPEN && ops->drained) ops->drained(c);
    }
}

/* Deadlines and what is watched for. */

static int64_t stall_deadline(const struct conn *c)
{
    int32_t ms = c->server->ws.ping_timeout_ms;
    if (!conn_queued(c)) return LOOP_NEVER;
    if (!ms && c->state == CONN_OPEN) return LOOP_NEVER;
    return c->held->moved + (ms ? ms : CONN_STALL_MS);
}

static int64_t deadline(const struct conn *c)
{
    int64_t stall = stall_deadline(c), own;
    if (c->state == CONN_DEAD) return LOOP_NEVER;
    if (c->state == CONN_OPEN) own = ws_deadline(&c->u.ws);
    else own = c->state == CONN_HEAD && stall != LOOP_NEVER ? LOOP_NEVER : c->u.http.deadline;
    return own < stall ? own : stall;
}

static bool wants_bytes(const struct conn *c)
{
    if (c->state == CONN_LINGERING) return true;
    return c->state <= CONN_OPEN && !c->hold && !c->stalled && !c->starved && !c->dirty;
}

/* One that waits for room and whose peer is gone must not hold what it has. */
static unsigned wanted_events(const struct conn *c)
{
    return (wants_bytes(c) ? LOOP_READ : 0u) | (conn_queued(c) ? LOOP_WRITE : 0u) |
           (c->starved ? LOOP_END : 0u);
}

void conn_arm(struct conn *c)
{
    struct loop *loop = c->server->loop;
    if (c->state == CONN_DEAD) return;
    unsigned events = wanted_events(c);
    /* Reading is only given up when bytes come that are not wanted: conn_ready(). */
    unsigned have = c->watch.events;
    bool change = (events | (have & LOOP_READ)) != have;
    if ((change && loop_watch(loop, &c->watch, events)) ||
        loop_by(loop, &c->timer, deadline(c))) {
        c->broken = true;
        conn_make_dirty(c);
    }
}

/* WebSocket events. */

bool conn_stall(struct conn *c)
{
    const struct conn_pool *pool = c->server->pool;
    size_t most = pool->held < pool->budget ? CONN_HIGH_WATER : 0;
    if (conn_waiting(c) <= most || c->closing) return false;
    conn_flush(c);
    if (conn_queued(c) <= most) return false;
    c->stalled = true;
    return true;
}

static void on_closed(struct conn *c, const struct ws_event *ev)
{
    bool fault = !ev->by_peer && !c->closing && ev->code != 1006;
    bool unanswered = c->closing && ev->code == 1006;
    conn_flush(c);
    report(c, ev->code, ev->by_peer, (struct slice){ (const char *)ev->data, ev->len });
    if (unanswered) conn_lost(c);
    else conn_drain(c, fault || c->more);
}

static void deliver(struct conn *c, enum ws_op op, const struct ws_event *ev)
{
    c->messages_in++;
    c->big = ev->len >= LARGE;
    c->server->ops->message(c, op, ev->data, ev->len);
}

/* Events until none is left, or until the connection must wait. true: for its turn alone. */
static bool run_events(struct conn *c, const struct conn_pool *pool)
{
    struct ws_event ev;
    while (!c->hold && !c->broken && !c->overrun && !conn_stall(c)) {
        if (pool->corked != c) conn_cork(c);
        switch (ws_next(&c->u.ws, &ev)) {
        case WS_EV_NONE:   return false;
        case WS_EV_FULL:   conn_flush(c); break;
        case WS_EV_TEXT:   deliver(c, WS_TEXT, &ev); break;
        case WS_EV_BINARY: deliver(c, WS_BINARY, &ev); break;
        case WS_EV_CLOSED: on_closed(c, &ev); return false;
        }
        if (pool->late) return true;
    }
    conn_pause(c);
    return false;
}

void conn_pause(struct conn *c)
{
    if (c->state == CONN_OPEN) ws_pause(&c->u.ws, true, now_of(c));
}

/* p[0..n), or what of it is not looked at, becomes the input block. */
void conn_pump(struct conn *c, uint8_t *p, size_t n)
{
    struct conn_pool *pool = c->server->pool;
    struct conn *outer = pool->pumped;
    pool->pumped = c;
    ws_received(&c->u.ws, p, n, now_of(c));
    bool enough = run_events(c, pool);
    pool->pumped = outer;
    if (c->state != CONN_OPEN) return;
    p = ws_keep(&c->u.ws, &n);
    size_t want = n ? ws_want(&c->u.ws) : 0;
    if (!n) conn_drop_input(c);
    else if (!conn_keep(c, p, n, want)) conn_lost(c);
    else if (enough) { conn_pause(c); conn_make_dirty(c); }
}

/* After a deadline or the end of the peer's bytes: no message can come of it. */
static void last_events(struct conn *c)
{
    struct ws_event ev;
    enum ws_ev e;
    conn_cork(c);
    while ((e = ws_next(&c->u.ws, &ev)) == WS_EV_FULL) conn_flush(c);
    if (e == WS_EV_CLOSED) on_closed(c, &ev);
    else conn_flush(c);
}

/* Reading. */

static void take(struct conn *c, uint8_t *p, size_t n)
{
    if (c->state == CONN_OPEN) conn_pump(c, p, n);
    else if (c->state == CONN_HEAD) conn_http(c, p, n);
}

static void on_eof(struct conn *c)
{
    c->eof = true;
    if (c->state == CONN_OPEN) {
        ws_eof(&c->u.ws);
        last_events(c);
    } else if (c->state == CONN_HEAD && conn_queued(c)) {
        conn_drain(c, false);
    } else {
        conn_lost(c);
    }
}

/* Receive; false when nothing came (the end and errors are dealt with). */
static bool receive(struct conn *c, struct iovec *v, uint16_t n, size_t *got)
{
    struct msghdr m = { .msg_iov = v, .msg_iovlen = n };
    ssize_t r;
    do r = n == 1 ? recv(c->watch.fd, v->iov_base, v->iov_len, 0) : recvmsg(c->watch.fd, &m, 0);
    while (r < 0 && errno == EINTR);
    if (r <= 0) {
        if (!r) on_eof(c);
        else if (errno != EAGAIN && errno != EWOULDBLOCK) conn_lost(c);
        return false;
    }
    c->bytes_in += (size_t)r;
    c->server->n.bytes_in += (size_t)r;
    if ((c->server->pool->unseen += (size_t)r) >= UNSEEN) pool_look(c->server->pool);
    *got = (size_t)r;
    c->more = *got == v[0].iov_len + (n > 1 ? v[1].iov_len : 0);
    return true;
}

static void throw_away(struct conn *c)
{
    struct iovec v = { c->server->pool->in, CONN_IN };
    size_t n;
    if (!receive(c, &v, 1, &n)) return;
    c->u.http.thrown += (uint32_t)n;
    if (c->u.http.thrown > CONN_LINGER) conn_lost(c);
}

/* Bytes for the shared buffer at most: what may have to be kept must have room. */
static size_t read_limit(const struct conn *c, size_t room)
{
    bool little = c->server->pool->late || (c->big && c->state == CONN_OPEN);
    size_t limit = little ? LOOK_FIRST : CONN_IN;
    return room < limit ? room : limit;
}

/* Into the shared buffer, behind the few bytes kept. */
static void read_shared(struct conn *c, size_t room)
{
    uint8_t *in = c->server->pool->in;
    struct block *b = c->held ? c->held->in : NULL;
    size_t kept = b ? b->to - b->from : 0, n;
    struct iovec v = { in + kept, read_limit(c, room + kept) };
    if (v.iov_len <= kept) { conn_starve(c); return; }
    v.iov_len -= kept;
    if (!receive(c, &v, 1, &n)) return;
    if (kept) memcpy(in, b->p + b->from, kept);
    take(c, in, kept + n);
}

/* The rest of a message straight to its place, what follows into the shared buffer. */
static void read_private(struct conn *c, size_t want, size_t room)
{
    struct conn_pool *pool = c->server->pool;
    struct block *b = c->held->in;
    size_t len = b->to - b->from, n, used = sizeof *b + b->to;
    if (used + room < b->counted) room = b->counted - used;   /* counted already */
    if (!room) { conn_starve(c); return; }
    bool alone = room < CONN_IN || want - len > FAIR || (len > GATHER && want - len < GATHER);
    if (len > GATHER && want - len < GATHER) want = len + GATHER;
    if (want - len > room) want = len + room;
    if (b->cap - b->from < want) {
        if (!conn_keep(c, b->p + b->from, len, want)) { conn_lost(c); return; }
        b = c->held->in;
        want = b->cap - b->from < want ? b->cap - b->from : want;
        if (want <= len) { conn_starve(c); return; }
    }
    size_t most = want - len < FAIR ? want - len : FAIR;
    struct iovec v[2] = { { b->p + b->to, most }, { pool->in, read_limit(c, CONN_IN) } };
    if (!receive(c, v, alone ? 1 : 2, &n)) return;
    size_t rest = n < v[0].iov_len ? n : v[0].iov_len;
    b->to += rest;
    block_count(pool, b);
    take(c, b->p + b->from, len + rest);
    n -= rest;
    if (!n || c->state > CONN_OPEN) return;
    if (!c->held || !c->held->in) take(c, pool->in, n);
    else if (!conn_append(c, pool->in, n)) conn_lost(c);
    else conn_make_dirty(c);
}

static void read_some(struct conn *c)
{
    struct conn_pool *pool = c->server->pool;
    struct block *b = c->held ? c->held->in : NULL;
    size_t len = b ? b->to - b->from : 0;
    size_t room = pool->held + CONN_IN <= pool->budget ? CONN_IN : conn_room(c);
    size_t want = len + 1;
    if (c->state == CONN_LINGERING) { throw_away(c); return; }
    if (b && c->state == CONN_OPEN) want = ws_want(&c->u.ws);
    if (len <= SMALL_KEPT && want < SMALL_KEPT + WS_MAX_CTRL) read_shared(c, room);
    else if (c->state == CONN_HEAD) read_private(c, 2 * len, room);
    else read_private(c, want, room);
    if (c->state != CONN_DEAD) conn_flush(c);
}

void conn_ready(struct watch *w, unsigned events)
{
    struct conn *c = CONTAINER(struct conn, watch, w);
    if (events & LOOP_WRITE) conn_write(c);
    if (c->state == CONN_DEAD) return;
    if (wants_bytes(c)) {
        if (events & (LOOP_READ | LOOP_HUP)) read_some(c);
    } else if ((events & LOOP_HUP && !c->dirty) || (events & LOOP_END && c->starved)) {
        conn_lost(c);
    } else if (events & LOOP_READ) {
        loop_watch(c->server->loop, w, wanted_events(c));
    }
    if (c->stalled && conn_queued(c) <= CONN_HIGH_WATER / 2) conn_make_dirty(c);
    conn_arm(c);
}

void conn_resume(struct conn *c)
{
    struct block *b = c->held ? c->held->in : NULL;
    if (c->broken || c->overrun) {
        if (c->broken) conn_lost(c);
        else overrun(c);
        return;
    }
    c->stalled = false;
    if (c->state == CONN_OPEN && !c->hold) ws_pause(&c->u.ws, false, now_of(c));
    if (b && !c->hold) take(c, b->p + b->from, b->to - b->from);
    if (c->state == CONN_DEAD) return;
    conn_flush(c);
    conn_arm(c);
}

/* A deadline has passed, or has moved since it was armed. */
static void expire(struct conn *c, int64_t now)
{
    if (now >= stall_deadline(c)) {
        c->overrun = c->state == CONN_OPEN;
        conn_lost(c);
    } else if (c->state == CONN_OPEN) {
        if (now < ws_deadline(&c->u.ws)) return;
        conn_cork(c);
        ws_tick(&c->u.ws, now);
        last_events(c);
    } else if (c->state == CONN_HEAD && c->held && c->held->in) {
        c->u.http.answered = false;      /* the request before this one was */
        conn_refuse(c, 408, NULL, "request not whole in time");
        conn_drain(c, true);
    } else {
        if (c->state == CONN_HEAD && !c->bytes_in && c->server->ops->refused)
            c->server->ops->refused(c, 0, "nothing came in time");
        conn_lost(c);
    }
}

void conn_fire(struct timer *t, int64_t now)
{
    struct conn *c = CONTAINER(struct conn, timer, t);
    if (now >= deadline(c) && wants_bytes(c)) read_some(c);   /* read before you time out */
    if (now >= deadline(c)) expire(c, now);
    if (c->state != CONN_DEAD) conn_arm(c);
}

/* What the endpoint calls. */

void conn_hold(struct conn *c, bool hold)
{
    if (c->hold == hold || c->state != CONN_OPEN) return;
    c->hold = hold && !c->closing;
    if (c->hold) conn_pause(c);
    else conn_make_dirty(c);
}

void conn_close(struct conn *c, uint16_t code, const char *reason)
{
    if (c->state != CONN_OPEN || c->closing || c->broken || c->overrun) return;
    conn_cork(c);
    while (ws_close(&c->u.ws, code, reason, now_of(c)) == WS_FULL) conn_flush(c);
    c->closing = true;
    c->hold = false;
    conn_make_dirty(c);
}

void conn_took_long(struct conn *c) { pool_look(c->server->pool); }

struct server *conn_server(const struct conn *c) { return c->server; }

void **conn_user(struct conn *c) { return &c->user; }

const struct net_address *conn_peer(const struct conn *c) { return &c->peer; }

bool conn_local(const struct conn *c, struct net_address *a) { return net_local(c->watch.fd, a); }

struct conn_ref conn_ref(const struct conn *c)
{
    return (struct conn_ref){ c->timer.tag, c->generation };
}

struct conn *conn_get(struct server *s, struct conn_ref ref)
{
    if (ref.slot >= s->slabs * CONN_SLAB) return NULL;
    struct conn *c = &s->slab[ref.slot / CONN_SLAB][ref.slot % CONN_SLAB];
    return c->generation == ref.generation && c->state == CONN_OPEN ? c : NULL;
}
