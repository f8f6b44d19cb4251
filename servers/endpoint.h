/* An endpoint: the envelope of SPEC 3 over a server. It reads the envelope,
 * finds the command, lets it run, and sends replies in the order of requests,
 * those that wait for the disk or for a job included.
 *
 * A command either replies before it returns, or, when it is marked CMD_LATER
 * and rq->kept is true, any time later: then rq and everything that rq's
 * message holds stay valid until reply_end() or reply_error(). */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "json.h"
#include "servers/conn.h"
#include "servers/metrics.h"

struct embedder;
struct endpoint;
struct request;
struct options;
struct policy;

/* Codes of error replies, in the order of SPEC 3's table. */
enum reply_code {
    REPLY_INVALID_JSON, REPLY_INVALID_ENVELOPE, REPLY_MISSING_FIELD, REPLY_INVALID_PARAMETER,
    REPLY_INVALID_TIMESTAMP, REPLY_UNKNOWN_TYPE, REPLY_BAD_DIMENSION, REPLY_TOO_LARGE,
    REPLY_NOT_FOUND, REPLY_STORE_FULL, REPLY_STORAGE, REPLY_UNKNOWN_ADAPTER, REPLY_BAD_ADAPTER,
    REPLY_RATE_LIMITED, REPLY_BUSY, REPLY_INTERNAL, REPLY_CODES
};

enum { CMD_LATER = 1 };   /* may reply after it has returned, when ep->slow */

struct command {
    const char *name;                    /* lower case; a list ends with NULL */
    void      (*run)(struct request *);
    unsigned    flags;
};

/* What may be subscribed to, as bits. */
enum { EVENT_ADDED = 1, EVENT_UPDATED = 2, EVENT_REMOVED = 4, EVENT_STATS = 8, EVENT_MATCH = 16 };

struct endpoint {
    struct server         server;        /* first: ops get it back */
    const char           *name;          /* "memory", "inference" */
    const char           *protocol;      /* subprotocol that is echoed */
    const struct command *commands;      /* its own, searched before those of both */
    void                 *app;           /* what the commands work on */
    bool                  slow;          /* CMD_LATER commands may have to wait: keep their
                                            messages */
    unsigned              events;        /* EVENT_ bits that can be subscribed to */
    size_t                max_reply;
    double                rate;          /* requests per minute and connection, 0: off */
    int64_t             (*wall)(struct endpoint *);
                                         /* ms since 1970, as this endpoint tells time */
    bool                (*ready)(struct endpoint *);  /* for /readyz */
    void                (*stats)(struct endpoint *, struct json_out *);
                                         /* its own members of `stats` */
    void                (*watch)(struct request *, uint32_t query_id);
                                         /* a standing query was given: endpoint_watched() or
                                            an error reply, now or (rq->kept) later */
    void                (*unwatch)(struct endpoint *, struct conn_ref);
                                         /* all of its standing queries are over */
    struct metrics        metrics;
    const struct options *options;
    struct policy        *policy;
    uint64_t              durable;       /* highest sequence number that counts as stored, */
    uint64_t              on_disk;       /* and that is on disk, whatever --sync says */
    struct embedder      *embedder;
    uint32_t              dimension;     /* of its vectors */
    int64_t               started;       /* monotonic ms */

    /* The endpoint's own. */
    struct session       *list[2];       /* by enum session_list of session.h */
};

struct request {
    struct endpoint      *ep;
    struct conn_ref       conn;
    const struct command *cmd;
    struct slice          id;            /* JSON text of the id as it was sent, or empty */
    struct slice          type;          /* lower-cased */
    struct slice          data;          /* JSON text of the object to read parameters from */
    bool                  flat;          /* that is the envelope itself: type, id, timestamp
                                            are not parameters */
    bool                  kept;          /* valid until replied; false: only until the command
                                            returns */
    int64_t               now_us;        /* when it came, monotonic */
    struct slice          message;       /* the whole text, for a content hash */
    int64_t               user[2];       /* for the command, while it waits */
    bool                  on_disk;       /* set by the command: its reply waits for the disk
                                            whatever --sync says */

    /* The endpoint's own. */
    struct request       *next;
    struct session       *session;
    uint8_t               state;         /* enum request_state of session.h */
    bool                  replied, failed;
    bool                  names_query;   /* its reply does, and events wait for that */
    uint64_t              seq;           /* must be on disk before the reply leaves */
    struct json_out       out;
    char                 *reply;         /* a reply that waits */
    size_t                reply_len, held;  /* held: bytes taken from the budget */
};

/* The writer, standing inside the object "data"; write its members. Called again it begins
 * anew: what was written is forgotten.
 * To cut a long list: keep a copy of *out before each item, and when out->full
 * is set after it, put the copy back and stop; leave room for what closes. */
struct json_out *reply_begin(struct request *rq);

/* Send it, after the replies to earlier requests. Too large: the client gets
 * `Reply too large` instead. seq: only once that is on disk (0: at once). */
void reply_end(struct request *rq);
void reply_end_durable(struct request *rq, uint64_t seq);

/* The error reply, its sentence as SPEC 3 begins it; returns false, so that
 * `return reply_error(...)` reads well. */
bool reply_error(struct request *rq, enum reply_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void reply_busy(struct request *rq, int64_t retry_after_ms);
void reply_too_large(struct request *rq);      /* as reply_end() does it: for who asks before
                                                  he acts */

/* The client's connection, for rate limits, streams and standing queries. NULL: it is gone. */
struct conn *request_conn(const struct request *rq);

/* Milliseconds since it came. */
double request_ms(const struct request *rq);

/* Is the client still there? (Work for one that is gone can be dropped with reply_drop().) */
bool request_alive(const struct request *rq);
void reply_drop(struct request *rq);

/* So far everything is durable and on disk: replies that waited leave. Or: what waited for
 * `from` and later has failed, with the reason, but for what stands(user, seq) says, and
 * what waited for the disk; that leaves with endpoint_go_on(), and what waited behind it is
 * executed. */
void endpoint_durable(struct endpoint *ep, uint64_t durable, uint64_t on_disk);
void endpoint_failed(struct endpoint *ep, uint64_t from, const char *why,
                     bool (*stands)(const void *user, uint64_t seq), const void *user);
void endpoint_go_on(struct endpoint *ep);

/* An event to everyone who subscribed to that bit; data: one JSON value. To one
 * connection: of a standing query. What reply_begin() began before is forgotten. */
void endpoint_event(struct endpoint *ep, unsigned bit, struct slice data);
void endpoint_event_to(struct endpoint *ep, struct conn_ref to, unsigned bit, struct slice data);
bool endpoint_listens(const struct endpoint *ep, unsigned bit);  /* does anybody? */

/* The standing query of this `subscribe` is in place: goes on with the reply. */
void endpoint_watched(struct request *rq, uint32_t query_id);

/* What a server calls (conn.h): set as server.ops. */
extern const struct server_ops endpoint_ops;

/* Begin: fill the fields above first; then this, then server_listen(). */
void endpoint_init(struct endpoint *ep);

/* The `stats` object of this endpoint; it may name every adapter, escaped. */
#define ENDPOINT_STATS 40960
void endpoint_stats(struct endpoint *ep, struct json_out *out);

/* The same figures as Prometheus text into p[0..cap); returns its bytes. */
size_t endpoint_metrics(struct endpoint *ep, char *p, size_t cap);

/* Names of the reply codes: "invalid_json", … */
extern const char *const reply_code_names[REPLY_CODES];

#endif
