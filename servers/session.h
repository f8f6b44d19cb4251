/* What an endpoint keeps of one connection; made when there is first something
 * to keep, so that an idle connection costs nothing here. Private to the
 * endpoint's own files. */
#ifndef SESSION_H
#define SESSION_H

#include "servers/endpoint.h"

#define SESSION_WAITING 16       /* requests that wait behind the one being computed */
#define SESSION_QUERIES 16       /* standing queries of a connection */
#define SESSION_EVENTS  262144   /* bytes of events that wait for a slow subscriber */

struct session {
    struct endpoint *ep;
    struct conn_ref  conn;

    /* Requests that were not answered yet, oldest first. */
    struct request  *first, *last;
    unsigned         n, blocked;         /* blocked: of them not executed or not finished */
    bool             hold, pumping, in_waiting, in_listening;
    struct session  *next_waiting, *next_listening;

    /* --rate: a bucket of tokens. */
    double           tokens;
    int64_t          filled;             /* when, ms; 0: never */

    /* Subscriptions. */
    unsigned         bits;               /* EVENT_… */
    int64_t          interval, due;      /* of `stats` events, ms */
    unsigned         queries;            /* standing ones */
    struct queued   *oldest, *newest;    /* events that wait for a slow peer */
    size_t           queued_bytes;
    uint64_t         dropped;
};

/* The session of a connection, made when missing; NULL when memory is lacking. */
struct session *session_of(struct conn *c);

/* events.c */
void events_drained(struct conn *c);
void events_closed(struct session *s);
extern const struct command events_commands[];

/* common.c */
extern const struct command common_commands[];

#endif
