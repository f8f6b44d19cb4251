/* The commands that both endpoints know, and what they say of themselves:
 * `stats`, GET /stats and GET /metrics are one set of figures (SPEC 4.4). */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "servers/inference/embedder.h"
#include "servers/options.h"
#include "servers/policy.h"
#include "servers/sandbox.h"
#include "servers/session.h"
#include "servers/values.h"

/* Rounded to thousandths: nobody wants 17 digits of a time. */
static void put_num(struct json_out *out, const char *key, double v)
{
    member_double(out, key, (double)(int64_t)(v * 1000 + (v < 0 ? -0.5 : 0.5)) / 1000);
}

static double uptime(const struct endpoint *ep)
{
    return (double)(loop_now(ep->server.loop) - ep->started) / 1000;
}

static void put_port(struct json_out *out, const char *key, uint16_t port)
{
    json_put_key(out, key);
    if (port) json_put_int(out, port);
    else json_put_null(out);
}

static void put_identity(struct endpoint *ep, struct json_out *out)
{
    char print[65];
    member_text(out, "server", ep->name);
    member_text(out, "version", RECALLD_VERSION);
    member_open(out, "endpoints", '{');
    put_port(out, "memory", ep->policy->ports[0]);
    put_port(out, "inference", ep->policy->ports[1]);
    json_close(out, '}');
    member_text(out, "model", embedder_name(ep->embedder));
    member_text(out, "model_fingerprint",
                hex_text(print, embedder_fingerprint(ep->embedder), 32));
    member_count(out, "dimension", ep->dimension);
    member_text(out, "device", "cpu");
    put_num(out, "uptime_s", uptime(ep));
    json_put_key(out, "server_time"), json_put_time(out, ep->wall(ep));
}

static void put_traffic(const struct endpoint *ep, struct json_out *out)
{
    const struct server_counters *n = &ep->server.n;
    const struct metrics *m = &ep->metrics;
    member_open(out, "connections", '{');
    member_count(out, "active", n->open);
    member_count(out, "total", n->total);
    member_count(out, "rejected", n->rejected);
    member_count(out, "max", ep->server.max_connections);
    member_count(out, "attempts", n->attempts);
    json_close(out, '}');
    member_open(out, "messages", '{');
    member_count(out, "received", m->received);
    member_count(out, "sent", m->sent);
    member_count(out, "errors", m->errors);
    member_count(out, "rate_limited", m->rate_limited);
    json_close(out, '}');
    member_open(out, "bytes", '{');
    member_count(out, "in", n->bytes_in);
    member_count(out, "out", n->bytes_out);
    json_close(out, '}');
}

static void put_times(const struct endpoint *ep, struct json_out *out)
{
    const struct histogram *h = &ep->metrics.latency;
    struct loop_lag lag = loop_lag(ep->server.loop);
    member_open(out, "latency_ms", '{');
    put_num(out, "avg", histogram_avg_ms(h));
    put_num(out, "p50", histogram_ms(h, 0.50));
    put_num(out, "p95", histogram_ms(h, 0.95));
    put_num(out, "p99", histogram_ms(h, 0.99));
    put_num(out, "max", (double)h->max_us / 1000);
    json_close(out, '}');
    member_open(out, "loop_lag_ms", '{');
    put_num(out, "p99", lag.p99_ms);
    put_num(out, "max", lag.max_ms);
    json_close(out, '}');
}

static void put_codes(const struct endpoint *ep, struct json_out *out)
{
    member_open(out, "closes", '{');
    for (int i = 0; i < 17; i++) {
        char code[16];
        snprintf(code, sizeof code, "%d", 1000 + i);
        if (ep->server.n.closes[i])
            member_count(out, i < 16 ? code : "other", ep->server.n.closes[i]);
    }
    json_close(out, '}');
    member_open(out, "errors_by_code", '{');
    for (int i = 0; i < REPLY_CODES; i++)
        if (ep->metrics.errors_by_code[i])
            member_count(out, reply_code_names[i], ep->metrics.errors_by_code[i]);
    json_close(out, '}');
}

static const char no_gpu[] =
    "{\"available\":false,\"allocated\":0,\"cached\":0,\"max_allocated\":0,\"utilization\":0}";

static void put_machine(const struct endpoint *ep, struct json_out *out)
{
    struct usage u = usage_read(loop_now(ep->server.loop));
    member_open(out, "memory", '{');
    put_num(out, "rss_mb", u.rss_mb);
    put_num(out, "peak_rss_mb", u.peak_rss_mb);
    json_close(out, '}');
    member_open(out, "cpu", '{');
    put_num(out, "utilization", u.cpu);
    put_num(out, "load1", u.load1);
    json_close(out, '}');
    json_put_key(out, "gpu");
    json_put_raw(out, no_gpu, sizeof no_gpu - 1);
    member_text(out, "sandbox", sandbox_state());
}

static void put_stats(struct endpoint *ep, struct json_out *out)
{
    put_identity(ep, out);
    put_traffic(ep, out);
    put_times(ep, out);
    put_codes(ep, out);
    put_machine(ep, out);
    if (ep->stats) ep->stats(ep, out);
}

void endpoint_stats(struct endpoint *ep, struct json_out *out)
{
    json_open(out, '{');
    put_stats(ep, out);
    json_close(out, '}');
}

/* Prometheus text. */

struct text { char *p; size_t len, cap; const char *endpoint; };

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A line that does not fit is left out whole. */
static void add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->p + t->len, t->cap - t->len, fmt, ap);
    va_end(ap);
    if (n > 0 && (size_t)n < t->cap - t->len) t->len += (size_t)n;
}

static void heading(struct text *t, const char *type, const char *name)
{
    add(t, "# TYPE recalld_%s %s\n", name, type);
}

static void sample(struct text *t, const char *name, double v)
{
    add(t, "recalld_%s{endpoint=\"%s\"} %.15g\n", name, t->endpoint, v);
}

static void line(struct text *t, const char *type, const char *name, double v)
{
    heading(t, type, name);
    sample(t, name, v);
}

/* One series of several that differ in a label. */
static void labelled(struct text *t, const char *name, const char *label, const char *value,
                     double v)
{
    add(t, "recalld_%s{endpoint=\"%s\",%s=\"%s\"} %.15g\n", name, t->endpoint, label, value, v);
}

static void counters(struct text *t, const struct endpoint *ep)
{
    const struct server_counters *n = &ep->server.n;
    const struct metrics *m = &ep->metrics;
    line(t, "gauge", "connections_active", n->open);
    line(t, "gauge", "connections_max", ep->server.max_connections);
    line(t, "counter", "connections_total", (double)n->total);
    line(t, "counter", "connections_rejected_total", (double)n->rejected);
    line(t, "counter", "connection_attempts_total", (double)n->attempts);
    line(t, "counter", "messages_received_total", (double)m->received);
    line(t, "counter", "messages_sent_total", (double)m->sent);
    line(t, "counter", "errors_total", (double)m->errors);
    line(t, "counter", "rate_limited_total", (double)m->rate_limited);
    line(t, "counter", "bytes_in_total", (double)n->bytes_in);
    line(t, "counter", "bytes_out_total", (double)n->bytes_out);
    heading(t, "counter", "closes_total");
    for (int i = 0; i < 17; i++) {
        char code[16];
        snprintf(code, sizeof code, "%d", 1000 + i);
        if (n->closes[i])
            labelled(t, "closes_total", "code", i < 16 ? code : "other", (double)n->closes[i]);
    }
    heading(t, "counter", "errors_by_code_total");
    for (int i = 0; i < REPLY_CODES; i++)
        if (m->errors_by_code[i])
            labelled(t, "errors_by_code_total", "code", reply_code_names[i],
                     (double)m->errors_by_code[i]);
}

size_t endpoint_metrics(struct endpoint *ep, char *p, size_t cap)
{
    static const struct { double q; const char *name; } quantile[] = {
        { 0.5, "0.5" }, { 0.95, "0.95" }, { 0.99, "0.99" } };
    struct text t = { p, 0, cap, ep->name };
    struct usage u = usage_read(loop_now(ep->server.loop));
    struct loop_lag lag = loop_lag(ep->server.loop);
    line(&t, "gauge", "uptime_seconds", uptime(ep));
    line(&t, "gauge", "resident_bytes", u.rss_mb * 1048576);
    line(&t, "gauge", "cpu_utilization", u.cpu);
    line(&t, "gauge", "loop_lag_p99_seconds", lag.p99_ms / 1000);
    heading(&t, "summary", "request_seconds");
    for (size_t i = 0; i < 3; i++)
        labelled(&t, "request_seconds", "quantile", quantile[i].name,
                 histogram_ms(&ep->metrics.latency, quantile[i].q) / 1000);
    sample(&t, "request_seconds_sum", (double)ep->metrics.latency.sum_us / 1e6);
    sample(&t, "request_seconds_count", (double)ep->metrics.latency.n);
    counters(&t, ep);
    /* The endpoint's own numbers, by their names in `stats`. */
    char own[8192];
    struct json_out out = json_out(own, sizeof own);
    json_open(&out, '{');
    if (ep->stats) ep->stats(ep, &out);
    json_close(&out, '}');
    struct json in = json_inside((struct slice){ own, out.len });
    while (json_next(&in) > JSON_END) {
        char name[64];
        if (in.type != JSON_NUMBER || in.key.len >= sizeof name) continue;
        memcpy(name, in.key.p, in.key.len);
        name[in.key.len] = 0;
        bool counts = in.key.len > 6 && !strcmp(name + in.key.len - 6, "_total");
        line(&t, counts ? "counter" : "gauge", name, json_number(&in));
    }
    return t.len;
}

/* Commands. */

static void on_stats(struct request *rq)
{
    put_stats(rq->ep, reply_begin(rq));
    reply_end(rq);
}

static void on_ping(struct request *rq)
{
    struct json_out *out = reply_begin(rq);
    member_bool(out, "pong", true);
    json_put_key(out, "server_time"), json_put_time(out, rq->ep->wall(rq->ep));
    reply_end(rq);
}

static void on_health(struct request *rq)
{
    struct json_out *out = reply_begin(rq);
    member_text(out, "state", "ok");
    put_num(out, "uptime_s", uptime(rq->ep));
    reply_end(rq);
}

static void on_config(struct request *rq)
{
    struct json_out *out = reply_begin(rq);
    options_put(rq->ep->options, out);
    member_count(out, "max_waiting", SESSION_WAITING);
    member_count(out, "max_standing_queries", SESSION_QUERIES);
    member_count(out, "high_water", CONN_HIGH_WATER);
    member_count(out, "max_nesting", JSON_DEPTH);
    reply_end(rq);
}

const struct command common_commands[] = {
    { "stats", on_stats, 0 }, { "get_stats", on_stats, 0 }, { "status", on_stats, 0 },
    { "ping", on_ping, 0 }, { "health_check", on_health, 0 }, { "config", on_config, 0 }, { 0 }
};
