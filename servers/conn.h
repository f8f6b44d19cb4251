/* Connections of an endpoint: HTTP request heads and answers, WebSocket
 * messages, buffers, backpressure, timers. It knows no JSON and no commands,
 * and logs nothing: what happens is told through struct server_ops.
 *
 * One struct conn_pool serves all endpoints of a loop: the receive buffer and
 * the send buffer, both lent to one connection at a time, and the budget for
 * what must be kept: messages not whole yet and bytes that a peer has not taken.
 *
 * A struct conn is valid until closed() (WebSocket) or, before opened(), until
 * request() returns; whoever comes back later holds a struct conn_ref. */
#ifndef SERVERS_CONN_H
#define SERVERS_CONN_H

#include "servers/loop.h"
#include "servers/net.h"
#include "ws.h"

#define CONN_HIGH_WATER 262144    /* more bytes wait to be sent: the connection is not read */
#define CONN_RESERVE    4096      /* bytes a connection may hold when the budget is used up */
#define CONN_LINGER     1048576   /* bytes thrown away at most after our last byte */
#define CONN_SLAB       64        /* connections are allocated by so many */

struct conn;
struct conn_pool;

struct conn_ref { uint32_t slot, generation; };

/* Why and after what a connection ended. */
struct conn_end {
    uint16_t     code;            /* of the close: sent or received; 1006: none came */
    bool         by_peer;
    struct slice reason;          /* UTF-8, from the peer where by_peer */
    int64_t      ms;              /* since it was accepted */
    uint64_t     bytes_in, bytes_out;
    uint32_t     messages_in, messages_out;
};

struct server_ops {
    /* A whole request head (slices valid until return). Answer before the
     * return, with conn_answer() or conn_upgrade(). NULL: upgrades on any
     * path, else 426 for /ws and / and 404 for the rest. */
    void (*request)(struct conn *c, const struct http_head *h);
    /* The 101 is on its way; messages follow. May be NULL, like all below but message. */
    void (*opened)(struct conn *c);
    /* One whole message: p[0..n) may be modified and is gone after the return. */
    void (*message)(struct conn *c, enum ws_op op, uint8_t *p, size_t n);
    /* What waited to be sent has left. */
    void (*drained)(struct conn *c);
    /* The last of an opened connection: drop what belongs to it. c is valid until the return. */
    void (*closed)(struct conn *c, const struct conn_end *end);
    /* A connection or request was refused below the endpoint: status 400, 408,
     * 426, 431, 503, ...; 0: closed without a word (nothing came, or peer gone).
     * peer may be read; c NULL: not even accepted (descriptors used up, or the
     * listening socket was shut down). */
    void (*refused)(struct conn *c, int status, const char *why);
    void (*accepted)(struct conn *c);
};

struct server_counters {
    uint32_t active;              /* accepted and not closed */
    uint32_t open;                /* of these WebSockets */
    uint64_t total;               /* WebSockets opened since start */
    uint64_t attempts;            /* connections accepted from the kernel, refused ones included */
    uint64_t rejected;            /* refused: limit, descriptors, bad requests */
    uint64_t bytes_in, bytes_out;
    uint64_t closes[17];          /* by code 1000..1015; [16]: any other */
};

/* A socket that accepts, and for whom. */
struct listener { struct watch watch; struct server *server; };

/* An endpoint. Fill the first part (zero the rest), then server_listen(). */
struct server {
    struct loop             *loop;
    struct conn_pool        *pool;
    const struct server_ops *ops;
    struct ws_config         ws;                /* ping_timeout_ms: also of who takes nothing */
    int32_t                  handshake_timeout_ms;
    uint32_t                 max_connections;
    const char              *refusal_headers;   /* lines of what is refused before request(),
                                                   or NULL */

    struct server_counters   n;

    /* conn's own */
    struct server           *next;              /* of the pool */
    struct conn            **slab;              /* [slabs] of CONN_SLAB each */
    struct conn             *vacant;            /* places not in use */
    uint32_t                 slabs, serial;
    struct listener          listener[2];
    struct timer             resume;            /* not accepting: descriptors are used up */
    uint32_t                 extra;             /* connections over the limit, being told so */
    bool                     accepting, ending;
    bool                     starved;           /* of descriptors, and that was told */
};

/* max_reply: bytes of the largest message for conn_reply_begin(); budget: the
 * bytes of --buffer-memory. NULL when memory is lacking. */
struct conn_pool *conn_pool_new(struct loop *loop, size_t max_reply, size_t budget);
void   conn_pool_free(struct conn_pool *pool);
size_t conn_pool_held(const struct conn_pool *pool);    /* of the budget, now */

/* Bytes that all this can take at worst, for the line at start: budget, the
 * shared buffers, one overdraft, and `connections` with their reserve. */
uint64_t conn_worst_case(size_t max_reply, size_t budget, uint32_t connections);

/* Accept on these sockets, which the server then owns. 0, or -1 with errno. */
int  server_listen(struct server *s, const struct net_listeners *l);
void server_stop_accepting(struct server *s);

/* Close every connection: WebSockets with this code once what is ready has been
 * sent, the others when their answer is out. s->n.active reaches 0 within the
 * close timeout. */
void server_shutdown(struct server *s, uint16_t code, const char *reason);

/* End everything now, without a word, and free what belongs to s. */
void server_free(struct server *s);

/* HTTP answer. Content-Length, Date-less, Connection and the blank line are
 * added here; the body of an answer to HEAD is counted and not sent; status >= 400
 * or HTTP/1.0 ends the connection after it. */
struct conn_answer {
    int          status;
    const char  *type;            /* Content-Type; NULL: none */
    const char  *headers, *more;  /* more lines, "Name: value\r\n" each; NULL: none */
    struct slice body;
};
void conn_answer(struct conn *c, const struct conn_answer *a);

/* Header lines of a 426: what is wanted. RFC 9110 7.8, 15.5.22, RFC 6455 4.4. */
#define CONN_WANTED \
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"

/* Check the handshake (RFC 6455 4.2.1) and accept it with this subprotocol (may
 * be empty), extra lines for a refusal in headers (may be NULL). 101, or the
 * status that was answered: 400, 405, 426; refused() was told. */
int conn_upgrade(struct conn *c, const struct http_head *h, struct slice protocol,
                 const char *headers);

/* A message that is written straight into the send buffer: *cap (at least
 * max_reply) bytes at the returned place, then conn_reply_end() with how many
 * were written, before anything else of conn.h is called. NULL: the connection
 * is closing. What was sent in a turn leaves with one system call. */
char *conn_reply_begin(struct conn *c, size_t *cap);
void  conn_reply_end(struct conn *c, enum ws_op op, size_t len);

/* Send a copy; a large message leaves from where it lies, and a large one of
 * message()'s own bytes is not copied at all. 0; -1: the connection is closing. */
int conn_send(struct conn *c, enum ws_op op, const void *p, size_t len);

/* Bytes queued and not yet taken by the kernel; what is above CONN_HIGH_WATER it does not
 * take now, so that drained() will be called. */
size_t conn_backlog(struct conn *c);

/* Stop (true) or go on delivering messages. While stopped the connection is not
 * read either, its pings wait, and it is not timed out for silence. Going on
 * delivers from the next flush of the turn, never inside this call. */
void conn_hold(struct conn *c, bool hold);

/* To be called where message() may have taken long: looks at the clock. Once enough was done in
 * this turn, what came behind the message waits for the next one. */
void conn_took_long(struct conn *c);

/* Begin to close; what was sent before leaves first. closed() comes later. */
void conn_close(struct conn *c, uint16_t code, const char *reason);

/* Count bytes that the endpoint keeps of this connection into the budget. They are there
 * already: above the budget nobody gets more, and above the overdraft whoever holds most is
 * closed with 1013. false: memory is lacking, nothing is counted. All is given back by the
 * endpoint, or left, at the latest in closed(). */
bool conn_take(struct conn *c, size_t bytes);
void conn_give(struct conn *c, size_t bytes);

/* In closed(): these bytes are still needed. They stay counted, for nobody, as CONN_RESERVE at
 * least, for what is needed beside them, until conn_pool_give() of what is returned here.
 * crowded: such bytes fill the budget, no more should be taken that may outlive its
 * connection. */
size_t conn_leave(struct conn *c, size_t bytes);
void conn_pool_give(struct conn_pool *pool, size_t bytes);
bool conn_pool_crowded(const struct conn_pool *pool);

struct conn_ref conn_ref(const struct conn *c);
struct conn *conn_get(struct server *s, struct conn_ref ref);  /* NULL: closed */

struct server *conn_server(const struct conn *c);
void   **conn_user(struct conn *c);             /* NULL at first */
const struct net_address *conn_peer(const struct conn *c);
bool     conn_local(const struct conn *c, struct net_address *a);  /* that it reached */

#endif
