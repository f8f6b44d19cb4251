#include "servers/pages.h"

#include <stdio.h>
#include <string.h>

#include "servers/assets.h"
#include "servers/endpoint.h"
#include "servers/log.h"
#include "servers/policy.h"
#include "servers/values.h"

#define CORS                                            \
    "Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n" \
    "Access-Control-Allow-Headers: *, Authorization\r\n"

#define EVERYONE "Access-Control-Allow-Origin: *\r\n" CORS
const char pages_everyone[] = EVERYONE;

#define NO_STORE "Cache-Control: no-store\r\n"

static char body[131072];                /* of an answer that is made on the spot */

/* One request on its way to an answer. */
struct visit {
    struct conn            *c;
    const struct http_head *h;
    struct endpoint        *ep;
    struct net_address      local;
    bool                    has_local;
    char                    headers[2048];
};

static void answer(struct visit *v, int status, const char *type, struct slice text)
{
    conn_answer(v->c, &(struct conn_answer){
        .status = status, .type = type, .headers = v->headers, .body = text });
}

/* May this be written into a header of ours? */
static bool plain(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 127) return false;
    return s.len > 0 && s.len <= 256;
}

/* Whom this answer is for: everyone, or the origin that asked. */
static void cors(struct visit *v, bool everyone, const char *more)
{
    const struct http_header *o = http_find(v->h, "Origin");
    if (everyone || (o && !plain(o->value)))
        snprintf(v->headers, sizeof v->headers, EVERYONE "%s", more);
    else if (o)
        snprintf(v->headers, sizeof v->headers,
                 "Access-Control-Allow-Origin: %.*s\r\nVary: Origin\r\n" CORS "%s",
                 (int)o->value.len, o->value.p, more);
    else
        snprintf(v->headers, sizeof v->headers, "Vary: Origin\r\n" CORS "%s", more);
}

/* A few words for everyone. */
static void answer_text(struct visit *v, int status, const char *more, const char *text)
{
    cors(v, true, more);
    answer(v, status, "text/plain; charset=utf-8", (struct slice){ text, strlen(text) });
}

static void log_refusal(const struct visit *v, const struct verdict *why)
{
    char peer[NET_TEXT];
    struct slice value = why->value;
    /* What a client copies from its URL, "TOKEN@host" or "host?token=TOKEN", is told without
     * the token. */
    const char *at = value.len ? memrchr(value.p, '@', value.len) : NULL;
    if (at) value = (struct slice){ at + 1, (size_t)(value.p + value.len - at - 1) };
    const char *query = value.len ? memchr(value.p, '?', value.len) : NULL;
    if (query) value.len = (size_t)(query - value.p);
    log_begin(LOG_INFO, v->ep->name, "connection refused");
    log_text("peer", net_text(peer, conn_peer(v->c), true));
    log_int("status", why->status);
    log_text("header", why->header);
    if (why->status != 401) log_str("value", value);   /* never a token */
    log_end();
}

static const char *sentence(const struct verdict *why)
{
    if (why->status == 401) return "A token is required, and none or a wrong one was given";
    if (why->status == 400) return "The Host header is missing or malformed";
    return *why->header == 'H' ? "This Host is not allowed" : "This Origin is not allowed";
}

/* The refusal explains itself: which header with which value, and which flag allows it. */
static void refuse(struct visit *v, const struct verdict *why)
{
    bool valid = utf8_valid((const uint8_t *)why->value.p, why->value.len);
    log_refusal(v, why);
    v->ep->server.n.rejected++;
    cors(v, false, why->status == 401 ? "WWW-Authenticate: Bearer\r\n" : "");
    struct json_out out = json_out(body, sizeof body);
    json_open(&out, '{');
    member_text(&out, "status", "error");
    member_text(&out, "error", sentence(why));
    member_open(&out, "data", '{');
    member_text(&out, "code", why->status == 401 ? "unauthorized"
                            : why->status == 400 ? "bad_host" : "forbidden");
    member_text(&out, "header", why->header);
    if (why->value.p) {
        json_put_key(&out, "value");
        json_put_str(&out, valid ? why->value.p : "?", valid ? why->value.len : 1);
    }
    if (why->flag) member_text(&out, "flag", why->flag);
    json_close(&out, '}');
    json_close(&out, '}');
    answer(v, why->status, "application/json", (struct slice){ body, out.len });
}

/* Origin and token, where they matter. false: refused. */
static bool may(struct visit *v)
{
    struct verdict why = policy_origin(v->ep->policy, v->h, v->has_local ? &v->local : NULL);
    if (!why.status) why = policy_token(v->ep->policy, v->h);
    if (why.status) refuse(v, &why);
    return !why.status;
}

/* Subprotocol to answer: our own where offered, else the bearer that opened the door. */
static struct slice protocol(const struct visit *v)
{
    size_t pos = 0;
    for (struct slice s; (s = http_item(v->h, "Sec-WebSocket-Protocol", &pos)).len;)
        if (slice_is(s, v->ep->protocol)) return s;
    return policy_bearer(v->ep->policy, v->h);
}

static bool is_path(const struct visit *v, const char *path) { return slice_is(v->h->path, path); }

static void upgrade(struct visit *v)
{
    if (!is_path(v, "/") && !is_path(v, "/ws")) {
        answer_text(v, 404, "", "not found: WebSockets are at / and /ws\n");
        return;
    }
    if (!may(v)) return;
    cors(v, false, "");
    conn_upgrade(v->c, v->h, protocol(v), v->headers);
}

static void get_stats(struct visit *v)
{
    struct json_out out = json_out(body, sizeof body);
    endpoint_stats(v->ep, &out);
    cors(v, false, NO_STORE);
    answer(v, 200, "application/json", (struct slice){ body, out.len });
}

static void get_metrics(struct visit *v)
{
    size_t n = endpoint_metrics(v->ep, body, sizeof body);
    cors(v, false, NO_STORE);
    answer(v, 200, "text/plain; version=0.0.4; charset=utf-8", (struct slice){ body, n });
}

static void get_health(struct visit *v)
{
    answer_text(v, 200, NO_STORE, "ok\n");
}

static void get_ready(struct visit *v)
{
    bool ready = !v->ep->ready || v->ep->ready(v->ep);
    answer_text(v, ready ? 200 : 503, NO_STORE,
                ready ? "ready\n" : "not ready: the memory cannot be written\n");
}

/* The page may talk to its own two servers, under the name it was asked for, and
 * to nobody else. An IPv6 literal cannot be written in a policy: 'self' remains. */
static void page_headers(struct visit *v)
{
    char more[1536], sources[1152] = "";
    struct http_origin o;
    const struct http_header *host = http_find(v->h, "Host");
    if (host && http_host(&o, host->value) && plain(o.host) &&
        !memchr(o.host.p, ':', o.host.len))
        for (int i = 0; i < 2; i++)
            if (v->ep->policy->ports[i])
                snprintf(sources + strlen(sources), sizeof sources - strlen(sources),
                         " http://%.*s:%u ws://%.*s:%u", (int)o.host.len, o.host.p,
                         v->ep->policy->ports[i], (int)o.host.len, o.host.p,
                         v->ep->policy->ports[i]);
    snprintf(more, sizeof more,
             "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
             "img-src 'self' data:; connect-src 'self'%s; base-uri 'none'; form-action 'none'; "
             "frame-ancestors 'none'\r\nX-Content-Type-Options: nosniff\r\n"
             "Cache-Control: no-cache\r\n",
             sources);
    cors(v, true, more);
}

static void get(struct visit *v)
{
    static const struct { const char *path; void (*get)(struct visit *); bool guarded; } made[] = {
        { "/healthz", get_health, false }, { "/readyz", get_ready, false },
        { "/stats", get_stats, true }, { "/metrics", get_metrics, true },
    };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        if (is_path(v, made[i].path)) {
            if (!made[i].guarded || may(v)) made[i].get(v);
            return;
        }
    struct asset a;
    if (asset_find(v->h->path, &a)) {
        page_headers(v);
        answer(v, 200, a.type, a.body);
    } else if (is_path(v, "/ws")) {
        answer_text(v, 426, CONN_WANTED, "upgrade required: this path is a WebSocket\n");
    } else {
        answer_text(v, 404, "", "not found\n");
    }
}

void pages_request(struct conn *c, const struct http_head *h)
{
    struct visit v = { .c = c, .h = h, .ep = (struct endpoint *)(void *)conn_server(c) };
    v.has_local = conn_local(c, &v.local);
    struct verdict why = policy_host(v.ep->policy, h, v.has_local ? &v.local : NULL);
    if (why.status) { refuse(&v, &why); return; }
    if (ws_is_upgrade(h)) { upgrade(&v); return; }
    if (slice_is(h->method, "OPTIONS")) {
        cors(&v, false, "Allow: GET, HEAD, OPTIONS\r\nAccess-Control-Max-Age: 600\r\n");
        answer(&v, http_has_body(h) ? 400 : 204, NULL, (struct slice){ 0 });
    } else if (!slice_is(h->method, "GET") && !slice_is(h->method, "HEAD")) {
        answer_text(&v, 405, "Allow: GET, HEAD, OPTIONS\r\n",
                    "method not allowed: GET, HEAD and OPTIONS are\n");
    } else if (http_has_body(h)) {
        answer_text(&v, 400, "", "bad request: no body is expected\n");
    } else {
        get(&v);
    }
}
