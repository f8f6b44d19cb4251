/* Requests for recalld's servers, on the client role of ws.c: sends the lines of
 * a file as text messages, `depth` under way on each of `connections`, and prints
 * one line of key=value: requests, rate, latency, errors, CPU time of the server.
 *
 *     ask --port N --lines FILE [--connections 1] [--depth 1] [--every-ms 0]
 *         [--seconds 0] [--pid PID] [--replies]
 *     ask --port N --ping --every-ms N --seconds S
 *
 * Each line is sent once; with --seconds they are sent again and again until that
 * is over. --every-ms: a request is sent so long after the one before was answered.
 * --ping: pings in place of messages. --replies: prints each reply instead, to be
 * read by others. */
#include <poll.h>
#include <stdbool.h>
#include <unistd.h>

#include "bench/bench.h"
#include "ws.h"

#define ROOM  262144
#define DEPTH 64

struct client {
    struct ws ws;
    uint8_t   buf[ROOM];
    size_t    kept;
    int64_t   at_us[DEPTH];     /* when each request under way was sent; a ring */
    unsigned  head, tail;
    int64_t   next_us;          /* not before */
};

static struct {
    unsigned port, connections, depth, pid;
    double   seconds, every_ms;
    bool     ping, replies;
    const char *lines;
} o = { .connections = 1, .depth = 1 };

static struct line { char *p; size_t len; } *lines;   /* [n_lines] */
static size_t n_lines, next_line;
static double *taken_us;                              /* [n_taken] */
static size_t n_taken, cap_taken, errors;
static uint8_t out_bytes[ROOM * 4];
static struct ws_out out = { .p = out_bytes, .cap = sizeof out_bytes };
static struct ws_masks masks = { .seed = "load generator" };
static struct ws_config config = { .max_message = ROOM, .close_timeout_ms = 5000 };
static int64_t end_us = INT64_MAX;

static void read_lines(void)
{
    FILE *f = fopen(o.lines, "r");
    char *line = NULL;
    size_t room = 0, cap = 0;
    ssize_t n;
    if (!f) die(o.lines);
    while ((n = getline(&line, &room, f)) > 0) {
        if (n_lines == cap && !(lines = realloc(lines, (cap = cap * 2 + 64) * sizeof *lines))) die("memory");
        lines[n_lines++] = (struct line){ line, (size_t)n - (line[n - 1] == '\n') };
        line = NULL;
    }
    fclose(f);
    if (!n_lines) die("no lines");
}

static void count(double us)
{
    if (n_taken == cap_taken && !(taken_us = realloc(taken_us, (cap_taken = cap_taken * 2 + 1024) * sizeof *taken_us)))
        die("memory");
    taken_us[n_taken++] = us;
}

static int dial(struct client *c)
{
    char request[512];
    uint8_t nonce[16] = "one of this host";
    int fd = dial_port(o.port);
    size_t n = ws_request(request, sizeof request, "localhost", "/", nonce, ""), have = 0;
    if (send(fd, request, n, MSG_NOSIGNAL) != (ssize_t)n) die("send");
    while (have < 4 || memcmp(c->buf + have - 4, "\r\n\r\n", 4)) {   /* a server speaks when asked */
        ssize_t got = recv(fd, c->buf + have, ROOM - have, 0);
        if (got <= 0) die("handshake");
        have += (size_t)got;
    }
    struct http_head h;
    const char *why;
    if (http_response(&h, (char *)c->buf, have) != 200 || ws_check_response(&h, nonce, &why) != 101) die("refused");
    ws_init(&c->ws, WS_CLIENT, &config, &out, &masks, 0);
    return fd;
}

static bool more(void) { return o.seconds > 0 ? now_us() < end_us : next_line < n_lines; }

/* Send what may be under way. */
static void ask(struct client *c, int fd)
{
    while (c->head - c->tail < o.depth && more() && c->next_us <= now_us()) {
        const struct line *l = o.ping ? NULL : &lines[next_line++ % n_lines];
        if (ws_send(&c->ws, o.ping ? WS_PING : WS_TEXT, l ? l->p : "", l ? l->len : 0)) break;
        c->at_us[c->head++ % DEPTH] = now_us();
    }
    for (size_t at = 0; at < out.len;) {
        ssize_t n = send(fd, out.p + at, out.len - at, MSG_NOSIGNAL);
        if (n < 0) die("send");
        at += (size_t)n;
    }
    out.len = 0;
}

static void answered(struct client *c, const uint8_t *p, size_t len)
{
    int64_t now = now_us();
    count((double)(now - c->at_us[c->tail++ % DEPTH]));
    c->next_us = now + (int64_t)(o.every_ms * 1e3);
    if (len && memmem(p, len < 200 ? len : 200, "\"status\":\"error\"", 16) && !errors++)
        fprintf(stderr, "ask: %.*s\n", (int)(len < 300 ? len : 300), p);
    if (o.replies) printf("%.*s\n", (int)len, p);
}

static void take(struct client *c, int fd)
{
    struct ws_event ev;
    enum ws_ev e;
    ssize_t n = recv(fd, c->buf + c->kept, ROOM - c->kept, 0);
    if (n <= 0) die("the server hung up");
    if (o.ping && c->buf[0] == (0x80 | WS_PONG)) answered(c, NULL, 0);
    ws_received(&c->ws, c->buf, c->kept + (size_t)n, 0);
    while ((e = ws_next(&c->ws, &ev)) != WS_EV_NONE) {
        if (e == WS_EV_CLOSED) die("closed");
        answered(c, ev.data, ev.len);
    }
    uint8_t *p = ws_keep(&c->ws, &c->kept);
    if (c->kept) memmove(c->buf, p, c->kept);
}

static void flags(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *f = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(f, "--ping")) { o.ping = true; continue; }
        if (!strcmp(f, "--replies")) { o.replies = true; continue; }
        i++;
        if (!strcmp(f, "--port")) o.port = (unsigned)atoi(v);
        else if (!strcmp(f, "--lines")) o.lines = v;
        else if (!strcmp(f, "--connections")) o.connections = (unsigned)atoi(v);
        else if (!strcmp(f, "--depth")) o.depth = (unsigned)atoi(v);
        else if (!strcmp(f, "--every-ms")) o.every_ms = atof(v);
        else if (!strcmp(f, "--seconds")) o.seconds = atof(v);
        else if (!strcmp(f, "--pid")) o.pid = (unsigned)atoi(v);
        else { o.port = 0; break; }
    }
    if (o.port && o.depth <= DEPTH && (o.lines || o.ping)) return;
    fprintf(stderr, "ask: see the head of ask.c\n");
    exit(64);
}

/* Until every answer is there; how long it took, in seconds. */
static double run(struct client *all, struct pollfd *fds)
{
    int64_t began = now_us(), last = began;
    unsigned under_way = 0;
    end_us = began + (int64_t)(o.seconds * 1e6);
    do {
        bool wait = o.every_ms > 0;
        under_way = 0;
        for (unsigned i = 0; i < o.connections; i++) {
            ask(&all[i], fds[i].fd);
            under_way += all[i].head - all[i].tail;
        }
        int n = poll(fds, o.connections, wait ? 1 : 1000);
        for (unsigned i = 0; n > 0 && i < o.connections; i++)
            if (fds[i].revents) take(&all[i], fds[i].fd);
        if (n > 0) last = now_us();
        if (now_us() - last > 60000000) die("no answer for a minute");
    } while (under_way || more());
    return (double)(last - began) / 1e6;
}

int main(int argc, char **argv)
{
    flags(argc, argv);
    if (!o.ping) read_lines();
    struct client *all = calloc(o.connections, sizeof *all);
    struct pollfd *fds = calloc(o.connections, sizeof *fds);
    if (!all || !fds) die("memory");
    for (unsigned i = 0; i < o.connections; i++) fds[i] = (struct pollfd){ .fd = dial(&all[i]), .events = POLLIN };
    double cpu = cpu_us_of(o.pid), took = run(all, fds);
    cpu = cpu_us_of(o.pid) - cpu;
    if (o.replies) return errors > 0;
    qsort(taken_us, n_taken, sizeof *taken_us, by_value);
    double n = n_taken ? (double)n_taken : 1;
    printf("n=%zu seconds=%.4f rate=%.1f cpu_us=%.2f p50_us=%.0f p99_us=%.0f max_us=%.0f errors=%zu\n", n_taken, took,
           (double)n_taken / took, cpu / n, n_taken ? taken_us[n_taken / 2] : 0,
           n_taken ? taken_us[n_taken * 99 / 100] : 0, n_taken ? taken_us[n_taken - 1] : 0, errors);
    return 0;
}
