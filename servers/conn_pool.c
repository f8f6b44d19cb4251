#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "servers/conn_impl.h"

#define MAPPED    65536     /* blocks from this size on are mapped, not allocated */
#define PAGE      4096
#define SPARE_PART 8        /* of the budget: mapped blocks kept for the next large messages, */
#define SPARE_MS  1000      /* for so long */
#define TRIM_PART 16        /* of the budget: the heap is trimmed when less is held again */
#define ENOUGH_US 4000      /* of a turn for what is read in it, and for what waited */

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static size_t whole_pages(size_t n) { return (n + PAGE - 1) & ~(size_t)(PAGE - 1); }

/* Blocks. */

static bool is_mapped(const struct block *b) { return b->cap >= MAPPED; }

/* A spare block for cap bytes that does not hold much more than that. */
static struct block *take_spare(struct conn_pool *pool, size_t cap)
{
    for (struct block **at = &pool->spare; *at; at = &(*at)->next) {
        struct block *b = *at;
        if (b->cap < cap || b->cap / 4 > cap) continue;
        *at = b->next;
        pool->spare_bytes -= b->cap;
        return b;
    }
    return NULL;
}

struct block *block_new(struct conn_pool *pool, size_t cap)
{
    struct block *b;
    if (cap > SIZE_MAX / 2) return NULL;
    if (cap < MAPPED) {
        if (!(b = malloc(sizeof *b + cap))) return NULL;
        b->cap = cap;
        b->counted = sizeof *b + cap;
    } else if (!(b = take_spare(pool, cap))) {
        size_t bytes = whole_pages(sizeof *b + cap);
        if (!(b = map(bytes))) return NULL;
        b->cap = bytes - sizeof *b;
        b->counted = PAGE;
    }
    b->next = NULL;
    b->from = b->to = 0;
    pool->held += b->counted;
    return b;
}

static void room_made(struct conn_pool *pool, size_t bytes)
{
    size_t before = pool->held, much = pool->budget / TRIM_PART;
    pool->held -= bytes;
    if (before > much && pool->held <= much)
        loop_by(pool->loop, &pool->trim, loop_now(pool->loop) + SPARE_MS);
}

void block_free(struct conn_pool *pool, struct block *b)
{
    room_made(pool, b->counted);
    if (!is_mapped(b)) {
        free(b);
    } else if (pool->spare_bytes + b->cap <= pool->budget / SPARE_PART) {
        loop_by(pool->loop, &pool->trim, loop_now(pool->loop) + SPARE_MS);
        b->next = pool->spare;
        pool->spare = b;
        pool->spare_bytes += b->cap;
    } else {
        munmap(b, sizeof *b + b->cap);
    }
}

static void free_spare(struct conn_pool *pool)
{
    while (pool->spare) {
        struct block *b = pool->spare;
        pool->spare = b->next;
        munmap(b, sizeof *b + b->cap);
    }
    pool->spare_bytes = 0;
}

static void on_trim(struct timer *t, int64_t now)
{
    (void)now;
    free_spare(CONTAINER(struct conn_pool, trim, t));
#ifdef __GLIBC__
    malloc_trim(0);                       /* glibc keeps what is free below anything that is not */
#endif
}

void block_count(struct conn_pool *pool, struct block *b)
{
    size_t now = whole_pages(sizeof *b + b->to);
    if (!is_mapped(b) || now <= b->counted) return;      /* one allocated is there as a whole */
    pool->held += now - b->counted;
    b->counted = now;
}

/* What a connection holds. */

struct held *conn_hold_bytes(struct conn *c)
{
    if (!c->held) c->held = calloc(1, sizeof *c->held);
    return c->held;
}

void conn_let_go(struct conn *c)
{
    struct held *h = c->held;
    if (!h || h->in || h->out || h->taken) return;
    free(h);
    c->held = NULL;
}

static size_t holds(const struct conn *c)
{
    size_t n = 0;
    if (!c->held) return 0;
    if (c->held->in) n += c->held->in->counted;
    for (const struct block *b = c->held->out; b; b = b->next) n += b->counted;
    return n + c->held->taken;
}

size_t conn_room(const struct conn *c)
{
    const struct conn_pool *pool = c->server->pool;
    size_t room = pool->held < pool->budget ? pool->budget - pool->held : 0;
    if (room >= CONN_RESERVE) return room;
    size_t own = holds(c), reserve = own < CONN_RESERVE ? CONN_RESERVE - own : 0;
    return room > reserve ? room : reserve;
}

/* Keep p[0..n), which may lie in the input block, in a block that has, where
 * the budget allows it, room for `want` bytes from where they begin. */
bool conn_keep(struct conn *c, const uint8_t *p, size_t n, size_t want)
{
    struct conn_pool *pool = c->server->pool;
    struct held *h = conn_hold_bytes(c);
    if (!h) return false;
    struct block *b = h->in;
    size_t room = conn_room(c);
    if (want > n && want - n > room) want = n + room;
    if (want < n) want = n;
    if (b && p >= b->p && p < b->p + b->cap) {
        b->from = (size_t)(p - b->p);
        b->to = b->from + n;
        if (b->cap - b->from >= want) return true;
    }
    if (b && b->cap >= want) {
        memmove(b->p, p, n);
    } else {
        size_t growth = b && b->cap >= MAPPED ? b->cap + b->cap / 2 : 0;   /* not again soon */
        struct block *larger = block_new(pool, growth > want ? growth : want);
        if (!larger) return false;
        memcpy(larger->p, p, n);
        if (b) block_free(pool, b);
        h->in = larger;
    }
    b = h->in;
    b->from = 0;
    b->to = n;
    block_count(pool, b);
    return true;
}

bool conn_append(struct conn *c, const uint8_t *p, size_t n)
{
    struct block *b = c->held ? c->held->in : NULL;
    if (!b) return conn_keep(c, p, n, n);
    if (b->cap - b->to < n) {
        struct conn_pool *pool = c->server->pool;
        size_t len = b->to - b->from;
        struct block *larger = block_new(pool, len + n + len / 2);
        if (!larger) return false;
        memcpy(larger->p, b->p + b->from, len);
        larger->to = len;
        block_free(pool, b);
        c->held->in = b = larger;
    }
    memcpy(b->p + b->to, p, n);
    b->to += n;
    block_count(c->server->pool, b);
    return true;
}

void conn_drop_input(struct conn *c)
{
    if (!c->held || !c->held->in) return;
    block_free(c->server->pool, c->held->in);
    c->held->in = NULL;
    conn_let_go(c);
}

bool conn_take(struct conn *c, size_t bytes)
{
    struct held *h = conn_hold_bytes(c);
    if (!h) return false;
    h->taken += bytes;
    c->server->pool->held += bytes;
    pool_overdrawn(c->server->pool);
    return true;
}

void conn_give(struct conn *c, size_t bytes)
{
    if (!bytes) return;
    c->held->taken -= bytes;
    room_made(c->server->pool, bytes);
    conn_let_go(c);
}

size_t conn_leave(struct conn *c, size_t bytes)
{
    struct conn_pool *pool = c->server->pool;
    size_t counted = bytes < CONN_RESERVE ? CONN_RESERVE : bytes;
    c->held->taken -= bytes;
    pool->held += counted - bytes;
    pool->left += counted;
    conn_let_go(c);
    return counted;
}

void conn_pool_give(struct conn_pool *pool, size_t bytes)
{
    pool->left -= bytes;
    room_made(pool, bytes);
}

bool conn_pool_crowded(const struct conn_pool *pool) { return pool->left >= pool->budget; }

/* Lists: a connection is on one at most. */

static void unlink_starved(struct conn *c)
{
    struct conn **at = &c->server->pool->starved;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    c->starved = false;
}

void conn_make_dirty(struct conn *c)
{
    struct conn_pool *pool = c->server->pool;
    if (c->dirty || c->state == CONN_DEAD) return;
    if (c->starved) unlink_starved(c);
    c->dirty = true;
    c->next = NULL;
    if (pool->dirty) pool->dirty_last->next = c;
    else pool->dirty = c;
    pool->dirty_last = c;
    loop_job(pool->loop, &pool->resume);
}

static int64_t patience_ms(const struct conn *c)
{
    int32_t ms = c->server->ws.ping_timeout_ms;
    return ms ? ms : CONN_STALL_MS;
}

void conn_starve(struct conn *c)
{
    struct conn_pool *pool = c->server->pool;
    if (c->starved || c->dirty) return;
    if (!pool->stuck.slot) {
        pool->moved = loop_now(pool->loop);
        loop_at(pool->loop, &pool->stuck, pool->moved + patience_ms(c));
    }
    c->starved = c->hungry = true;
    conn_pause(c);
    c->next = pool->starved;
    pool->starved = c;
}

void conn_bury(struct conn *c)
{
    struct conn_pool *pool = c->server->pool;
    if (c->starved) unlink_starved(c);
    if (c->dirty) return;                 /* buried when it is gone on with */
    c->next = pool->dead;
    pool->dead = c;
}

void pool_look(struct conn_pool *pool)
{
    int64_t since = loop_began_us(pool->loop);
    if (since < pool->resumed_us) since = pool->resumed_us;
    pool->unseen = 0;
    pool->late = loop_clock_us() - since >= ENOUGH_US;
}

/* Those that are dirty now, until enough is handled; the others come next time, and behind them
 * who becomes so meanwhile. */
static bool resume(struct job *job)
{
    struct conn_pool *pool = CONTAINER(struct conn_pool, resume, job);
    struct conn *c = NULL, *last = pool->dirty_last;
    pool->resumed_us = loop_clock_us();
    pool->late = false;
    while (pool->dirty && c != last && !pool->late) {
        c = pool->dirty;
        pool->dirty = c->next;
        c->dirty = false;
        if (c->state == CONN_DEAD) conn_bury(c);
        else conn_resume(c);
        if (c->hungry && !c->starved) {   /* there was room enough: something moves */
            c->hungry = false;
            pool->moved = loop_now(pool->loop);
        }
    }
    return pool->dirty != NULL;
}

/* There may be room again for those that wait for it. */
static void flush(struct hook *hook)
{
    struct conn_pool *pool = CONTAINER(struct conn_pool, flush, hook);
    conn_uncork(pool);
    if (pool->held >= pool->budget) return;
    if (!pool->starved) loop_at(pool->loop, &pool->stuck, LOOP_NEVER);    /* that want is over */
    while (pool->starved) conn_make_dirty(pool->starved);
}

static void reap(struct hook *hook)
{
    struct conn_pool *pool = CONTAINER(struct conn_pool, reap, hook);
    pool->late = false;
    while (pool->dead) {
        struct conn *c = pool->dead;
        pool->dead = c->next;
        server_vacate(c);
    }
}

/* The greatest holder. */

/* Who holds most, and in *leaving what those hold that are going already. */
static struct conn *greatest(struct conn_pool *pool, size_t *leaving)
{
    struct conn *most = NULL;
    size_t bytes = 0;
    *leaving = 0;
    for (struct server *s = pool->servers; s; s = s->next) {
        for (uint32_t i = 0; i < s->slabs * CONN_SLAB; i++) {
            struct conn *c = &s->slab[i / CONN_SLAB][i % CONN_SLAB];
            size_t n = c->server ? holds(c) : 0;
            if (c->overrun || c->broken) {
                *leaving += n;
            } else if (n > bytes) {
                bytes = n;
                most = c;
            }
        }
    }
    return most;
}

static void end_holder(struct conn_pool *pool, struct conn *c)
{
    c->overrun = true;
    if (c != pool->pumped && conn_queued(c)) {
        conn_drop_queue(c);
        c->broken = true;                 /* perhaps within a frame: nothing can follow */
    }
    conn_make_dirty(c);
}

void pool_overdrawn(struct conn_pool *pool)
{
    size_t most = pool->budget + pool->out_cap, leaving;
    while (pool->held > most) {
        struct conn *c = greatest(pool, &leaving);
        if (!c || pool->held - leaving <= most) break;
        end_holder(pool, c);
    }
}

static void stuck(struct timer *t, int64_t now)
{
    struct conn_pool *pool = CONTAINER(struct conn_pool, stuck, t);
    if (!pool->starved) return;
    int64_t patience = patience_ms(pool->starved);
    if (now >= pool->moved + patience) {
        size_t leaving;
        struct conn *c = greatest(pool, &leaving);
        if (c) end_holder(pool, c);
        pool->moved = now;
    }
    loop_at(pool->loop, t, pool->moved + patience);
}

/* The pool. */

struct conn_pool *conn_pool_new(struct loop *loop, size_t max_reply, size_t budget)
{
    struct conn_pool *pool = malloc(sizeof *pool);
    if (!pool) return NULL;
    *pool = (struct conn_pool){
        .loop = loop, .max_reply = max_reply, .budget = budget,
        .out_cap = whole_pages(max_reply + CONN_OUT_SLACK), .in = map(CONN_IN),
        .stuck.fire = stuck, .trim.fire = on_trim,
        .flush.run = flush, .reap.run = reap, .resume.step = resume };
    pool->out_base = map(pool->out_cap);
    if (!pool->in || !pool->out_base) {
        conn_pool_free(pool);
        return NULL;
    }
    pool->out = (struct ws_out){ .p = pool->out_base, .cap = pool->out_cap };
    loop_on_flush(loop, &pool->flush);
    loop_on_reap(loop, &pool->reap);
    return pool;
}

void conn_pool_free(struct conn_pool *pool)
{
    if (!pool) return;
    free_spare(pool);
    if (pool->in) munmap(pool->in, CONN_IN);
    if (pool->out_base) munmap(pool->out_base, pool->out_cap);
    free(pool);
}

void pool_join(struct conn_pool *pool, struct server *s)
{
    s->next = pool->servers;
    pool->servers = s;
}

static void leave_list(struct conn **at, const struct server *s)
{
    while (*at) {
        if ((*at)->server == s) *at = (*at)->next;
        else at = &(*at)->next;
    }
}

void pool_leave(struct conn_pool *pool, struct server *s)
{
    struct server **at = &pool->servers;
    leave_list(&pool->dirty, s);
    for (struct conn *c = pool->dirty; c; c = c->next) pool->dirty_last = c;
    leave_list(&pool->starved, s);
    leave_list(&pool->dead, s);
    while (*at && *at != s) at = &(*at)->next;
    if (*at) *at = s->next;
}

size_t conn_pool_held(const struct conn_pool *pool) { return pool->held; }

uint64_t conn_worst_case(size_t max_reply, size_t budget, uint32_t connections)
{
    uint64_t each = sizeof(struct conn) + sizeof(struct held) + CONN_RESERVE;
    return budget + budget / SPARE_PART + CONN_IN + 2 * (uint64_t)(max_reply + CONN_OUT_SLACK) +
           each * connections;
}
