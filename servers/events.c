/* Subscriptions: who listens to what, and slow subscribers, who lose the oldest
 * events and hold up nobody. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "servers/params.h"
#include "servers/session.h"

/* One event's whole message; shared by those who have not got it yet. */
struct event {
    unsigned        bit, refs;
    size_t          len, data;          /* where its data begins, which the last bracket ends */
    char            text[];
};

/* An event in the queue of one slow subscriber. */
struct queued { struct queued *next; struct event *ev; };

/* In the order of the EVENT_ bits. */
static const char *const names[] = {
    "memory_added", "memory_updated", "memory_removed", "stats", "match"
};
#define N_NAMES (sizeof names / sizeof *names)

static void unref(struct event *ev)
{
    if (!--ev->refs) free(ev);
}

/* dropped: how many were lost before it. */
static struct event *event_new(unsigned bit, struct slice data, uint64_t dropped)
{
    size_t cap = data.len + 192;
    struct event *ev = malloc(sizeof *ev + cap);
    if (!ev) return NULL;
    struct json_out out = json_out(ev->text, cap);
    json_open(&out, '{');
    member_text(&out, "status", "success");
    member_text(&out, "event", names[__builtin_ctz(bit)]);
    if (dropped) member_count(&out, "dropped", dropped);
    json_put_key(&out, "data");
    size_t at = out.len;
    json_put_raw(&out, data.p, data.len);
    json_close(&out, '}');
    *ev = (struct event){ .bit = bit, .refs = 1, .len = out.len, .data = at };
    return ev;
}

/* Send one, with the number of those that were lost before it. */
static void send_one(struct session *s, struct event *ev)
{
    struct slice data = { ev->text + ev->data, ev->len - ev->data - 1 };
    struct event *told = s->dropped ? event_new(ev->bit, data, s->dropped) : ev;
    if (!told) { s->dropped++; return; }
    if (!conn_send(s->conn, WS_TEXT, told->text, told->len)) s->ep->metrics.sent++;
    if (told != ev) unref(told);
    s->dropped = 0;
}

static void drop_oldest(struct session *s)
{
    struct queued *q = s->oldest;
    s->oldest = q->next;
    if (!s->oldest) s->newest = NULL;
    s->queued_bytes -= q->ev->len;
    conn_give(s->conn, q->ev->len);
    unref(q->ev);
    free(q);
}

/* Counted for each that waits for it: whether others do, too, may change. */
static void enqueue(struct session *s, struct event *ev)
{
    struct queued *q = malloc(sizeof *q);
    if (!q || !conn_take(s->conn, ev->len)) {
        free(q);
        s->dropped++;
        return;
    }
    *q = (struct queued){ NULL, ev };
    ev->refs++;
    if (s->newest) s->newest->next = q;
    else s->oldest = q;
    s->newest = q;
    s->queued_bytes += ev->len;
    while (s->queued_bytes > SESSION_EVENTS) {
        drop_oldest(s);
        s->dropped++;
    }
}

static void give(struct session *s, struct event *ev)
{
    if (!(s->bits & ev->bit)) return;
    if (s->oldest || s->untold || conn_backlog(s->conn) > CONN_HIGH_WATER) enqueue(s, ev);
    else send_one(s, ev);
}

void events_drained(struct conn *c)
{
    struct session *s = *conn_user(c);
    while (s && s->oldest && !s->untold && conn_backlog(c) <= CONN_HIGH_WATER) {
        send_one(s, s->oldest->ev);
        drop_oldest(s);
    }
}

bool endpoint_listens(const struct endpoint *ep, unsigned bit)
{
    for (const struct session *s = ep->list[LISTENING]; s; s = s->next[LISTENING])
        if (s->bits & bit) return true;
    return false;
}

void endpoint_event(struct endpoint *ep, unsigned bit, struct slice data)
{
    struct event *ev = endpoint_listens(ep, bit) ? event_new(bit, data, 0) : NULL;
    for (struct session *s = ep->list[LISTENING]; ev && s; s = s->next[LISTENING]) give(s, ev);
    if (ev) unref(ev);
}

/* An event for one alone. */
static void give_new(struct session *s, unsigned bit, struct slice data)
{
    struct event *ev = event_new(bit, data, 0);
    if (!ev) return;
    give(s, ev);
    unref(ev);
}

void endpoint_event_to(struct endpoint *ep, struct conn_ref to, unsigned bit, struct slice data)
{
    struct conn *c = conn_get(&ep->server, to);
    if (c && *conn_user(c)) give_new(*conn_user(c), bit, data);
}

static void tick(struct timer *t, int64_t now)
{
    static char text[ENDPOINT_STATS];
    struct session *s = CONTAINER(struct session, ticker, t);
    struct json_out out = json_out(text, sizeof text);
    endpoint_stats(s->ep, &out);
    if (!out.full) give_new(s, EVENT_STATS, (struct slice){ text, out.len });
    loop_at(s->ep->server.loop, t, now + s->interval);
}

void events_closed(struct session *s)
{
    session_list(s, LISTENING, false);
    loop_at(s->ep->server.loop, &s->ticker, LOOP_NEVER);
    while (s->oldest) drop_oldest(s);
    if (s->queries && s->ep->unwatch) s->ep->unwatch(s->ep, conn_ref(s->conn));
}

/* Commands. */

struct subscription {
    struct slice events, query;
    int64_t      interval_ms;
};

static const struct param params[] = {
    { "events",      PARAM_LIST,   .at = offsetof(struct subscription, events) },
    { "interval_ms", PARAM_INT,    .at = offsetof(struct subscription, interval_ms),
                                   .min = 100, .max = 3600000 },
    { "query",       PARAM_OBJECT, .at = offsetof(struct subscription, query) },
    { 0 }
};

/* The bits of a list of names, or 0 after an error was replied. */
static unsigned read_bits(struct request *rq, struct slice list)
{
    struct json in = json_inside(list);
    unsigned bits = 0;
    while (json_next(&in) > JSON_END) {
        struct slice s = json_slice(&in);
        unsigned bit = 0;
        for (size_t i = 0; i < N_NAMES; i++)
            if (slice_is(s, names[i])) bit = 1u << i & rq->ep->events;
        if (!bit)
            return reply_error(rq, REPLY_INVALID_PARAMETER,
                               "Invalid parameter: events (unknown name in the list)");
        bits |= bit;
    }
    if (!bits)
        reply_error(rq, REPLY_INVALID_PARAMETER,
                    "Invalid parameter: events (a list of one or more names)");
    return bits;
}

static void answer(struct request *rq, const struct session *s, uint32_t query_id)
{
    struct json_out *out = reply_begin(rq);
    member_open(out, "subscribed", '[');
    for (size_t i = 0; i < N_NAMES; i++)
        if (s && (s->bits & 1u << i)) json_put_text(out, names[i]);
    json_close(out, ']');
    if (query_id) member_int(out, "query_id", query_id);
    reply_end(rq);
}

/* The subscription is complete: rq->user holds bits and interval. */
void endpoint_watched(struct request *rq, uint32_t query_id)
{
    struct conn *c = request_conn(rq);
    struct session *s = c ? session_of(c) : NULL;
    if (!s) { reply_drop(rq); return; }
    s->bits |= (unsigned)rq->user[0];
    if (query_id) {
        s->queries++;
        s->untold++;
        rq->names_query = true;          /* it is kept, as all that wait for a vector */
    }
    if (rq->user[0] & EVENT_STATS) {
        s->interval = rq->user[1];
        s->ticker.fire = tick;
        loop_at(s->ep->server.loop, &s->ticker, loop_now(s->ep->server.loop) + s->interval);
    }
    session_list(s, LISTENING, true);
    answer(rq, s, query_id);
}

static void on_subscribe(struct request *rq)
{
    static uint32_t last_id;
    struct subscription p = { .interval_ms = 1000 };
    if (!params_read(rq, params, &p)) return;
    if (!p.events.p) {
        reply_error(rq, REPLY_MISSING_FIELD, "Missing required field: events");
        return;
    }
    unsigned bits = read_bits(rq, p.events);
    if (!bits) return;                   /* rq is answered, and gone */
    struct conn *c = request_conn(rq);
    struct session *s = c ? *conn_user(c) : NULL;
    rq->user[0] = bits;
    rq->user[1] = p.interval_ms;
    if (!(bits & EVENT_MATCH)) { endpoint_watched(rq, 0); return; }
    if (!p.query.p) reply_error(rq, REPLY_MISSING_FIELD, "Missing required field: query");
    else if (s && s->queries == SESSION_QUERIES)
        reply_error(rq, REPLY_INVALID_PARAMETER,
                    "Invalid parameter: query (at most 16 on a connection)");
    else rq->ep->watch(rq, ++last_id ? last_id : ++last_id);
}

static void on_unsubscribe(struct request *rq)
{
    struct subscription p = { .interval_ms = 1000 };
    if (!params_read(rq, params, &p)) return;
    unsigned bits = p.events.p ? read_bits(rq, p.events) : ~0u;
    if (!bits) return;                   /* rq is answered, and gone */
    struct conn *c = request_conn(rq);
    struct session *s = c ? *conn_user(c) : NULL;
    if (s) {
        s->bits &= ~bits;
        if ((bits & EVENT_MATCH) && s->queries) {
            s->queries = 0;
            rq->ep->unwatch(rq->ep, rq->conn);
        }
        if (!s->bits) session_list(s, LISTENING, false);
        if (bits & EVENT_STATS) loop_at(s->ep->server.loop, &s->ticker, LOOP_NEVER);
    }
    answer(rq, s, 0);
}

const struct command events_commands[] = {
    { "subscribe", on_subscribe, CMD_LATER }, { "unsubscribe", on_unsubscribe, 0 }, { 0 }
};
