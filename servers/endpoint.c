#include "servers/endpoint.h"

#include <stdlib.h>
#include <string.h>

#include "servers/log.h"
#include "servers/pages.h"
#include "servers/session.h"
#include "servers/values.h"

#define MAX_ID   128   /* bytes of an id, decoded */
#define MAX_KEYS 256   /* members of the envelope and of data */

double request_ms(const struct request *rq)
{
    return (double)(loop_clock_us() - rq->now_us) / 1000;
}

/* The envelope. */

/* NULL when no member of this object stands twice. */
static const char *doubled(struct slice object)
{
    uint64_t seen[MAX_KEYS];
    struct json in = json_inside(object);
    unsigned n = 0;
    while (json_next(&in) > JSON_END) {
        uint64_t h = json_key_hash(&in);
        for (unsigned i = 0; i < n; i++)
            if (seen[i] == h) return "duplicate key";
        if (n == MAX_KEYS) return "more than 256 keys in an object";
        seen[n++] = h;
    }
    return NULL;
}

/* NULL, or why this id is none. */
static const char *take_id(struct request *rq, struct json *in)
{
    enum json_type type = in->type;
    struct json copy = *in;
    int64_t v;
    if (type == JSON_NULL) return NULL;
    bool whole = type == JSON_NUMBER && json_int(&copy, &v);
    if (type != JSON_STRING && !whole)
        return "id must be a string or an integer within 2^53";
    char room[JSON_ESCAPE * MAX_ID + 2];
    struct slice raw = json_raw(in), id = { "", 0 };
    if (type == JSON_STRING) id = json_decoded(raw, room, sizeof room);
    if (!id.p || id.len > MAX_ID) return "id is longer than 128 bytes";
    rq->id = raw;
    return NULL;
}

/* The type, lower-cased where it stands. One with escapes is decoded there and
 * the text mended behind it, so that the envelope can be read again. */
static void take_type(struct request *rq, struct json *in)
{
    struct slice raw = json_raw(in);
    struct json s;
    json_before(&s, raw);
    rq->type = json_slice(&s);
    char *p = (char *)rq->type.p;
    if (rq->type.len + 2 < raw.len) {
        memset(p + rq->type.len, ' ', raw.len - 1 - rq->type.len);
        p[rq->type.len] = '"';
    }
    for (size_t i = 0; i < rq->type.len; i++) p[i] = ascii_lower(p[i]);
}

/* A string is decoded in a copy: the envelope is to be read again. */
static bool time_given(struct json *in)
{
    int64_t ms;
    char copy[256];
    if (in->type != JSON_STRING) return json_time(in, &ms);
    struct slice s = json_decoded(json_raw(in), copy, sizeof copy);
    return s.p && time_parse(s, &ms);
}

/* What was wrong with an envelope, told after all of it was read. */
struct wrong { const char *envelope; bool time; };

static void read_member(struct request *rq, struct json *in, struct wrong *w)
{
    enum json_type t = in->type;
    const char *why = NULL;
    if (json_key(in, "type")) {
        if (t == JSON_STRING) take_type(rq, in);
        else if (t != JSON_NULL) why = "type must be a string";
    } else if (json_key(in, "id")) {
        why = take_id(rq, in);
    } else if (json_key(in, "timestamp")) {
        if (t != JSON_NULL && !time_given(in)) w->time = true;
    } else if (json_key(in, "data")) {
        if (t == JSON_OBJECT) rq->data = json_raw(in);
        else if (t != JSON_NULL) why = "data must be an object";
    }
    if (why && !w->envelope) w->envelope = why;
}

static const struct command *find(const struct command *list, struct slice type)
{
    for (const struct command *c = list; c && c->name; c++)
        if (slice_is(type, c->name)) return c;
    return NULL;
}

/* A bucket of `rate` requests that fills evenly over a minute. */
static bool within_rate(struct request *rq)
{
    double rate = rq->ep->rate;
    struct conn *c = request_conn(rq);
    if (rate <= 0 || !c) return true;
    struct session *s = session_of(c);
    if (!s) return true;
    int64_t now = rq->now_us / 1000;
    double most = rate < 1 ? 1 : rate;   /* less than one a minute is one now and then */
    if (!s->filled) s->tokens = most;
    else s->tokens += (double)(now - s->filled) * rate / 60000;
    s->filled = now;
    if (s->tokens > most) s->tokens = most;
    if (s->tokens >= 1) { s->tokens--; return true; }
    rq->ep->metrics.rate_limited++;
    reply_error_text(rq, REPLY_RATE_LIMITED, "Rate limit exceeded",
                     (int64_t)((1 - s->tokens) * 60000 / rate) + 1);
    return false;
}

/* Read the envelope of rq->message, which counts whatever it is. false: an error was replied. */
static bool read_envelope(struct request *rq)
{
    struct slice m = rq->message;
    struct json in;
    struct wrong w = { 0 };
    size_t at;
    const char *bad = json_check(m.p, m.len, &at);
    if (!bad && json_before(&in, m) == JSON_OBJECT) {
        const char *twice = doubled(m);
        json_enter(&in);
        while (json_next(&in) > JSON_END) read_member(rq, &in, &w);
        if (!twice && rq->data.len) twice = doubled(rq->data);
        if (twice) w.envelope = twice;
    } else {
        w.envelope = "must be an object";
    }
    if (!rq->data.len) rq->data = m, rq->flat = true;
    if (!within_rate(rq)) return false;
    if (bad)
        return reply_error(rq, REPLY_INVALID_JSON, "Invalid JSON format at byte %zu: %s", at, bad);
    if (w.envelope)
        return reply_error(rq, REPLY_INVALID_ENVELOPE, "Invalid message: %s", w.envelope);
    if (!rq->type.p)
        return reply_error(rq, REPLY_MISSING_FIELD, "Missing required field: type");
    return !w.time || reply_error(rq, REPLY_INVALID_TIMESTAMP, "Invalid timestamp");
}

static bool find_command(struct request *rq)
{
    if (!(rq->cmd = find(rq->ep->commands, rq->type)) &&
        !(rq->cmd = find(common_commands, rq->type)))
        rq->cmd = find(events_commands, rq->type);
    if (rq->cmd) return true;
    int n = rq->type.len < 128 ? (int)rq->type.len : 128;
    return reply_error(rq, REPLY_UNKNOWN_TYPE, "Unknown command type: %.*s", n, rq->type.p);
}

void request_execute(struct request *rq)
{
    if (!read_envelope(rq) || !find_command(rq)) return;
    if (!rq->kept && rq->ep->slow && (rq->cmd->flags & CMD_LATER)) {
        struct request *k = request_keep(rq, true);
        if (!k) { reply_busy(rq, 1000); return; }
        session_append(k, RUNNING);
        rq->cmd->run(k);
        return;
    }
    bool kept = rq->kept;                /* a kept one is gone once it is replied */
    rq->cmd->run(rq);
    if (!kept && !rq->replied) reply_error(rq, REPLY_INTERNAL, "Internal error");
}

/* What the server tells. */

static void on_message(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    struct endpoint *ep = (struct endpoint *)(void *)conn_server(c);
    struct session *s = *conn_user(c);
    struct request rq = { .ep = ep, .conn = conn_ref(c), .now_us = loop_clock_us(),
                          .message = { (const char *)p, n } };
    (void)op;                            /* binary is refused from its header:
                                            ws_config.text_only */
    ep->metrics.received++;
    if (!s || !s->blocked) {
        request_execute(&rq);
        conn_took_long(c);
        return;
    }
    struct request *k = request_keep(&rq, true);
    if (!k) { conn_close(c, 1013, "out of memory"); return; }
    session_append(k, UNREAD);
}

static void log_peer(struct conn *c, enum log_level level, const char *message)
{
    char peer[NET_TEXT];
    struct endpoint *ep = (struct endpoint *)(void *)conn_server(c);
    log_begin(level, ep->name, message);
    if (log_on(level)) log_text("peer", net_text(peer, conn_peer(c), true));
}

static void on_closed(struct conn *c, const struct conn_end *end)
{
    struct session *s = *conn_user(c);
    log_peer(c, LOG_INFO, "connection closed");
    log_int("code", end->code);
    log_str("reason", end->reason);
    log_num("seconds", (double)end->ms / 1000, 3);
    log_int("bytes_in", (int64_t)end->bytes_in);
    log_int("bytes_out", (int64_t)end->bytes_out);
    log_int("messages_in", end->messages_in);
    log_int("messages_out", end->messages_out);
    log_end();
    if (!s) return;
    session_list(s, WAITING, false);
    events_closed(s);
    while (s->first) {
        struct request *rq = s->first;
        s->first = rq->next;
        if (rq->state == RUNNING) {      /* its command still works on it, and frees it */
            rq->held = conn_leave(c, rq->held);
            rq->session = NULL;
        } else request_free(rq, c);
    }
    *conn_user(c) = NULL;
    free(s);
}

/* TCP alone: a head has still to come. */
static void on_accepted(struct conn *c)
{
    log_peer(c, LOG_DEBUG, "connected");
    log_end();
}

static void on_opened(struct conn *c)
{
    log_peer(c, LOG_INFO, "connection accepted");
    log_end();
}

static void on_refused(struct conn *c, int status, const char *why)
{
    if (!c) { log_say(LOG_WARN, "", "connection refused: %s", why); return; }
    log_peer(c, LOG_INFO, "connection refused");
    log_int("status", status);
    log_text("reason", why);
    log_end();
}

const struct server_ops endpoint_ops = {
    .request = pages_request, .opened = on_opened, .message = on_message,
    .drained = events_drained, .closed = on_closed, .refused = on_refused, .accepted = on_accepted,
};

void endpoint_init(struct endpoint *ep)
{
    ep->server.ops = &endpoint_ops;
    ep->server.refusal_headers = pages_everyone;
    ep->server.ws.text_only = true;
    ep->started = loop_clock();
}
