// uses: ws.c ws_handshake.c http.c sha1.c base64.c utf8.c
/* A head that may be anything: found alike however its bytes come, read within
 * its bounds, and the same when it is written out and read again. */
#include "../../ws.h"
#include "../wire.h"
#include "fuzz.h"

static void within(struct slice s, const char *p, size_t n)
{
    require(!s.len || !strcmp(s.p, "/") || (s.p >= p && s.p + s.len <= p + n), "slices lie in the head");
}

/* What http_scan() says of the whole, and that it says so at every cut. */
static int scan_in_pieces(const char *p, size_t n, size_t piece, uint16_t *size)
{
    struct http_scan scan = { 0 };
    int status = 0;
    for (size_t have = 0; have < n && !status;) {
        have = n - have < piece ? n : have + piece;
        char *copy = (char *)bytes_copy((const uint8_t *)p, have);
        status = http_scan(&scan, copy, have);
        free(copy);
    }
    *size = scan.at;
    return status;
}

static void walk_lists(const struct http_head *h)
{
    static const char *const names[] = { "Connection", "Upgrade", "Sec-WebSocket-Protocol", "X" };
    for (size_t i = 0; i < 4; i++) {
        size_t pos = 0, items = 0;
        for (struct slice item; (item = http_item(h, names[i], &pos)).len; items++) {
            require(item.p[0] != ' ' && item.p[item.len - 1] != ' ', "items are trimmed");
            require(!memchr(item.p, ',', item.len), "items hold no comma");
        }
        require(items <= HTTP_MAX_HEAD, "lists end");
    }
}

static void judge_origin(struct slice s)
{
    struct http_origin o;
    if (http_host(&o, s)) {
        require(o.host.len && o.host.p == s.p && o.host.len <= s.len, "host is the beginning");
        require(!memchr(o.host.p, '@', o.host.len) && !memchr(o.host.p, '/', o.host.len), "nothing but a host");
    }
    if (http_origin(&o, s)) {
        require(o.scheme.len && o.scheme.p == s.p, "scheme is the beginning");
        require(o.host.len && o.host.p == s.p + o.scheme.len + 3, "host is behind ://");
    }
}

/* Written plainly and read again, a request is the same. */
static void write_again(const struct http_head *h)
{
    struct bytes out = { 0 };
    struct http_head again;
    bytes_add(&out, h->method.p, h->method.len);
    bytes_add(&out, " ", 1);
    bytes_add(&out, h->target.p, h->target.len);
    bytes_add(&out, h->minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n", 11);
    for (size_t i = 0; i < h->n; i++) {
        bytes_add(&out, h->header[i].name.p, h->header[i].name.len);
        bytes_add(&out, ":", 1);
        bytes_add(&out, h->header[i].value.p, h->header[i].value.len);
        bytes_add(&out, "\r\n", 2);
    }
    bytes_add(&out, "\r\n", 2);
    require(http_request(&again, (char *)out.p, out.n) == 200, "read again");
    require(again.n == h->n && again.size == out.n && out.n <= h->size, "as many headers");
    for (size_t i = 0; i < h->n; i++) {
        require(again.header[i].value.len == h->header[i].value.len, "the same values");
    }
    bytes_free(&out);
}

static void read_request(const char *p, size_t n)
{
    static struct http_head h;
    int status = http_request(&h, p, n);
    require(status == 200 || status == 400 || status == 431 || status == 505, "a status of the list");
    if (status != 200) return;
    within(h.method, p, n);
    within(h.target, p, n);
    within(h.authority, p, n);
    within(h.path, p, n);
    within(h.query, p, n);
    for (size_t i = 0; i < h.n; i++) {
        within(h.header[i].name, p, n);
        within(h.header[i].value, p, n);
        judge_origin(h.header[i].value);
    }
    walk_lists(&h);
    write_again(&h);
    http_has_body(&h);
    const char *why;
    int verdict = ws_check_request(&h, &why);
    if (verdict == 101) {
        char out[300];
        struct slice none = { "", 0 };
        require(ws_accept(out, &h, none) <= 256, "answer fits");
        require(ws_is_upgrade(&h), "only an upgrade is accepted");
    } else {
        require(verdict == 400 || verdict == 405 || verdict == 426, "a refusal of the list");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
    static struct http_head h;
    char *p = (char *)bytes_copy(in, n);
    struct slice all = { p, n };
    uint16_t size, other;
    int status = scan_in_pieces(p, n, n, &size);
    require(scan_in_pieces(p, n, n < 500 ? 1 : 61, &other) == status, "the same at every cut");
    require(status != 200 || (size == other && size <= n && size <= HTTP_MAX_HEAD), "the same size");
    read_request(p, n);
    if (http_response(&h, p, n) == 200) {
        const char *why;
        int verdict = ws_check_response(&h, (const uint8_t *)"the sample nonce", &why);
        require(verdict >= 100 && verdict <= 599, "a status");
    }
    judge_origin(all);
    free(p);
    return 0;
}
