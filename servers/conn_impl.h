/* What the files of conn.h share: a connection, its held bytes, the pool.
 *
 * conn.c        reading, WebSocket events, deadlines, ends
 * conn_http.c   request heads, answers, the upgrade
 * conn_out.c    the send buffer, what a slow peer has not taken, messages out
 * conn_pool.c   memory: blocks, the budget, who waits for room
 * server.c      listening, accepting, places of connections, shutdown */
#ifndef SERVERS_CONN_IMPL_H
#define SERVERS_CONN_IMPL_H

#include <sys/uio.h>

#include "servers/conn.h"

#define CONN_IN        131072  /* bytes of the shared receive buffer */
#define CONN_OUT_SLACK 1048576 /* of the shared send buffer, beyond the largest reply */
#define CONN_BIG       65536   /* a payload so long leaves from where it lies */
#define CONN_STALL_MS  20000   /* for --ping-timeout 0 where somebody must go */

/* Bytes held for one connection: p[from..to). Large ones are mapped, so that
 * only what was written to is really there; `counted` is that. */
struct block {
    struct block *next;
    size_t cap, from, to, counted;
    uint8_t p[];
};

/* What a connection holds beside its own struct; there only while it holds anything. */
struct held {
    struct block *in;               /* received: part of a message, or not looked at yet */
    struct block *out, *out_last;   /* not yet taken by the kernel */
    size_t   queued;                /* bytes of out */
    size_t   taken;                 /* bytes of conn_take() */
    int64_t  moved;                 /* when the peer last took something of out */
};

enum conn_state {
    CONN_HEAD,      /* a request head is awaited or being read */
    CONN_OPEN,      /* WebSocket */
    CONN_DRAIN,     /* what is queued still leaves, then `after` */
    CONN_LINGERING, /* our side is shut down, what comes is thrown away */
    CONN_DEAD       /* closed, freed at the end of the turn */
};

struct conn {
    struct watch   watch;
    struct timer   timer;           /* tag: the connection's place among the server's */
    struct server *server;
    void          *user;
    struct held   *held;
    struct conn   *next;            /* in the pool's list of dirty, starved or dead; among vacant */
    uint64_t       bytes_in, bytes_out;
    uint32_t       messages_in, messages_out;
    uint32_t       generation;
    uint32_t       since;           /* accepted at, in units of 16 ms */
    struct net_address peer;
    uint8_t        state;
    bool           hold : 1;        /* by the endpoint */
    bool           stalled : 1;     /* more waits to be sent than CONN_HIGH_WATER */
    bool           starved : 1;     /* in the list of those that wait for room */
    bool           hungry : 1;      /* it was there and has not got enough since */
    bool           dirty : 1;       /* in the list of those to go on with */
    bool           closing : 1;     /* our close was sent */
    bool           eof : 1;         /* the peer ended its side */
    bool           linger : 1;      /* after DRAIN: shut down and wait, else close */
    bool           keep : 1;        /* HTTP: the connection lives on after the answer */
    bool           extra : 1;       /* over the limit */
    bool           more : 1;        /* the last read filled its buffer */
    bool           big : 1;         /* the last message was large: look at the next's size first */
    bool           broken : 1;      /* writing failed: ended when it is gone on with */
    bool           overrun : 1;     /* holds too much: likewise, with 1013 */
    union {
        struct ws ws;
        struct {
            struct http_scan scan;
            bool     answered;
            bool     head;          /* the request is a HEAD: no body behind its answer */
            int64_t  deadline;      /* of HEAD, DRAIN, LINGERING */
            uint32_t thrown;        /* bytes, while LINGERING */
        } http;
    } u;
};

struct conn_pool {
    struct loop   *loop;
    struct server *servers;
    uint8_t       *in;              /* [CONN_IN], shared */
    struct ws_out  out;             /* shared; out.p moves a little before the first message */
    uint8_t       *out_base;        /* [out_cap] */
    size_t         out_cap, max_reply;
    struct conn   *corked;          /* whose frames are in out */
    struct conn   *pumped;          /* whose bytes are being looked at */
    size_t         held, budget;
    size_t         left;            /* bytes of held whose connections are gone */
    bool           late;            /* enough is handled for now, the rest waits for its turn */
    int64_t        resumed_us;      /* when those that waited for it last got theirs */
    size_t         unseen;          /* bytes read since the clock was looked at */
    struct block  *spare;           /* mapped, for the next large message */
    size_t         spare_bytes;
    struct conn   *dirty, *dirty_last, *starved, *dead;
    int64_t        moved;           /* when one that waited for room last got it */
    struct timer   stuck;           /* armed while somebody wants what is not there */
    struct timer   trim;            /* memory goes back to the system */
    struct hook    flush, reap;
    struct job     resume;          /* goes on with the dirty */
};

static inline size_t conn_queued(const struct conn *c) { return c->held ? c->held->queued : 0; }

/* Bytes that were sent and that the kernel has not taken. */
static inline size_t conn_waiting(const struct conn *c)
{
    const struct conn_pool *pool = c->server->pool;
    return conn_queued(c) + (pool->corked == c ? pool->out.len : 0);
}

/* conn.c */
void conn_ready(struct watch *w, unsigned events);
void conn_fire(struct timer *t, int64_t now);
void conn_resume(struct conn *c);              /* go on with what is held, read again */
void conn_arm(struct conn *c);                 /* deadline and events, after anything changed */
void conn_drain(struct conn *c, bool linger);  /* send what is queued, then end */
void conn_drained(struct conn *c);             /* nothing is queued any more */
void conn_lost(struct conn *c);                /* end at once, whatever the state */
void conn_pause(struct conn *c);               /* no longer read: not timed out for silence */
void conn_pump(struct conn *c, uint8_t *p, size_t n);   /* bytes of a WebSocket */
bool conn_stall(struct conn *c);               /* too much waits to be sent: look at nothing more */

/* conn_http.c */
void conn_http(struct conn *c, uint8_t *p, size_t n);   /* bytes of request heads */
void conn_refuse(struct conn *c, int status, const char *more,   /* header lines, or NULL */
                 const char *why);

/* conn_out.c */
void conn_flush(struct conn *c);               /* send what c has in it; the rest is queued */
void conn_uncork(struct conn_pool *pool);      /* likewise whoever has it, who gives it up */
void conn_write(struct conn *c);               /* the kernel takes again */
void conn_put(struct conn *c, const void *p, size_t n);   /* bytes of an answer */
void conn_drop_queue(struct conn *c);

/* The send buffer is c's now. */
static inline void conn_cork(struct conn *c)
{
    struct conn_pool *pool = c->server->pool;
    if (pool->corked == c) return;
    conn_uncork(pool);
    pool->corked = c;
}

/* conn_pool.c */
struct held *conn_hold_bytes(struct conn *c);  /* c->held, made; NULL when memory is lacking */
void conn_let_go(struct conn *c);              /* free c->held when it is empty */
struct block *block_new(struct conn_pool *pool, size_t cap);
void block_free(struct conn_pool *pool, struct block *b);
void block_count(struct conn_pool *pool, struct block *b);   /* b->to has grown */
size_t conn_room(const struct conn *c);        /* bytes that c may hold more */
bool conn_keep(struct conn *c, const uint8_t *p, size_t n, size_t want);
bool conn_append(struct conn *c, const uint8_t *p, size_t n);
void conn_drop_input(struct conn *c);
void conn_starve(struct conn *c);              /* not read until there is room */
void conn_make_dirty(struct conn *c);          /* it is gone on with behind the others */
void conn_bury(struct conn *c);                /* DEAD: off the lists, freed in the reap */
void pool_overdrawn(struct conn_pool *pool);   /* beyond the overdraft: the greatest holder goes */
void pool_look(struct conn_pool *pool);        /* at the clock: is enough handled for now? */
void pool_join(struct conn_pool *pool, struct server *s);
void pool_leave(struct conn_pool *pool, struct server *s);

/* server.c */
void server_closed(struct conn *c);            /* counts it out; accepts again */
void server_vacate(struct conn *c);            /* gives its place back */

#endif
