/* What an endpoint keeps of one connection; made when there is first something
 * to keep, so that an idle connection costs nothing here. Private to the
 * endpoint's own files. */
#ifndef SESSION_H
#define SESSION_H

#include "servers/endpoint.h"

#define SESSION_WAITING 16       /* requests that wait behind the one being computed */
#define SESSION_QUERIES 16       /* standing queries of a connection */
#define SESSION_EVENTS  262144   /* bytes of events that wait for a slow subscriber */

/* Lists of an endpoint that a session may be in: of those with replies that wait, and of those
 * with subscriptions. */
enum session_list { WAITING, LISTENING };

struct session {
    struct endpoint *ep;
    struct conn     *conn;               /* open as long as this is there */

    /* Requests that were not answered yet, oldest first. */
    struct request  *first, *last;
    unsigned         n, blocked;         /* blocked: of them not executed or not finished */
    size_t           ready;              /* bytes of replies that wait */
    bool             hold, pumping;
    bool             in[2];              /* by enum session_list, as next */
    struct session  *next[2];

    /* --rate: a bucket of tokens. */
    double           tokens;
    int64_t          filled;             /* when, ms; 0: never */

    /* Subscriptions. */
    unsigned         bits;               /* EVENT_… */
    struct timer     ticker;             /* for `stats` events */
    int64_t          interval;           /* of those, ms */
    unsigned         queries;            /* standing ones */
    unsigned         untold;             /* of them whose query_id has not been sent yet */
    struct queued   *oldest, *newest;    /* events that wait for a slow peer, or for a query_id */
    size_t           queued_bytes;
    uint64_t         dropped;
};

/* Where a kept request stands. */
enum request_state { UNREAD, RUNNING, READY };

/* replies.c */

/* The session of a connection, made when missing; NULL when memory is lacking. */
struct session *session_of(struct conn *c);

/* Append a kept one to what waits; the connection is read no further when it is too much. */
void session_append(struct request *rq, enum request_state state);

/* Into a list of its endpoint, or out of it, unless it is there or not. */
void session_list(struct session *s, enum session_list which, bool in);

/* A copy of rq, and of its message when `message`, that outlives this turn. */
struct request *request_keep(const struct request *rq, bool message);
void request_free(struct request *rq, struct conn *c);

/* retry_ms: member retry_after_ms of data; negative: none. */
void reply_error_text(struct request *rq, enum reply_code code, const char *text, int64_t retry_ms);

/* endpoint.c */

/* Read and execute one request. One whose command may have to wait is kept
 * first, in its place among its connection's. */
void request_execute(struct request *rq);

/* events.c */
void events_drained(struct conn *c);
void events_closed(struct session *s);
extern const struct command events_commands[];

/* common.c */
extern const struct command common_commands[];

#endif
