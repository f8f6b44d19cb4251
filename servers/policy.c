#include "servers/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* The token: the file's first line, without the line end. */
static int read_token(struct policy *p, const char *path, struct fault *f)
{
    char s[POLICY_TOKEN + 2];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, s, sizeof s);
    int e = errno;
    if (fd >= 0) close(fd);
    if (n < 0) return fault_set(f, 78, "--token-file %.200s: %s", path, strerror(e));
    size_t len = 0;
    while (len < (size_t)n && s[len] != '\n' && s[len] != '\r') len++;
    if (len < 1 || len > POLICY_TOKEN - 1)
        return fault_set(f, 78, "--token-file %.200s: the token must have 1 to %d characters", path,
                         POLICY_TOKEN - 1);
    for (size_t i = 0; i < len; i++)     /* what can stand in a subprotocol, RFC 9110 5.6.2 */
        if (s[i] <= ' ' || s[i] >= 127 || strchr("\"(),/:;<=>?@[\\]{}", s[i]))
            return fault_set(f, 78, "--token-file %.200s: character %zu cannot stand in a token "
                             "(letters, digits and !#$%%&'*+-.^_`|~ can)", path, i + 1);
    memcpy(p->token, s, len);
    p->token_len = len;
    return 0;
}

static struct slice text(const char *s) { return (struct slice){ s, strlen(s) }; }

int policy_load(struct policy *p, const struct options *o, struct fault *f)
{
    struct http_origin parts;
    for (int64_t i = 0; i < o->origins.n; i++) {
        const char *s = o->origins.v[i];
        if (strcmp(s, "*") && strcmp(s, "null") && !http_origin(&parts, text(s)))
            return fault_set(f, o->origins.bad,
                             "--allow-origin %.100s: want scheme://host[:port], null or *", s);
    }
    for (int64_t i = 0; i < o->hosts.n; i++)
        if (!http_host(&parts, text(o->hosts.v[i])))
            return fault_set(f, o->hosts.bad, "--allow-host %.100s: want a name or an address",
                             o->hosts.v[i]);
    if (o->token_file && read_token(p, o->token_file, f)) return -1;
    p->options = o;
    return 0;
}

static bool same(struct slice a, struct slice b)
{
    if (a.len != b.len) return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i])) return false;
    return true;
}

static bool loopback_name(struct slice host)
{
    return slice_is_nocase(host, "localhost") || slice_is_nocase(host, "127.0.0.1") ||
           slice_is_nocase(host, "::1") || slice_is_nocase(host, "[::1]");
}

/* Is this the address that the connection reached? Numbers only: no name is looked up. */
static bool our_address(struct slice host, const struct net_address *local)
{
    char s[NET_TEXT];
    struct net_address a;
    if (!local || !host.len || host.len >= sizeof s) return false;
    memcpy(s, host.p, host.len);
    s[host.len] = 0;
    return net_parse(&a, s, 0) && !memcmp(a.ip, local->ip, sizeof a.ip);
}

static bool host_allowed(const struct policy *p, const struct http_origin *h,
                         const struct net_address *local)
{
    if (loopback_name(h->host) || our_address(h->host, local)) return true;
    for (int64_t i = 0; i < p->options->hosts.n; i++) {
        struct http_origin listed;
        if (http_host(&listed, text(p->options->hosts.v[i])) && same(listed.host, h->host) &&
            (!listed.port || listed.port == h->port))
            return true;
    }
    return false;
}

struct verdict policy_host(const struct policy *p, const struct http_head *h,
                           const struct net_address *local)
{
    struct http_origin host;
    const struct http_header *v = http_find(h, "Host");
    if (!v) return (struct verdict){ .status = 400, .header = "Host" };
    /* An absolute target names the host itself, and then that counts (RFC 9112 3.2.2). */
    struct slice value = v->value;
    if (h->authority.len) value = h->authority;
    if (!http_host(&host, value))
        return (struct verdict){ .status = 400, .header = "Host", .value = value };
    if (host_allowed(p, &host, local)) return (struct verdict){ 0 };
    return (struct verdict){ 403, "Host", "--allow-host", value };
}

static uint16_t port_of(const struct http_origin *o)
{
    if (o->port) return o->port;
    return slice_is_nocase(o->scheme, "https") ? 443 : slice_is_nocase(o->scheme, "http") ? 80 : 0;
}

static bool origin_listed(const struct policy *p, struct slice value, const struct http_origin *o)
{
    for (int64_t i = 0; i < p->options->origins.n; i++) {
        struct slice listed = text(p->options->origins.v[i]);
        struct http_origin l;
        if (slice_is(listed, "*")) return true;
        if (!o) {                        /* "null" and what is no origin: by name only */
            if (slice_is(value, "null") && slice_is(listed, "null")) return true;
        } else if (http_origin(&l, listed) && same(l.scheme, o->scheme) && same(l.host, o->host) &&
                   port_of(&l) == port_of(o)) {
            return true;
        }
    }
    return false;
}

struct verdict policy_origin(const struct policy *p, const struct http_head *h,
                             const struct net_address *local)
{
    struct http_origin o;
    const struct http_header *v = http_find(h, "Origin");
    if (!v) return (struct verdict){ 0 };
    bool parsed = http_origin(&o, v->value);
    if (origin_listed(p, v->value, parsed ? &o : NULL)) return (struct verdict){ 0 };
    if (parsed && (slice_is_nocase(o.scheme, "http") || slice_is_nocase(o.scheme, "https"))) {
        uint16_t port = port_of(&o);
        bool ours = port && (port == p->ports[0] || port == p->ports[1]);
        if (loopback_name(o.host) || (ours && host_allowed(p, &o, local)))
            return (struct verdict){ 0 };
    }
    return (struct verdict){ 403, "Origin", "--allow-origin", v->value };
}

/* Takes the same time wherever the first difference is. */
static bool token_is(const struct policy *p, struct slice s)
{
    unsigned char diff = s.len != p->token_len;
    for (size_t i = 0; i < p->token_len; i++)
        diff |= (unsigned char)(p->token[i] ^ (s.len ? s.p[i % s.len] : 0));
    return !diff;
}

/* Begins s with this prefix, in the sense of slice_is() or slice_is_nocase()? Then behind it. */
static bool after(struct slice *s, const char *prefix, bool (*is)(struct slice, const char *))
{
    size_t n = strlen(prefix);
    if (s->len < n || !is((struct slice){ s->p, n }, prefix)) return false;
    s->p += n, s->len -= n;
    return true;
}

/* Decode %XX into out[0..cap). A token has no '+' that stands for a blank: it has no blanks. */
static struct slice unescape(struct slice s, char *out, size_t cap)
{
    static const char hex[] = "0123456789abcdef0123456789ABCDEF";
    size_t n = 0;
    for (size_t i = 0; i < s.len && n < cap; i++) {
        const char *a, *b;
        bool escape = s.p[i] == '%' && s.len - i > 2 && (a = memchr(hex, s.p[i + 1], 32)) &&
                      (b = memchr(hex, s.p[i + 2], 32));
        out[n++] = escape ? (char)((unsigned)(a - hex) % 16 * 16 + (unsigned)(b - hex) % 16)
                          : s.p[i];
        if (escape) i += 2;
    }
    return (struct slice){ out, n };
}

static bool in_query(const struct policy *p, struct slice q)
{
    char decoded[POLICY_TOKEN + 1];
    while (q.len) {
        const char *amp = memchr(q.p, '&', q.len);
        struct slice part = { q.p, amp ? (size_t)(amp - q.p) : q.len };
        q.p += part.len + (amp != NULL), q.len -= part.len + (amp != NULL);
        if (after(&part, "token=", slice_is) &&
            token_is(p, unescape(part, decoded, sizeof decoded)))
            return true;
    }
    return false;
}

struct slice policy_bearer(const struct policy *p, const struct http_head *h)
{
    size_t pos = 0;
    for (struct slice s; p->token_len && (s = http_item(h, "Sec-WebSocket-Protocol", &pos)).len;) {
        struct slice t = s;
        if (after(&t, "bearer.", slice_is) && token_is(p, t)) return s;
    }
    return (struct slice){ 0 };
}

struct verdict policy_token(const struct policy *p, const struct http_head *h)
{
    if (!p->token_len) return (struct verdict){ 0 };
    const struct http_header *v = http_find(h, "Authorization");
    struct slice s = v ? v->value : (struct slice){ 0 };
    if (after(&s, "Bearer ", slice_is_nocase) && token_is(p, s)) return (struct verdict){ 0 };
    if (policy_bearer(p, h).len || in_query(p, h->query)) return (struct verdict){ 0 };
    return (struct verdict){ .status = 401, .header = "Authorization", .flag = "--token-file" };
}
