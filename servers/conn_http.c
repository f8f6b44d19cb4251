#include <string.h>

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

static void put_text(struct conn *c, const char *text)
{
    conn_put(c, text, strlen(text));
}

static void put_number(struct conn *c, size_t v)
{
    char digits[20], *p = digits + sizeof digits;
    do *--p = (char)('0' + v % 10);
    while (v /= 10);
    conn_put(c, p, (size_t)(digits + sizeof digits - p));
}

/* Text into a buffer of `cap` bytes that holds n; cut where it does not fit. */
static size_t append(char *to, size_t cap, size_t n, const char *text)
{
    size_t len = strlen(text);
    if (len > cap - 1 - n) len = cap - 1 - n;
    memcpy(to + n, text, len);
    to[n + len] = '\0';
    return n + len;
}

void conn_answer(struct conn *c, const struct conn_answer *a)
{
    if (c->state != CONN_HEAD || c->u.http.answered) return;
    c->u.http.answered = true;
    if (a->status >= 400 || c->server->ending) c->keep = false;
    put_text(c, "HTTP/1.1 ");
    put_number(c, (size_t)a->status);
    put_text(c, " ");
    put_text(c, phrase(a->status));
    put_text(c, "\r\n");
    if (a->status != 204) {
        put_text(c, "Content-Length: ");
        put_number(c, a->body.len);
        put_text(c, "\r\n");
    }
    if (a->type) {
        put_text(c, "Content-Type: ");
        put_text(c, a->type);
        put_text(c, "\r\n");
    }
    if (a->headers) put_text(c, a->headers);
    put_text(c, c->keep ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n");
    if (!a->head) conn_put(c, a->body.p, a->body.len);
}

static void told_refused(struct conn *c, int status, const char *why)
{
    struct server *s = c->server;
    s->n.rejected++;
    if (s->ops->refused) s->ops->refused(c, status, why);
}

static void refuse(struct conn *c, int status, const char *headers, const char *why, bool head)
{
    char body[256];
    char code[] = { (char)('0' + status / 100), (char)('0' + status / 10 % 10),
                    (char)('0' + status % 10), ' ', '\0' };
    size_t n = append(body, sizeof body - 1, 0, code);
    n = append(body, sizeof body - 1, n, phrase(status));
    n = append(body, sizeof body - 1, n, ": ");
    n = append(body, sizeof body - 1, n, why);
    n = append(body, sizeof body, n, "\n");
    struct conn_answer a = { .status = status, .type = "text/plain; charset=utf-8", .head = head,
                             .headers = headers, .body = { body, n } };
    told_refused(c, status, why);
    conn_answer(c, &a);
}

void conn_refuse(struct conn *c, int status, const char *more, const char *why)
{
    char lines[512];
    const char *own = c->server->refusal_headers;
    size_t n = append(lines, sizeof lines, 0, own ? own : "");
    append(lines, sizeof lines, n, more);
    refuse(c, status, lines, why, false);
}

int conn_upgrade(struct conn *c, const struct http_head *h, struct slice protocol,
                 const char *headers)
{
    struct server *s = c->server;
    struct ws_out *out = &s->pool->out;
    const char *why;
    int status = ws_check_request(h, &why);
    if (status != 101) {
        char lines[512];
        size_t n = append(lines, sizeof lines, 0, headers ? headers : "");
        append(lines, sizeof lines, n,
               status == 426 ? CONN_WANTED : status == 405 ? "Allow: GET\r\n" : "");
        refuse(c, status, lines, why, slice_is(h->method, "HEAD"));
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
        conn_refuse(c, 404, "", "no such page");
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
    c->u.http.scan = (struct http_scan){ 0 };
    if (status != 200) {
        conn_refuse(c, status, "", "malformed request");
        return;
    }
    c->keep = keeps_alive(&h);
    if (s->ops->request) s->ops->request(c, &h);
    else default_request(c, &h);
    if (c->state != CONN_HEAD) return;
    if (!c->u.http.answered) conn_refuse(c, 500, "", "not answered");
    c->u.http.deadline = loop_now(s->loop) + s->handshake_timeout_ms;
}

void conn_http(struct conn *c, uint8_t *p, size_t n)
{
    struct http_scan *scan = &c->u.http.scan;
    while (c->state == CONN_HEAD && n && !conn_stall(c)) {
        int status = http_scan(scan, (const char *)p, n);
        if (!status) break;
        size_t size = scan->at;
        if (status == 200) {
            request(c, p, size);
        } else {
            c->u.http.answered = false;
            conn_refuse(c, status, "", status == 431 ? "head too large" : "malformed request");
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
    }
    if (!n) conn_drop_input(c);
    else if (!conn_keep(c, p, n, n < HTTP_MAX_HEAD / 8 ? HTTP_MAX_HEAD / 8 : 2 * n)) conn_lost(c);
}
