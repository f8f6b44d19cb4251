#include "servers/endpoint.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "servers/log.h"
#include "servers/pages.h"
#include "servers/params.h"
#include "servers/session.h"

#define MAX_ID       128   /* bytes of an id, decoded */
#define MAX_KEYS     256   /* members of the envelope and of data */

/* Where a kept request stands. */
enum state { UNREAD, RUNNING, READY };

const char *const reply_code_names[REPLY_CODES] = {
    "invalid_json", "invalid_envelope", "missing_field", "invalid_parameter", "invalid_timestamp",
    "unknown_type", "bad_dimension", "too_large", "not_found", "store_full", "storage",
    "unknown_adapter", "bad_adapter", "rate_limited", "busy", "internal",
};

static int64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Sessions. */

struct session *session_of(struct conn *c)
{
    struct session *s = *conn_user(c);
    if (s || !(s = calloc(1, sizeof *s))) return s;
    s->ep = (struct endpoint *)(void *)conn_server(c);
    s->conn = conn_ref(c);
    *conn_user(c) = s;
    return s;
}

/* Append to what waits; the connection is read no further when it is too much. */
static void session_append(struct session *s, struct request *rq)
{
    rq->session = s;
    rq->next = NULL;
    if (s->last) s->last->next = rq;
    else s->first = rq;
    s->last = rq;
    s->n++;
    if (!s->in_waiting) {
        s->in_waiting = true;
        s->next_waiting = s->ep->waiting;
        s->ep->waiting = s;
    }
    struct conn *c = conn_get(&s->ep->server, s->conn);
    if (c && s->n > SESSION_WAITING && !s->hold) conn_hold(c, s->hold = true);
}

static void request_free(struct request *rq, struct conn *c)
{
    if (c) conn_give(c, rq->held);
    free(rq->reply);
    free(rq);
}

static void session_pop(struct session *s, struct conn *c)
{
    struct request *rq = s->first;
    s->first = rq->next;
    if (!s->first) s->last = NULL;
    s->n--;
    request_free(rq, c);
}

/* Kept requests. */

/* A slice of the old message is one of the new, at the same offset. */
static struct slice moved(struct slice s, struct slice from, const char *to)
{
    if (s.p >= from.p && s.p <= from.p + from.len) s.p = to + (s.p - from.p);
    return s;
}

/* A copy of rq, and of its message when `message`, that outlives this turn. */
static struct request *request_keep(const struct request *rq, bool message)
{
    struct conn *c = conn_get(&rq->ep->server, rq->conn);
    struct session *s = c ? session_of(c) : NULL;
    size_t bytes = sizeof *rq + (message ? rq->message.len : 0) + 1;
    struct request *k = s ? malloc(bytes) : NULL;
    if (!k) return NULL;
    *k = *rq;
    k->kept = true;
    k->reply = NULL;
    k->held = conn_take(c, bytes) ? bytes : 0;
    if (message) {
        char *copy = (char *)(k + 1);
        memcpy(copy, rq->message.p, rq->message.len);
        k->id = moved(rq->id, rq->message, copy);
        k->type = moved(rq->type, rq->message, copy);
        k->data = moved(rq->data, rq->message, copy);
        k->message.p = copy;
    }
    return k;
}

struct conn *request_conn(const struct request *rq)
{
    return rq->kept && !rq->session ? NULL : conn_get(&rq->ep->server, rq->conn);
}

bool request_alive(const struct request *rq) { return request_conn(rq) != NULL; }

/* Replies. */

static void pump(struct session *s);

static void put_head(struct request *rq, const char *status)
{
    json_open(&rq->out, '{');
    json_put_key(&rq->out, "status");
    json_put_text(&rq->out, status);
    if (rq->id.len) {
        json_put_key(&rq->out, "id");
        json_put_raw(&rq->out, rq->id.p, rq->id.len);
        json_put_key(&rq->out, "type");
        json_put_str(&rq->out, rq->type.p, rq->type.len);
    }
}

static struct json_out *begin(struct request *rq, const char *status)
{
    struct conn *c = request_conn(rq);
    size_t cap = 0;
    char *p = c ? conn_reply_begin(c, &cap) : NULL;
    if (!p) cap = 0;
    json_out(&rq->out, p, cap < rq->ep->max_reply ? cap : rq->ep->max_reply);
    put_head(rq, status);
    return &rq->out;
}

struct json_out *reply_begin(struct request *rq)
{
    begin(rq, "success");
    json_put_key(&rq->out, "data");
    return &rq->out;
}

static void log_request(const struct request *rq, const char *outcome, uint64_t us)
{
    if (!log_on(LOG_INFO)) return;
    log_begin(LOG_INFO, rq->ep->name, "request");
    log_str("type", rq->type);
    if (rq->id.len) log_str("id", rq->id);
    log_int("bytes", (int64_t)rq->message.len);
    log_num("ms", (double)us / 1000, 3);
    log_text("outcome", outcome);
    log_end();
}

static void count(struct request *rq, const char *outcome)
{
    uint64_t us = (uint64_t)(clock_us() - rq->now_us);
    histogram_add(&rq->ep->metrics.latency, us);
    log_request(rq, outcome, us);
}

static void sent(struct endpoint *ep) { ep->metrics.sent++; }

/* The reply stands in rq->out. It leaves now if nothing must leave before it
 * and it need not wait for the disk; else it is kept in its place. */
static void finish(struct request *rq, uint64_t seq)
{
    struct conn *c = request_conn(rq);
    struct session *s = c ? *conn_user(c) : NULL;
    rq->replied = true;
    if (!c) {
        if (rq->kept) request_free(rq, NULL);
        return;
    }
    if (rq->kept) s->blocked--;
    bool first = !s || !s->n || s->first == rq;
    if (first && seq <= rq->ep->durable) {
        conn_reply_end(c, WS_TEXT, rq->out.len);
        sent(rq->ep);
        if (rq->kept) session_pop(s, c), pump(s);
        return;
    }
    struct request *k = rq->kept ? rq : request_keep(rq, false);
    char *copy = k ? malloc(rq->out.len) : NULL;
    if (!copy) {                         /* an answer is lost: the client must not wait for it */
        if (k && !rq->kept) request_free(k, c);
        conn_close(c, 1011, "out of memory");
        return;
    }
    memcpy(copy, rq->out.p, rq->out.len);
    k->reply = copy;
    k->reply_len = rq->out.len;
    k->seq = seq;
    k->state = READY;
    if (conn_take(c, rq->out.len)) k->held += rq->out.len;
    if (!rq->kept) session_append(k->session = *conn_user(c), k);
    else pump(s);
}

void reply_end_durable(struct request *rq, uint64_t seq)
{
    json_close(&rq->out, '}');
    if (rq->out.full && request_alive(rq)) {
        reply_error(rq, REPLY_TOO_LARGE,
                    "Reply too large: above %zu bytes; ask for base64 or for fewer", rq->ep->max_reply);
        return;
    }
    count(rq, "success");
    finish(rq, seq);
}

void reply_end(struct request *rq) { reply_end_durable(rq, 0); }

static void error_text(struct request *rq, enum reply_code code, const char *text, int64_t retry_ms)
{
    struct json_out *out = begin(rq, "error");
    json_put_key(out, "error");
    json_put_text(out, text);
    json_put_key(out, "data");
    json_open(out, '{');
    json_put_key(out, "code");
    json_put_text(out, reply_code_names[code]);
    if (retry_ms >= 0) {
        json_put_key(out, "retry_after_ms");
        json_put_int(out, retry_ms);
    }
    json_close(out, '}');
    json_close(out, '}');
}

/* Cut at a character when a client's word made the sentence too long. */
static void clean_cut(char *text)
{
    size_t n = strlen(text), cut = n;
    while (cut && ((unsigned char)text[cut - 1] & 0xc0) == 0x80) cut--;
    if (cut && !utf8_valid((const uint8_t *)text, n)) text[cut - 1] = 0;
}

static void error(struct request *rq, enum reply_code code, const char *text, int64_t retry_ms)
{
    rq->ep->metrics.errors++;
    rq->ep->metrics.errors_by_code[code]++;
    error_text(rq, code, text, retry_ms);
    count(rq, reply_code_names[code]);
    finish(rq, 0);
}

void reply_error(struct request *rq, enum reply_code code, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    clean_cut(text);
    error(rq, code, text, -1);
}

void reply_busy(struct request *rq, int64_t retry_after_ms)
{
    error(rq, REPLY_BUSY, "Server busy", retry_after_ms);
}

void reply_drop(struct request *rq)
{
    if (!request_alive(rq)) finish(rq, 0);
    else reply_error(rq, REPLY_INTERNAL, "Internal error");
}

/* The envelope. */

/* NULL when no member of this object stands twice. */
static const char *doubled(struct slice object)
{
    uint64_t seen[MAX_KEYS];
    struct json in;
    unsigned n = 0;
    json_init(&in, (char *)object.p, object.len);
    json_next(&in);
    json_enter(&in);
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
    struct slice raw = json_raw(in);
    if (type == JSON_STRING && json_decoded_len(raw) > MAX_ID) return "id is longer than 128 bytes";
    rq->id = raw;
    return NULL;
}

/* The type, lower-cased where it stands. One with escapes is decoded there and
 * the text mended behind it, so that the envelope can be read again. */
static void take_type(struct request *rq, struct json *in)
{
    struct slice raw = json_raw(in);
    char *p = (char *)raw.p;
    struct json s;
    json_init(&s, p, raw.len);
    json_next(&s);
    rq->type = json_slice(&s);
    if (rq->type.len + 2 < raw.len) {
        p = (char *)rq->type.p;
        memset(p + rq->type.len, ' ', raw.len - 1 - rq->type.len);
        p[rq->type.len] = '"';
    }
    for (size_t i = 0; i < rq->type.len; i++) {
        char *c = (char *)rq->type.p + i;
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c + 32);
    }
}

static bool time_given(struct json *in)
{
    int64_t ms;
    double v;
    if (in->type == JSON_STRING) {
        struct slice raw = json_raw(in);
        return time_parse((struct slice){ raw.p + 1, raw.len - 2 }, &ms);
    }
    if (in->type != JSON_NUMBER) return false;
    v = json_number(in);
    return time_number(v, &ms);
}

/* What was wrong with an envelope, told after all of it was read. */
struct wrong { const char *envelope; bool time, type; };

static void read_member(struct request *rq, struct json *in, struct wrong *w)
{
    enum json_type t = in->type;
    const char *why = NULL;
    if (json_key(in, "type")) {
        if (t == JSON_STRING) take_type(rq, in);
        else if (t != JSON_NULL) why = "type must be a string", w->type = true;
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

/* Read the envelope of rq->message. false: an error was replied. */
static bool read_envelope(struct request *rq)
{
    struct slice m = rq->message;
    size_t at;
    const char *why = json_check(m.p, m.len, &at);
    if (why) {
        reply_error(rq, REPLY_INVALID_JSON, "Invalid JSON format at byte %zu: %s", at, why);
        return false;
    }
    struct json in;
    struct wrong w = { 0 };
    json_init(&in, (char *)m.p, m.len);
    if (json_next(&in) != JSON_OBJECT) {
        reply_error(rq, REPLY_INVALID_ENVELOPE, "Invalid message: must be an object");
        return false;
    }
    const char *twice = doubled(m);
    json_enter(&in);
    while (json_next(&in) > JSON_END) read_member(rq, &in, &w);
    if (!twice && rq->data.len) twice = doubled(rq->data);
    if (twice) w.envelope = twice;
    if (!rq->data.len) rq->data = m, rq->flat = true;
    if (w.envelope) reply_error(rq, REPLY_INVALID_ENVELOPE, "Invalid message: %s", w.envelope);
    else if (!rq->type.p) reply_error(rq, REPLY_MISSING_FIELD, "Missing required field: type");
    else if (w.time) reply_error(rq, REPLY_INVALID_TIMESTAMP, "Invalid timestamp");
    else return true;
    return false;
}

static bool find_command(struct request *rq)
{
    if (!(rq->cmd = find(rq->ep->commands, rq->type)) && !(rq->cmd = find(common_commands, rq->type)))
        rq->cmd = find(events_commands, rq->type);
    if (rq->cmd) return true;
    int n = rq->type.len < 128 ? (int)rq->type.len : 128;
    reply_error(rq, REPLY_UNKNOWN_TYPE, "Unknown command type: %.*s", n, rq->type.p);
    return false;
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
    if (!s->filled) s->tokens = rate;
    else s->tokens += (double)(now - s->filled) * rate / 60000;
    s->filled = now;
    if (s->tokens > rate) s->tokens = rate;
    if (s->tokens >= 1) { s->tokens--; return true; }
    rq->ep->metrics.rate_limited++;
    error(rq, REPLY_RATE_LIMITED, "Rate limit exceeded", (int64_t)((1 - s->tokens) * 60000 / rate) + 1);
    return false;
}

/* Read and execute one request. One whose command may have to wait is kept
 * first, in its place among its connection's. */
static void execute(struct request *rq)
{
    if (!read_envelope(rq) || !within_rate(rq) || !find_command(rq)) return;
    if (!rq->kept && rq->ep->slow && (rq->cmd->flags & CMD_LATER)) {
        struct request *k = request_keep(rq, true);
        if (!k) { reply_busy(rq, 1000); return; }
        struct session *s = *conn_user(conn_get(&rq->ep->server, rq->conn));
        k->state = RUNNING;
        session_append(s, k);
        s->blocked++;
        rq->cmd->run(k);
        return;
    }
    bool kept = rq->kept;                /* a kept one is gone once it is replied */
    rq->cmd->run(rq);
    if (!kept && !rq->replied) reply_error(rq, REPLY_INTERNAL, "Internal error");
}

/* Send what is ready and execute what waited for it. */
static void pump(struct session *s)
{
    if (s->pumping) return;
    s->pumping = true;
    struct endpoint *ep = s->ep;
    struct conn *c = conn_get(&ep->server, s->conn);
    while (c && s->first) {
        struct request *rq = s->first;
        if (rq->state == READY && rq->seq <= ep->durable) {
            if (!conn_send(c, WS_TEXT, rq->reply, rq->reply_len)) sent(ep);
            session_pop(s, c);
            continue;
        }
        while (rq && rq->state == READY) rq = rq->next;
        if (!rq || rq->state == RUNNING) break;
        rq->state = RUNNING;
        execute(rq);
    }
    s->pumping = false;
    if (c && s->hold && s->n <= SESSION_WAITING) conn_hold(c, s->hold = false);
}

/* Take out of the list those with nothing left, pump the others. */
static void pump_all(struct endpoint *ep)
{
    for (struct session **p = &ep->waiting, *s; (s = *p);) {
        pump(s);
        if (s->n) { p = &s->next_waiting; continue; }
        *p = s->next_waiting;
        s->in_waiting = false;
    }
}

void endpoint_durable(struct endpoint *ep, uint64_t seq)
{
    if (seq <= ep->durable) return;
    ep->durable = seq;
    pump_all(ep);
}

static void fail(struct request *rq, const char *why)
{
    struct endpoint *ep = rq->ep;
    char text[512], buf[2048];
    snprintf(text, sizeof text, "Storage failed: %s", why);
    json_out(&rq->out, buf, sizeof buf);
    put_head(rq, "error");
    json_put_key(&rq->out, "error");
    json_put_text(&rq->out, text);
    json_put_key(&rq->out, "data");
    json_put_raw(&rq->out, "{\"code\":\"storage\"}", 18);
    json_close(&rq->out, '}');
    rq->seq = 0;
    ep->metrics.errors++;
    ep->metrics.errors_by_code[REPLY_STORAGE]++;
    if (rq->out.len > rq->reply_len) {
        char *p = realloc(rq->reply, rq->out.len);
        if (!p) { rq->failed = true; return; }
        rq->reply = p;
    }
    memcpy(rq->reply, buf, rq->out.len);
    rq->reply_len = rq->out.len;
}

void endpoint_failed(struct endpoint *ep, uint64_t from, const char *why)
{
    for (struct session *s = ep->waiting; s; s = s->next_waiting)
        for (struct request *rq = s->first; rq; rq = rq->next)
            if (rq->state == READY && rq->seq >= from) fail(rq, why);
    pump_all(ep);
}

/* What the server tells. */

static void on_message(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    struct endpoint *ep = (struct endpoint *)(void *)conn_server(c);
    struct session *s = *conn_user(c);
    struct request rq = { .ep = ep, .conn = conn_ref(c), .now_us = clock_us(),
                          .message = { (const char *)p, n } };
    (void)op;                            /* binary is refused from its header: ws_config.text_only */
    ep->metrics.received++;
    if (!s || !s->blocked) { execute(&rq); return; }
    struct request *k = request_keep(&rq, true);
    if (!k) { conn_close(c, 1013, "out of memory"); return; }
    k->state = UNREAD;
    session_append(s, k);
    s->blocked++;
}

static void unlink_session(struct session *s)
{
    for (struct session **p = &s->ep->waiting; *p; p = &(*p)->next_waiting)
        if (*p == s) { *p = s->next_waiting; break; }
}

static void on_closed(struct conn *c, const struct conn_end *end)
{
    struct endpoint *ep = (struct endpoint *)(void *)conn_server(c);
    struct session *s = *conn_user(c);
    char peer[NET_TEXT];
    if (log_on(LOG_INFO)) {
        log_begin(LOG_INFO, ep->name, "connection closed");
        log_text("peer", net_text(peer, conn_peer(c), true));
        log_int("code", end->code);
        log_str("reason", end->reason);
        log_num("seconds", (double)end->ms / 1000, 3);
        log_int("bytes_in", (int64_t)end->bytes_in);
        log_int("bytes_out", (int64_t)end->bytes_out);
        log_int("messages_in", end->messages_in);
        log_int("messages_out", end->messages_out);
        log_end();
    }
    if (!s) return;
    if (s->in_waiting) unlink_session(s);
    events_closed(s);
    while (s->first) {
        struct request *rq = s->first;
        s->first = rq->next;
        if (rq->state == RUNNING) {      /* its command still works on it, and frees it */
            conn_give(c, rq->held);
            rq->held = 0;
            rq->session = NULL;
        } else request_free(rq, c);
    }
    *conn_user(c) = NULL;
    free(s);
}

static void log_peer(struct conn *c, enum log_level level, const char *message)
{
    char peer[NET_TEXT];
    struct endpoint *ep = (struct endpoint *)(void *)conn_server(c);
    log_begin(level, ep->name, message);
    log_text("peer", net_text(peer, conn_peer(c), true));
}

static void on_opened(struct conn *c)
{
    if (!log_on(LOG_INFO)) return;
    log_peer(c, LOG_INFO, "connection accepted");
    log_end();
}

static void on_refused(struct conn *c, int status, const char *why)
{
    if (!c) { log_say(LOG_WARN, "", "connection refused: %s", why); return; }
    if (!log_on(LOG_INFO)) return;
    log_peer(c, LOG_INFO, "connection refused");
    log_int("status", status);
    log_text("reason", why);
    log_end();
}

const struct server_ops endpoint_ops = {
    .request = pages_request, .opened = on_opened, .message = on_message,
    .drained = events_drained, .closed = on_closed, .refused = on_refused,
};

void endpoint_init(struct endpoint *ep)
{
    ep->server.ops = &endpoint_ops;
    ep->server.ws.text_only = true;
    ep->started = loop_clock();
}
