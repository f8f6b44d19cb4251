/* Request and response heads: see http.h. RFC 9110 says what the fields are,
 * RFC 9112 how they are written. Strict: what two programs could read
 * differently is refused, so that nothing can be smuggled past a proxy. */
#include "http.h"

#include <string.h>

#define DIGITS "0123456789"

static const struct slice nothing = { "", 0 };

static struct slice part(const char *p, size_t len)
{
    struct slice s = { p, len };
    return s;
}

bool slice_is(struct slice s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.p, text, s.len);
}

bool slice_is_nocase(struct slice s, const char *text)
{
    size_t i = 0;
    while (i < s.len && text[i] && ascii_lower(s.p[i]) == ascii_lower(text[i])) i++;
    return i == s.len && !text[i];
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c)
{
    return ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z';
}

/* Is s made of these characters alone, and not empty? */
static bool all_of(struct slice s, const char *set)
{
    for (size_t i = 0; i < s.len; i++)
        if (!memchr(set, s.p[i], strlen(set))) return false;
    return s.len > 0;
}

/* One or more token characters, RFC 9110 5.6.2. */
static bool is_token(struct slice s)
{
    static const uint32_t set[8] = { 0, 0x03ff6cfa, 0xc7fffffe, 0x57ffffff, 0, 0, 0, 0 };
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = (uint8_t)s.p[i];
        if (!(set[c >> 5] >> (c & 31) & 1)) return false;
    }
    return s.len > 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct slice trim(struct slice s)
{
    while (s.len && is_blank(s.p[0])) { s.p++; s.len--; }
    while (s.len && is_blank(s.p[s.len - 1])) s.len--;
    return s;
}

/* What lies before the first c; *s becomes what lies behind it. */
static struct slice cut(struct slice *s, char c)
{
    struct slice head = *s;
    const char *at = (const char *)memchr(s->p, c, s->len);
    if (at) head.len = (size_t)(at - s->p);
    size_t used = head.len + (at != NULL);
    s->p += used;
    s->len -= used;
    return head;
}

int http_scan(struct http_scan *scan, const char *p, size_t n)
{
    while (scan->at < n) {
        if (scan->at == HTTP_MAX_HEAD) return 431;
        uint8_t c = (uint8_t)p[scan->at];
        bool cr = scan->at && p[scan->at - 1] == '\r';
        if (cr != (c == '\n')) return 400;                       /* bare CR, bare LF: 9112 2.2 */
        bool control = (c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f;
        if (control) return 400;                                 /* 9110 5.5 */
        scan->at++;
        if (cr && (scan->at == 2 || p[scan->at - 3] == '\n')) return 200;   /* an empty line */
    }
    return scan->at == HTTP_MAX_HEAD ? 431 : 0;
}

/* The next line without its end. Every CR of a scanned head is followed by LF. */
static struct slice next_line(struct slice *rest)
{
    struct slice line = cut(rest, '\r');
    rest->p++;
    rest->len--;
    return line;
}

/* "HTTP/1.0" or "HTTP/1.1", 9112 2.3. */
static int read_version(struct http_head *h, struct slice s)
{
    if (s.len != 8 || memcmp(s.p, "HTTP/", 5) != 0 || s.p[6] != '.') return 400;
    if (!is_digit(s.p[5]) || !is_digit(s.p[7])) return 400;
    if (s.p[5] != '1' || s.p[7] > '1') return 505;
    h->minor = (uint8_t)(s.p[7] - '0');
    return 200;
}

/* Bytes of "scheme://" at the start, RFC 3986 3.1; 0: none. */
static size_t scheme_size(struct slice s)
{
    size_t i = 0;
    if (!s.len || !is_alpha(s.p[0])) return 0;
    while (i < s.len && (is_alpha(s.p[i]) || is_digit(s.p[i]) ||
                         s.p[i] == '+' || s.p[i] == '-' || s.p[i] == '.')) i++;
    return s.len - i >= 3 && !memcmp(s.p + i, "://", 3) ? i + 3 : 0;
}

/* The four forms of a target, 9112 3.2, into authority, path and query. */
static bool read_target(struct http_head *h)
{
    struct slice t = h->target;
    h->authority = h->path = h->query = nothing;
    if (!t.len) return false;
    for (size_t i = 0; i < t.len; i++) {
        uint8_t c = (uint8_t)t.p[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') return false;  /* 9112 3.2; no fragment: 9110 7.1 */
    }
    if (slice_is(h->method, "CONNECT")) { h->authority = t; return t.p[0] != '/'; }
    if (slice_is(t, "*")) { h->path = t; return slice_is(h->method, "OPTIONS"); }
    if (t.p[0] != '/') {
        size_t n = scheme_size(t);
        if (!n) return false;
        t.p += n;
        t.len -= n;
        h->authority = t;
        size_t i = 0;
        while (i < t.len && t.p[i] != '/' && t.p[i] != '?') i++;
        h->authority.len = i;
        t.p += i;
        t.len -= i;
        if (!i) return false;
    }
    h->path = cut(&t, '?');
    if (!h->path.len) h->path = part("/", 1);
    h->query = t;
    return true;
}

/* Fields of which a second one, or which together, could be read in two ways. */
static int check_headers(const struct http_head *h)
{
    static const char *const once[] = { "Host", "Origin", "Authorization", "Content-Length",
                                        "Sec-WebSocket-Key", "Sec-WebSocket-Version" };
    unsigned seen = 0;
    for (size_t i = 0; i < h->n; i++) {
        for (unsigned k = 0; k < sizeof once / sizeof *once; k++) {
            if (!slice_is_nocase(h->header[i].name, once[k])) continue;
            if (seen >> k & 1) return 400;                       /* 9110 5.3, 9112 3.2 */
            seen |= 1u << k;
        }
    }
    const struct http_header *length = http_find(h, "Content-Length");
    if (length && !all_of(length->value, DIGITS)) return 400;    /* 9110 8.6 */
    if (length && http_find(h, "Transfer-Encoding")) return 400; /* 9112 6.1 */
    return 200;
}

static int read_headers(struct http_head *h, struct slice rest)
{
    for (struct slice line; (line = next_line(&rest)).len;) {
        if (h->n == HTTP_MAX_HEADERS) return 431;
        struct http_header *f = &h->header[h->n++];
        if (!memchr(line.p, ':', line.len)) return 400;
        f->name = cut(&line, ':');
        if (!is_token(f->name)) return 400; /* folding: 9112 5.2; blank before ':': 5.1 */
        f->value = trim(line);
    }
    return check_headers(h);
}

/* Measure a whole head. Behind this every line is known to end in CR LF. */
static int begin(struct http_head *h, const char *p, size_t n)
{
    struct http_scan scan = { 0 };
    int status = http_scan(&scan, p, n);
    h->method = h->target = h->authority = h->path = h->query = nothing;
    h->minor = 0;
    h->status = 0;
    h->n = 0;
    h->size = scan.at;
    return status ? status : 400;
}

int http_request(struct http_head *h, const char *p, size_t n)
{
    int status = begin(h, p, n);
    if (status != 200) return status;
    struct slice rest = part(p, h->size);
    struct slice line = next_line(&rest);
    h->method = cut(&line, ' ');
    h->target = cut(&line, ' '); /* exactly one blank between the parts, 9112 3 */
    if (!is_token(h->method) || !read_target(h)) return 400;
    status = read_version(h, line);
    return status == 200 ? read_headers(h, rest) : status;
}

int http_response(struct http_head *h, const char *p, size_t n)
{
    if (begin(h, p, n) != 200) return 400;
    struct slice rest = part(p, h->size);
    struct slice line = next_line(&rest);
    if (read_version(h, cut(&line, ' ')) != 200) return 400;
    struct slice code = cut(&line, ' '); /* the reason may be empty or absent, 9112 4 */
    if (code.len != 3 || !all_of(code, DIGITS) || code.p[0] < '1' || code.p[0] > '5') return 400;
    h->status = (code.p[0] - '0') * 100 + (code.p[1] - '0') * 10 + (code.p[2] - '0');
    return read_headers(h, rest) == 200 ? 200 : 400;
}

const struct http_header *http_find(const struct http_head *h, const char *name)
{
    for (size_t i = 0; i < h->n; i++)
        if (slice_is_nocase(h->header[i].name, name)) return &h->header[i];
    return NULL;
}

/* *pos is the header's number times POS_STEP, and the offset within its value. */
enum { POS_STEP = 2 * HTTP_MAX_HEAD };

struct slice http_item(const struct http_head *h, const char *name, size_t *pos)
{
    while (*pos / POS_STEP < h->n) {
        const struct http_header *f = &h->header[*pos / POS_STEP];
        size_t off = *pos % POS_STEP;
        if (off > f->value.len || !slice_is_nocase(f->name, name)) {
            *pos = (*pos / POS_STEP + 1) * POS_STEP;
            continue;
        }
        struct slice rest = part(f->value.p + off, f->value.len - off);
        struct slice item = cut(&rest, ',');
        *pos += item.len + 1;
        item = trim(item);
        if (item.len) return item; /* empty ones do not count, 9110 5.6.1 */
    }
    return nothing;
}

bool http_has_token(const struct http_head *h, const char *name, const char *token)
{
    size_t pos = 0;
    for (struct slice item; (item = http_item(h, name, &pos)).len;)
        if (slice_is_nocase(item, token)) return true;
    return false;
}

bool http_has_body(const struct http_head *h)
{
    if (http_find(h, "Transfer-Encoding")) return true;
    const struct http_header *length = http_find(h, "Content-Length");
    return length && length->value.len && !all_of(length->value, "0");
}

/* Labels of letters, digits, '-' and '_', none empty. */
static bool is_name(struct slice s)
{
    bool label = false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        if (c == '.') {
            if (!label) return false;
            label = false;
        } else {
            if (!is_alpha(c) && !is_digit(c) && c != '-' && c != '_') return false;
            label = true;
        }
    }
    return label;
}

/* ":port", up to 65535, or nothing. */
static bool read_port(uint16_t *port, struct slice s)
{
    *port = 0;
    if (!s.len) return true;
    unsigned n = 0;
    if (s.p[0] != ':' || s.len < 2 || s.len > 6) return false;
    for (size_t i = 1; i < s.len; i++) {
        if (!is_digit(s.p[i])) return false;
        n = n * 10 + (unsigned)(s.p[i] - '0');
    }
    *port = (uint16_t)n;
    return n <= 65535;
}

bool http_host(struct http_origin *o, struct slice s)
{
    bool v6 = s.len && s.p[0] == '[';
    if (!s.len) return false;
    const char *end = (const char *)memchr(s.p, v6 ? ']' : ':', s.len);
    if (v6 && !end) return false;
    size_t n = end ? (size_t)(end - s.p) + v6 : s.len;
    o->scheme = nothing;
    o->host = part(s.p, n);
    if (!read_port(&o->port, part(s.p + n, s.len - n))) return false;
    /* What an address can be made of; whether it is one decides the comparison. */
    if (v6) return n > 3 && all_of(part(s.p + 1, n - 2), DIGITS "abcdefABCDEF:.");
    if (n && s.p[n - 1] == '.') o->host.len--;
    return is_name(o->host);
}

bool http_origin(struct http_origin *o, struct slice s)
{
    size_t n = scheme_size(s);
    if (!n || !http_host(o, part(s.p + n, s.len - n))) return false;
    o->scheme = part(s.p, n - 3);
    size_t behind = (size_t)(s.p + s.len - o->host.p) - o->host.len;
    return o->port || behind < 2; /* 0 means none written, and nothing listens on it */
}
