/* Replies in the order of requests. What is ready and next in line leaves at once,
 * from where it was written; only what must wait (for the disk, for a job, or
 * behind one that does) is kept, in its place among its connection's. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "servers/log.h"
#include "servers/session.h"
#include "servers/values.h"

const char *const reply_code_names[REPLY_CODES] = {
    "invalid_json", "invalid_envelope", "missing_field", "invalid_parameter", "invalid_timestamp",
    "unknown_type", "bad_dimension", "too_large", "not_found", "store_full", "storage",
    "unknown_adapter", "bad_adapter", "rate_limited", "busy", "internal",
};

/* Sessions. */

struct session *session_of(struct conn *c)
{
    struct session *s = *conn_user(c);
    if (s || !(s = calloc(1, sizeof *s))) return s;
    s->ep = (struct endpoint *)(void *)conn_server(c);
    s->conn = c;
    *conn_user(c) = s;
    return s;
}

/* Enough waits of this connection; it is read no further. One request is being computed,
 * others wait behind it; and replies wait for the disk or for one another. */
static bool much(const struct session *s)
{
    return s->n > 1 + SESSION_WAITING || s->ready > CONN_HIGH_WATER;
}

static void hold_if_much(struct session *s)
{
    if (!s->hold && much(s)) conn_hold(s->conn, s->hold = true);
}

void session_append(struct request *rq, enum request_state state)
{
    struct session *s = rq->session;
    rq->state = (uint8_t)state;
    rq->next = NULL;
    if (s->last) s->last->next = rq;
    else s->first = rq;
    s->last = rq;
    s->n++;
    s->blocked += state != READY;
    session_list(s, WAITING, true);
    hold_if_much(s);
}

void session_list(struct session *s, enum session_list which, bool in)
{
    struct session **p = &s->ep->list[which];
    if (in == s->in[which]) return;
    s->in[which] = in;
    if (in) {
        s->next[which] = *p;
        *p = s;
        return;
    }
    while (*p != s) p = &(*p)->next[which];
    *p = s->next[which];
}

void request_free(struct request *rq, struct conn *c)
{
    if (c) conn_give(c, rq->held);
    else conn_pool_give(rq->ep->server.pool, rq->held);
    free(rq->reply);
    free(rq);
}

static void session_pop(struct session *s)
{
    struct request *rq = s->first;
    s->first = rq->next;
    if (!s->first) s->last = NULL;
    s->n--;
    if (rq->state == READY) s->ready -= rq->reply_len;
    bool told = rq->names_query && !--s->untold;
    request_free(rq, s->conn);
    if (told) events_drained(s->conn);
}

/* Kept requests. */

/* A slice of the old message is one of the new, at the same offset. */
static struct slice moved(struct slice s, struct slice from, const char *to)
{
    if (s.p >= from.p && s.p <= from.p + from.len) s.p = to + (s.p - from.p);
    return s;
}

struct request *request_keep(const struct request *rq, bool message)
{
    struct conn *c = conn_get(&rq->ep->server, rq->conn);
    struct session *s = c ? session_of(c) : NULL;
    size_t bytes = sizeof *rq + (message ? rq->message.len : 0) + 1;
    bool crowded = message && conn_pool_crowded(rq->ep->server.pool);
    struct request *k = s && !crowded ? malloc(bytes) : NULL;
    if (!k || !conn_take(c, bytes)) {
        free(k);
        return NULL;
    }
    *k = *rq;
    k->kept = true;
    k->session = s;
    k->reply = NULL;
    k->held = bytes;
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
    member_text(&rq->out, "status", status);
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
    rq->out = json_out(p, cap < rq->ep->max_reply ? cap : rq->ep->max_reply);
    put_head(rq, status);
    return &rq->out;
}

struct json_out *reply_begin(struct request *rq)
{
    begin(rq, "success");
    member_open(&rq->out, "data", '{');
    return &rq->out;
}

static void count(struct request *rq, const char *outcome)
{
    uint64_t us = (uint64_t)(loop_clock_us() - rq->now_us);
    histogram_add(&rq->ep->metrics.latency, us);
    log_begin(LOG_INFO, rq->ep->name, "request");
    log_str("type", rq->type);
    if (rq->id.len) log_str("id", rq->id);
    log_int("bytes", (int64_t)rq->message.len);
    log_num("ms", (double)us / 1000, 3);
    log_text("outcome", outcome);
    log_end();
}

/* Must a reply to this one wait for seq no longer? */
static bool is_durable(const struct request *rq, uint64_t seq)
{
    return seq <= (rq->on_disk ? rq->ep->on_disk : rq->ep->durable);
}

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
    bool closing = !rq->out.p;           /* nothing can be sent any more */
    if (first && (closing || is_durable(rq, seq))) {
        if (!closing) conn_reply_end(c, WS_TEXT, rq->out.len), rq->ep->metrics.sent++;
        if (rq->kept) session_pop(s), pump(s);
        return;
    }
    if (closing && !rq->kept) return;
    struct request *k = rq->kept ? rq : request_keep(rq, false);
    char *copy = k ? malloc(rq->out.len + 1) : NULL;
    if (!copy) {                         /* an answer is lost: the client must not wait for it */
        if (rq->kept) rq->state = READY, rq->failed = true;   /* freed with its connection */
        else if (k) request_free(k, c);
        conn_close(c, 1011, "out of memory");
        return;
    }
    if (!closing) memcpy(copy, rq->out.p, rq->out.len);
    k->reply = copy;
    k->reply_len = rq->out.len;
    k->seq = seq;
    if (conn_take(c, k->reply_len)) k->held += k->reply_len;
    k->session->ready += k->reply_len;
    if (!rq->kept) {
        session_append(k, READY);
        return;
    }
    k->state = READY;
    hold_if_much(s);
    pump(s);
}

void reply_end_durable(struct request *rq, uint64_t seq)
{
    json_close(&rq->out, '}');
    json_close(&rq->out, '}');
    if (rq->out.full && rq->out.p) {
        reply_too_large(rq);
        return;
    }
    count(rq, "success");
    finish(rq, seq);
}

void reply_end(struct request *rq) { reply_end_durable(rq, 0); }

static void error_text(struct request *rq, enum reply_code code, const char *text, int64_t retry_ms)
{
    struct json_out *out = begin(rq, "error");
    member_text(out, "error", text);
    member_open(out, "data", '{');
    member_text(out, "code", reply_code_names[code]);
    if (retry_ms >= 0) member_int(out, "retry_after_ms", retry_ms);
    json_close(out, '}');
    json_close(out, '}');
    /* A type as long as a reply may be is no command's. */
    if (out->full && out->p && rq->type.len) {
        rq->type.len = 0;
        error_text(rq, code, text, retry_ms);
    }
}

/* Cut at a character when a client's word made the sentence too long. */
static void clean_cut(char *text)
{
    size_t n = strlen(text), cut = n;
    while (cut && ((unsigned char)text[cut - 1] & 0xc0) == 0x80) cut--;
    if (cut && !utf8_valid((const uint8_t *)text, n)) text[cut - 1] = 0;
    if (utf8_valid((const uint8_t *)text, strlen(text))) return;
    for (char *p = text; *p; p++)            /* a path that was cut, or is none */
        if ((unsigned char)*p >= 0x80) *p = '?';
}

void reply_error_text(struct request *rq, enum reply_code code, const char *text, int64_t retry_ms)
{
    rq->ep->metrics.errors++;
    rq->ep->metrics.errors_by_code[code]++;
    error_text(rq, code, text, retry_ms);
    count(rq, reply_code_names[code]);
    finish(rq, 0);
}

bool reply_error(struct request *rq, enum reply_code code, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    clean_cut(text);
    reply_error_text(rq, code, text, -1);
    return false;
}

void reply_too_large(struct request *rq)
{
    reply_error(rq, REPLY_TOO_LARGE,
                "Reply too large: above %zu bytes; ask for base64 or for fewer", rq->ep->max_reply);
}

void reply_busy(struct request *rq, int64_t retry_after_ms)
{
    reply_error_text(rq, REPLY_BUSY, "Server busy", retry_after_ms);
}

void reply_drop(struct request *rq)
{
    if (!request_alive(rq)) finish(rq, 0);
    else reply_error(rq, REPLY_INTERNAL, "Internal error");
}

/* Send what is ready and execute what waited for it. */
static void pump(struct session *s)
{
    if (s->pumping) return;
    s->pumping = true;
    struct endpoint *ep = s->ep;
    while (s->first) {
        struct request *rq = s->first;
        if (rq->state == READY && is_durable(rq, rq->seq)) {
            if (rq->failed) conn_close(s->conn, 1011, "out of memory");  /* what it says is wrong */
            else if (!conn_send(s->conn, WS_TEXT, rq->reply, rq->reply_len)) ep->metrics.sent++;
            session_pop(s);
            continue;
        }
        while (rq && rq->state == READY) rq = rq->next;
        if (!rq || rq->state == RUNNING || s->ready > CONN_HIGH_WATER) break;
        rq->state = RUNNING;
        request_execute(rq);
    }
    s->pumping = false;
    if (s->hold && !much(s)) conn_hold(s->conn, s->hold = false);
}

/* Take out of the list those with nothing left, pump the others. What one of them executes may
 * find that the disk has failed, which is told to all from within: no link is held meanwhile. */
void endpoint_go_on(struct endpoint *ep)
{
    for (struct session *s = ep->list[WAITING], *next; s; s = next) {
        pump(s);
        next = s->next[WAITING];
        if (!s->n) session_list(s, WAITING, false);
    }
}

void endpoint_durable(struct endpoint *ep, uint64_t durable, uint64_t on_disk)
{
    if (durable <= ep->durable && on_disk <= ep->on_disk) return;
    ep->durable = durable;
    ep->on_disk = on_disk;
    endpoint_go_on(ep);
}

static void fail(struct request *rq, const char *why)
{
    struct endpoint *ep = rq->ep;
    char text[512], buf[2048];
    snprintf(text, sizeof text, "Storage failed: %s", why);
    rq->out = json_out(buf, sizeof buf);
    put_head(rq, "error");
    member_text(&rq->out, "error", text);
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
    rq->session->ready += rq->out.len - rq->reply_len;
    rq->reply_len = rq->out.len;
}

void endpoint_failed(struct endpoint *ep, uint64_t from, const char *why,
                     bool (*stands)(const void *user, uint64_t seq), const void *user)
{
    for (struct session *s = ep->list[WAITING]; s; s = s->next[WAITING])
        for (struct request *rq = s->first; rq; rq = rq->next) {
            bool lost = rq->on_disk ? !is_durable(rq, rq->seq)
                                    : rq->seq >= from && !stands(user, rq->seq);
            if (rq->state == READY && lost) fail(rq, why);
        }
}
