#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "servers/conn_impl.h"

#define QUEUE_BLOCK 4000   /* bytes of the smallest block in a queue */
#define WRITE_BLOCKS 16    /* handed to the kernel at once */

void conn_uncork(struct conn_pool *pool)
{
    if (pool->corked) conn_flush(pool->corked);
    pool->corked = NULL;
}

/* Nothing can be written any more; the end comes when no caller is in the way.
 * What is queued may be the very message that the endpoint is looking at. */
static void broken(struct conn *c)
{
    c->broken = true;
    if (c != c->server->pool->pumped) conn_drop_queue(c);
    conn_make_dirty(c);
}

/* One system call. Bytes that the kernel took; 0 also after an error. */
static size_t send_some(struct conn *c, struct iovec *v, uint16_t n)
{
    struct msghdr m = { .msg_iov = v, .msg_iovlen = n };
    ssize_t sent;
    do sent = n == 1 ? send(c->watch.fd, v->iov_base, v->iov_len, MSG_NOSIGNAL)
                     : sendmsg(c->watch.fd, &m, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK) broken(c);
        return 0;
    }
    c->bytes_out += (size_t)sent;
    c->server->n.bytes_out += (size_t)sent;
    return (size_t)sent;
}

static void add_block(struct conn *c, struct block *b)
{
    struct held *h = c->held;
    if (!h->out) {
        h->out = b;
        h->moved = loop_now(c->server->loop);
    } else {
        h->out_last->next = b;
    }
    h->out_last = b;
    h->queued += b->to - b->from;
}

/* Copy what the kernel did not take behind what waits already. */
static void queue(struct conn *c, const uint8_t *p, size_t n)
{
    struct conn_pool *pool = c->server->pool;
    if (!n || c->broken) return;
    struct held *h = c->overrun ? NULL : conn_hold_bytes(c);
    if (!h) { broken(c); return; }        /* perhaps within a frame: no close can follow */
    struct block *b = h->out ? h->out_last : NULL;
    size_t fits = b ? b->cap - b->to : 0;
    if (fits > n) fits = n;
    if (fits) {
        memcpy(b->p + b->to, p, fits);
        b->to += fits;
        h->queued += fits;
        block_count(pool, b);
    }
    if (fits == n) return;
    n -= fits;
    b = block_new(pool, n < QUEUE_BLOCK ? QUEUE_BLOCK : n);
    if (!b) { broken(c); return; }
    memcpy(b->p, p + fits, n);
    b->to = n;
    block_count(pool, b);
    add_block(c, b);
    pool_overdrawn(pool);
}

static void reset_out(struct conn_pool *pool)
{
    pool->out = (struct ws_out){ .p = pool->out_base, .cap = pool->out_cap };
}

void conn_flush(struct conn *c)
{
    struct conn_pool *pool = c->server->pool;
    if (pool->corked != c || !pool->out.len) return;
    struct iovec v = { pool->out.p, pool->out.len };
    size_t sent = conn_queued(c) || c->broken ? 0 : send_some(c, &v, 1);
    queue(c, pool->out.p + sent, pool->out.len - sent);
    reset_out(pool);
    if (conn_queued(c)) conn_arm(c);
}

/* p[0..n), the end of the input block, waits to be sent without being copied. */
static bool queue_input(struct conn *c, const uint8_t *p, size_t n)
{
    struct block *b = c->held ? c->held->in : NULL;
    if (!b || p < b->p || p + n != b->p + b->to || c->broken || c->overrun) return false;
    c->held->in = NULL;
    b->from = (size_t)(p - b->p);
    add_block(c, b);
    return true;
}

static void send_big(struct conn *c, enum ws_op op, const uint8_t *p, size_t len)
{
    struct ws_out *out = &c->server->pool->out;
    if (out->cap - out->len < WS_MAX_HEAD) conn_flush(c);
    out->len += ws_head(out->p + out->len, op, len);
    struct iovec v[2] = { { out->p, out->len }, { (void *)(uintptr_t)p, len } };
    size_t sent = conn_queued(c) ? 0 : send_some(c, v, 2), head = out->len;
    queue(c, out->p + sent, sent < head ? head - sent : 0);
    reset_out(c->server->pool);
    size_t done = sent > head ? sent - head : 0;
    if (done < len && !queue_input(c, p + done, len - done)) queue(c, p + done, len - done);
    if (conn_queued(c)) conn_arm(c);
}

static bool can_send(const struct conn *c)
{
    return c->state == CONN_OPEN && !c->closing && !c->broken && !c->overrun;
}

int conn_send(struct conn *c, enum ws_op op, const void *p, size_t len)
{
    if (!can_send(c)) return -1;
    conn_cork(c);
    c->messages_out++;
    if (len >= CONN_BIG) {
        send_big(c, op, p, len);
    } else if (ws_send(&c->u.ws, op, p, len) == WS_FULL) {
        conn_flush(c);
        ws_send(&c->u.ws, op, p, len);
    }
    return 0;
}

char *conn_reply_begin(struct conn *c, size_t *cap)
{
    struct conn_pool *pool = c->server->pool;
    struct ws_out *out = &pool->out;
    if (!can_send(c)) return NULL;
    conn_cork(c);
    if (out->cap - out->len < pool->max_reply + WS_MAX_HEAD) conn_flush(c);
    *cap = out->cap - out->len - 10;
    return (char *)out->p + out->len + 10;
}

/* The payload lies 10 bytes behind what was there. Its header may be shorter:
 * the first frame begins later instead, the others are moved up. */
void conn_reply_end(struct conn *c, enum ws_op op, size_t len)
{
    struct ws_out *out = &c->server->pool->out;
    uint8_t head[10];
    size_t n = ws_head(head, op, len), gap = 10 - n;
    assert(c->server->pool->corked == c && len <= out->cap - out->len - 10);
    if (!out->len) {
        out->p += gap;
        out->cap -= gap;
    } else if (gap) {
        memmove(out->p + out->len + n, out->p + out->len + 10, len);
    }
    memcpy(out->p + out->len, head, n);
    out->len += n + len;
    c->messages_out++;
}

void conn_put(struct conn *c, const void *p, size_t n)
{
    struct ws_out *out = &c->server->pool->out;
    conn_cork(c);
    if (out->cap - out->len < n) conn_flush(c);
    if (out->cap < n) {
        queue(c, p, n);
        conn_arm(c);
        return;
    }
    if (n) memcpy(out->p + out->len, p, n);
    out->len += n;
}

size_t conn_backlog(struct conn *c)
{
    if (conn_waiting(c) > CONN_HIGH_WATER) conn_flush(c);
    return conn_waiting(c);
}

/* So many bytes of the queue have left, or are given up. */
static void advance(struct conn *c, size_t n)
{
    struct held *h = c->held;
    h->queued -= n;
    h->moved = loop_now(c->server->loop);
    for (struct block *b; (b = h->out) && n >= b->to - b->from; ) {
        n -= b->to - b->from;
        h->out = b->next;
        block_free(c->server->pool, b);
    }
    if (h->out) h->out->from += n;
    else h->out_last = NULL;
}

void conn_drop_queue(struct conn *c)
{
    if (!c->held) return;
    advance(c, c->held->queued);
    conn_let_go(c);
}

void conn_write(struct conn *c)
{
    if (c->overrun) return;               /* the queue may end within a frame */
    while (conn_queued(c)) {
        struct iovec v[WRITE_BLOCKS];
        size_t bytes = 0;
        uint16_t n = 0;
        for (struct block *b = c->held->out; b && n < WRITE_BLOCKS; b = b->next) {
            v[n++] = (struct iovec){ b->p + b->from, b->to - b->from };
            bytes += b->to - b->from;
        }
        size_t sent = send_some(c, v, n);
        if (c->broken) return;
        if (sent) advance(c, sent);
        if (sent < bytes) break;
    }
    if (!conn_queued(c)) {
        conn_let_go(c);
        conn_drained(c);
    }
}
