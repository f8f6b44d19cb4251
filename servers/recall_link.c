#include "servers/recall_link.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "servers/log.h"
#include "servers/values.h"
#include "ws.h"

#define WAIT_S 60                     /* for a reply */
#define BYE_S  2                      /* for the end of TCP behind our close */
#define LOST   "connection lost"
#define PAGE   1024                   /* bytes of a refusal's text that are of interest */

static struct {
    int             fd;
    struct ws       ws;
    struct ws_out   out, bye;         /* bye: a close frame, ready to be sent */
    struct ws_masks masks;
    uint8_t        *in;
    size_t          kept, cap;
    bool            heard;            /* a message, on this connection */
} r = { .fd = -1 };

static struct { const char *url, *path, *token; char host[256], port[8], authority[300]; } to;

static const struct ws_config config = { .max_message = LINK_MESSAGE, .close_timeout_ms = 2000 };

static void say(const char *fmt, va_list ap)
{
    char line[2048];
    vsnprintf(line, sizeof line, fmt, ap);
    log_clean(line, strlen(line), false);
    fprintf(stderr, "recall: %s\n", line);
}

void tell(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

void die(int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
    exit(status);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void *need(size_t n)
{
    void *p = malloc(n);
    if (!p) die(71, "out of memory");
    return p;
}

/* Where that fails the next read tells why: it finds first what the server said before. */
static void send_all(const void *p, size_t n)
{
    for (const char *s = p; n;) {
        ssize_t sent = send(r.fd, s, n, MSG_NOSIGNAL);
        if (sent < 0) return;
        s += sent, n -= (size_t)sent;
    }
}

/* As recv(), which gives up when a stop of the program ends, because it has a timeout. */
static ssize_t receive(void *p, size_t n)
{
    ssize_t got;
    do got = recv(r.fd, p, n, 0);
    while (got < 0 && errno == EINTR);
    return got;
}

static void flush(void)
{
    send_all(r.out.p, r.out.len);
    r.out.len = 0;
}

void link_wait(int seconds)
{
    struct timeval t = { .tv_sec = seconds };
    setsockopt(r.fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
}

static bool say_now(const struct ws_out *out)
{
    return send(r.fd, out->p, out->len, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
}

static void on_signal(int sig)
{
    say_now(&r.bye);
    signal(sig, SIG_DFL), raise(sig);
}

/* Whoever started us may have had it ignored, as a shell does behind an `&`. */
static void heed(int sig)
{
    if (signal(sig, on_signal) == SIG_IGN) signal(sig, SIG_IGN);
}

/* At exit: our close, or the answer to the server's; then it ends TCP. */
static void hang_up(void)
{
    if (!say_now(r.ws.closed ? &r.out : &r.bye)) return;
    link_wait(BYE_S);
    recv(r.fd, r.in, r.cap, MSG_WAITALL);
}

/* Room for n bytes behind those that are kept. */
static void room(size_t n)
{
    if (r.cap >= r.kept + n) return;
    r.cap = r.kept + n;
    if (!(r.in = realloc(r.in, r.cap))) die(71, "out of memory");
}

void clean(struct slice s) { log_clean((char *)s.p, s.len, true); }

/* ws://host[:port][/path], host perhaps an IPv6 address in brackets. */
static void dial(void)
{
    const char *host = to.host, *port = to.port;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *a;
    /* localhost is no name to be asked for: a board may have no /etc/hosts. */
    bool here = slice_is_nocase((struct slice){ host, strlen(host) }, "localhost");
    int e = getaddrinfo(here ? NULL : host, port, &hints, &list);
    if (e) die(69, "%s: %s", host, gai_strerror(e));
    for (a = list; a; a = a->ai_next) {
        r.fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (r.fd >= 0 && !connect(r.fd, a->ai_addr, a->ai_addrlen)) break;
        e = errno;
        if (r.fd >= 0) close(r.fd);
        r.fd = -1;
    }
    freeaddrinfo(list);
    if (r.fd < 0)
        die(69, "nobody answers at %s port %s: %s; is recalld running?", host, port, strerror(e));
    link_wait(WAIT_S);
}

/* What a refusal says, of which some may still be under way. h is spent. */
static struct slice page(const struct http_head *h)
{
    const struct http_header *length = http_find(h, "Content-Length");
    unsigned long n = length ? strtoul(length->value.p, NULL, 10) : PAGE;
    size_t from = h->size, end = from + (n < PAGE ? n : PAGE);
    link_wait(BYE_S);
    room(PAGE);
    for (ssize_t got; r.kept < end; r.kept += (size_t)got)
        if ((got = receive(r.in + r.kept, end - r.kept)) <= 0) break;
    struct slice text = trim_ascii((struct slice){ (char *)r.in + from, r.kept - from });
    clean(text);
    return text;
}

static void shake_hands(void)
{
    const char *url = to.url, *token = to.token;
    uint8_t nonce[16];
    char head[4096], headers[512] = "";
    struct http_scan scan = { 0 };
    struct http_head h;
    const char *why = "";
    if (getrandom(nonce, 16, 0) != 16 || getrandom(r.masks.seed, 16, 0) != 16)
        die(71, "no random numbers");
    if (token && (size_t)snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", token) >=
                     sizeof headers)
        die(64, "RECALLD_TOKEN is too long");
    size_t size = ws_request(head, sizeof head, to.authority, to.path, nonce, headers);
    if (!size) die(64, "--url is too long");
    send_all(head, size);
    for (int status = 0; !status;) {
        room(HTTP_MAX_HEAD);
        ssize_t n = receive(r.in + r.kept, HTTP_MAX_HEAD);
        if (n <= 0) die(69, "no WebSocket answer from %s", url);
        r.kept += (size_t)n;
        status = http_scan(&scan, (char *)r.in, r.kept);
        if (status > 200) die(69, "%s is no WebSocket server", url);
    }
    if (http_response(&h, (char *)r.in, scan.at) != 200) die(69, "%s is no WebSocket server", url);
    int status = ws_check_response(&h, nonce, &why);
    if (h.status == 101 && status != 101) die(69, "%s is no WebSocket server: %s", url, why);
    if (status == 401)
        die(77, token ? "another token is wanted than that in RECALLD_TOKEN"
                      : "a token is wanted: set RECALLD_TOKEN");
    if (status != 101) {
        struct slice body = page(&h);
        die(69, "%s refused with %d: %.*s", url, status, (int)body.len, body.p);
    }
    if (http_find(&h, "Sec-WebSocket-Protocol"))    /* we offer none: RFC 6455 4.1 */
        die(69, "%s answers with a subprotocol that was not offered", url);
    r.kept -= scan.at;
    memmove(r.in, r.in + scan.at, r.kept);
}

static void meet(void)
{
    r.out.len = r.kept = 0;
    r.heard = false;
    dial();
    shake_hands();
    ws_init(&r.ws, WS_CLIENT, &config, &r.out, &r.masks, now_ms());
    ws_received(&r.ws, r.in, r.kept, now_ms());
}

void link_open(const char *url, const char *token)
{
    static uint8_t bye[WS_MAX_CTRL];
    struct ws closing;
    const char *p = url, *slash;
    if (strncmp(p, "ws://", 5)) die(64, "--url %s: want ws://HOST:PORT", url);
    p += 5;
    slash = strchr(p, '/');
    size_t n = slash ? (size_t)(slash - p) : strlen(p);
    struct http_origin o;
    if (n >= sizeof to.authority || !http_host(&o, (struct slice){ p, n }))
        die(64, "--url %s: want ws://HOST:PORT", url);
    to.url = url, to.path = slash ? slash : "/", to.token = token;
    memcpy(to.authority, p, n);
    bool v6 = o.host.len > 2 && *o.host.p == '[';
    snprintf(to.host, sizeof to.host, "%.*s", (int)(o.host.len - 2 * v6), o.host.p + v6);
    snprintf(to.port, sizeof to.port, "%u", o.port ? o.port : 80u);
    r.out.p = need(r.out.cap = LINK_MESSAGE + WS_MAX_HEAD);
    meet();
    r.bye = (struct ws_out){ .p = bye, .cap = sizeof bye };
    ws_init(&closing, WS_CLIENT, &config, &r.bye, &r.masks, now_ms());
    ws_close(&closing, 1000, "", now_ms());
    atexit(hang_up);
    heed(SIGINT), heed(SIGTERM);
}

/* Who waits long for a line to import, or for a reader of what was exported, answers no ping
 * meanwhile, and the server ends the connection. */
static bool given_up(void)
{
    struct pollfd p = { .fd = r.fd, .events = POLLRDHUP };
    return r.heard && poll(&p, 1, 0) == 1;
}

void link_ask(const char *text, size_t len)
{
    if (given_up()) {
        close(r.fd);
        meet();
    }
    if (ws_send(&r.ws, WS_TEXT, text, len)) die(65, "the message is too long");
    flush();
}

struct slice link_next(void)
{
    struct ws_event ev;
    for (enum ws_ev e; (e = ws_next(&r.ws, &ev)) != WS_EV_TEXT;) {
        if (e == WS_EV_CLOSED) {
            clean((struct slice){ (char *)ev.data, ev.len });
            die(69, "%s: %u %.*s", ev.by_peer ? "the server closed the connection"
                : "what the server sent breaks the protocol", ev.code, (int)ev.len, ev.data);
        }
        if (r.out.len) flush();
        if (e != WS_EV_NONE) continue;
        uint8_t *keep = ws_keep(&r.ws, &r.kept);
        size_t want = ws_want(&r.ws) > r.kept ? ws_want(&r.ws) - r.kept : 0;
        size_t n = want > 65536 ? want : 65536;
        if (r.kept) memmove(r.in, keep, r.kept);
        room(n);
        ssize_t got = receive(r.in + r.kept, n);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            die(75, "no reply within %d s", WAIT_S);
        if (got <= 0) die(74, LOST);
        ws_received(&r.ws, r.in, r.kept + (size_t)got, now_ms());
    }
    r.heard = true;
    return (struct slice){ (char *)ev.data, ev.len };
}
