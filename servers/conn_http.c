#include <assert.h>
#include <string.h>

#include "number.h"
#include "servers/conn_impl.h"

static const char *phrase(int status)
{
    switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 426: return "Upgrade Required";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default:  return status < 400 ? "OK" : "Error";
    }
}

/* v in digits, ended by NUL. */
static const char *number(char room[NUMBER_ROOM], size_t v)
{
    room[number_put_int(room, (int64_t)v)] = '\0';
    return room;
}

void conn_answer(struct conn *c, const struct conn_answer *a)
{
    if (c->state != CONN_HEAD || c->u.http.answered) return;
    c->u.http.answered = true;
    if (a->status >= 400 || c->server->ending) c->keep = false;
    char status[NUMBER_ROOM], length[NUMBER_ROOM];
    bool body = a->status != 204;
    const char *const text[] = {
        "HTTP/1.1 ", number(status, (size_t)a->status), " ", phrase(a->status),
        body ? "\r\nContent-Length: " : "", body ? number(length, a->body.len) : "",
        a->type ? "\r\nContent-Type: " : "", a->type ? a->type : "", "\r\n",
        a->headers ? a->headers : "", a->more ? a->more : "",
        c->keep ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n" };
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) conn_put(c, text[i], strlen(text[i]));
    if (!c->u.http.head) conn_put(c, a->body.p, a->body.len);
    c->u.http.head = false;
}

/* With status, phrase and why as its text: a few constant words each. */
static void refuse(struct conn *c, struct conn_answer *a, const char *why)
{
    struct server *s = c->server;
    char body[256], code[NUMBER_ROOM];
    const char *const text[] = { number(code, (size_t)a->status), " ", phrase(a->status), ": ", why,
                                 "\n" };
    size_t n = 0;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        size_t len = strlen(text[i]);
        assert(len <= sizeof body - n);
        memcpy(body + n, text[i], len);
        n += len;
    }
    a->type = "text/plain; charset=utf-8";
    a->body = (struct slice){ body, n };
    s->n.rejected++;
    if (s->ops->refused) s->ops->refused(c, a->status, why);
    conn_answer(c, a);
}

void conn_refuse(struct conn *c, int status, const char *more, const char *why)
{
    refuse(c, &(struct conn_answer){ .status = status, .headers = c->server->refusal_headers,
                                     .more = more }, why);
}

int conn_upgrade(struct conn *c, const struct http_head *h, struct slice protocol,
                 const char *headers)
{
    struct server *s = c->server;
    struct ws_out *out = &s->pool->out;
    const char *why;
    int status = ws_check_request(h, &why);
    if (status != 101) {
        const char *more = status == 426 ? CONN_WANTED : status == 405 ? "Allow: GET\r\n" : NULL;
        refuse(c, &(struct conn_answer){ .status = status, .headers = headers, .more = more }, why);
        return status;
    }
    conn_cork(c);
    if (out->cap - out->len < 256 + protocol.len) conn_flush(c);
    out->len += ws_accept((char *)out->p + out->len, h, protocol);
    ws_init(&c->u.ws, WS_SERVER, &s->ws, out, NULL, loop_now(s->loop));
    c->state = CONN_OPEN;
    s->n.open++;
    s->n.total++;
    if (s->ops->opened) s->ops->opened(c);
    return 101;
}

/* For servers that leave requests to us. */
static void default_request(struct conn *c, const struct http_head *h)
{
    if (ws_is_upgrade(h))
        conn_upgrade(c, h, (struct slice){ "", 0 }, NULL);
    else if (slice_is(h->path, "/") || slice_is(h->path, "/ws"))
        conn_refuse(c, 426, CONN_WANTED, "this is a WebSocket server");
    else
        conn_refuse(c, 404, NULL, "no such page");
}

/* RFC 9112 9.3. A body is never read, so nothing can follow it. */
static bool keeps_alive(const struct http_head *h)
{
    return h->minor == 1 && !http_has_token(h, "Connection", "close") && !http_has_body(h);
}

/* A whole head: p[0..size). */
static void request(struct conn *c, const uint8_t *p, size_t size)
{
    struct server *s = c->server;
    struct http_head h;
    int status = http_request(&h, (const char *)p, size);
    c->keep = false;
    c->u.http.answered = false;
    c->u.http.head = slice_is(h.method, "HEAD");
    c->u.http.scan = (struct http_scan){ 0 };
    if (status != 200) {
        conn_refuse(c, status, NULL, "malformed request");
        return;
    }
    c->keep = keeps_alive(&h);
    if (s->ops->request) s->ops->request(c, &h);
    else default_request(c, &h);
    if (c->state != CONN_HEAD) return;
    if (!c->u.http.answered) conn_refuse(c, 500, NULL, "not answered");
    c->u.http.deadline = loop_now(s->loop) + s->handshake_timeout_ms;
}

void conn_http(struct conn *c, uint8_t *p, size_t n)
{
    struct http_scan *scan = &c->u.http.scan;
    struct conn_pool *pool = c->server->pool;
    while (c->state == CONN_HEAD && n && !conn_stall(c)) {
        int status = http_scan(scan, (const char *)p, n);
        if (!status) break;
        size_t size = scan->at;
        if (status == 200) {
            request(c, p, size);
        } else {
            c->u.http.answered = false;
            conn_refuse(c, status, NULL, status == 431 ? "head too large" : "malformed request");
        }
        if (c->state == CONN_OPEN) {
            conn_pump(c, p + size, n - size);
            return;
        }
        if (!c->keep) {
            conn_drain(c, true);
            return;
        }
        p += size;
        n -= size;
        pool_look(pool);
        if (pool->late && n) { conn_make_dirty(c); break; }
    }
    if (!n) conn_drop_input(c);
    else if (!conn_keep(c, p, n, n < HTTP_MAX_HEAD / 8 ? HTTP_MAX_HEAD / 8 : 2 * n)) conn_lost(c);
}
