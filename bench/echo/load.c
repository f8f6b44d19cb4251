/* Load for echo servers, on the client role of ws.c: keeps `depth` messages
 * under way on each of `connections`, beside `idle` ones that say nothing, and
 * prints one line of key=value: messages, rate, latency, and the CPU time of
 * the server per message.
 *
 *     load --port N [--connections 100] [--depth 16] [--size 125]
 *          [--kind binary|text|utf8] [--idle 0] [--seconds 2] [--warmup 0.3]
 *          [--pid PID] [--bare] [--storm]
 *
 * --storm: instead of messages, connections that shake hands and close at once.
 * --bare: the server's answer to the handshake is not checked. */
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/bench.h"
#include "ws.h"

#define IN      1048576
#define MANY    262144
#define BUCKETS 2048            /* of the latencies: 64 for each doubling */

struct client {
    struct ws ws;
    int       fd;
    bool      open, idle, closed;
    uint8_t   nonce[16];
    size_t    owed, sent;       /* frames to send, bytes of the first that are sent */
    uint8_t  *kept;             /* [kept_cap] */
    size_t    kept_len, kept_cap;
    int64_t  *at_us;            /* [depth] when each message under way was sent; a ring */
    unsigned  head, tail;
};

static struct {
    unsigned port, connections, depth, idle, pid;
    size_t   size;
    double   seconds, warmup;
    enum ws_op op;
    bool     utf8, bare, storm;
} o = { .connections = 100, .depth = 16, .size = 125, .seconds = 2, .warmup = 0.3, .op = WS_BINARY };

static uint8_t in[IN], out_bytes[4096];
static uint8_t *frames, *payload;                /* [copies * frame], [size] */
static size_t frame, copies;
static struct ws_out out = { .p = out_bytes, .cap = sizeof out_bytes };
static struct ws_masks masks = { .seed = "load generator" };
static struct ws_config config = { .max_message = 1u << 30, .close_timeout_ms = 5000 };
static int epoll;
static uint64_t messages, latency[BUCKETS], storms, failures, bytes;

/* Memory of its own, counted page by page: statm is off by what each core keeps
 * back, and how much of its file is resident is chance. */
static unsigned long anonymous_kib(void)
{
    char path[64], line[128];
    unsigned long kib = 0;
    snprintf(path, sizeof path, "/proc/%u/smaps_rollup", o.pid);
    FILE *f = o.pid ? fopen(path, "r") : NULL;
    while (f && !kib && fgets(line, sizeof line, f)) sscanf(line, "Anonymous: %lu", &kib);
    if (f) fclose(f);
    return kib;
}

static void count_latency(int64_t us)
{
    unsigned octave = 0;
    uint64_t v = us < 1 ? 64 : (uint64_t)us * 64;
    while (v >= 128) {
        v >>= 1;
        octave++;
    }
    unsigned i = octave * 64 + (unsigned)(v - 64);
    latency[i < BUCKETS ? i : BUCKETS - 1]++;
}

static double percentile(double part)
{
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++) total += latency[i];
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += latency[i];
        if (total && (double)seen >= part * (double)total)
            return (double)((uint64_t)1 << i / 64) * (1 + (i % 64) / 64.0);
    }
    return 0;
}

/* Characters of one, two, three and four bytes. */
static void fill(uint8_t *p, size_t n)
{
    static const char some[] = "Zażółć gęślą jaźń, 漢字かな交じり文, Привет мир, ελληνικά, 🙂 ";
    for (size_t i = 0; i < n; i++) {
        int plain = 'a' + (int)(i % 26);
        p[i] = (uint8_t)(o.utf8 ? some[i % (sizeof some - 1)] : plain);
    }
    if (!o.utf8) return;
    while (n && (p[n - 1] & 0xc0) == 0x80) p[--n] = '.';
    if (n && p[n - 1] >= 0xc0) p[n - 1] = '.';
}

static void prepare(void)
{
    struct ws ws;
    payload = malloc(o.size + 1);
    frame = 0;
    size_t cap = o.size + 2 * WS_MAX_CTRL;
    copies = cap < MANY ? MANY / cap : 1;
    frames = malloc(copies * cap + WS_MAX_CTRL);
    if (!payload || !frames) die("memory");
    fill(payload, o.size);
    struct ws_out all = { .p = frames, .cap = copies * cap + WS_MAX_CTRL };
    ws_init(&ws, WS_CLIENT, &config, &all, &masks, 0);
    for (size_t i = 0; i < copies; i++) ws_send(&ws, o.op, payload, o.size);
    frame = all.len / copies;
}

static void watch(struct client *c, int how, uint32_t events)
{
    struct epoll_event ev = { .events = events, .data.ptr = c };
    if (epoll_ctl(epoll, how, c->fd, &ev)) die("epoll");
}

static void dial(struct client *c)
{
    static unsigned serial;
    char request[512];
    c->fd = dial_port(o.port);
    serial++;
    memcpy(c->nonce, &serial, sizeof serial);
    size_t n = ws_request(request, sizeof request, "localhost", "/", c->nonce, "");
    if (send(c->fd, request, n, MSG_NOSIGNAL) != (ssize_t)n) die("send");
    c->open = c->closed = false;
    c->kept_len = c->owed = c->sent = 0;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

static void pay(struct client *c)
{
    size_t before = c->owed;
    int64_t now = now_us();
    while (c->owed) {
        size_t want = c->owed * frame - c->sent, most = copies * frame - c->sent;
        if (want > most) want = most;
        ssize_t n = send(c->fd, frames + c->sent, want, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno != EAGAIN) die("send");
            break;
        }
        for (size_t i = (c->sent ? 1 : 0); i * frame < c->sent + (size_t)n; i++)
            c->at_us[c->head++ % o.depth] = now;
        c->owed -= (c->sent + (size_t)n) / frame;
        c->sent = (c->sent + (size_t)n) % frame;
        if ((size_t)n < want) break;
    }
    if (c->owed || before > 1) watch(c, EPOLL_CTL_MOD, c->owed ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void hang_up(struct client *c)
{
    close(c->fd);
    c->closed = true;
    if (!o.storm) {
        failures++;
        return;
    }
    storms++;
    dial(c);
}

/* The server's answer to the handshake; how many bytes it was, 0: not whole yet. */
static size_t opened(struct client *c, size_t n)
{
    struct http_head h;
    const char *why = "";
    uint8_t *end = memmem(in, n, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t size = (size_t)(end - in) + 4;
    if (!o.bare && (http_response(&h, (char *)in, size) != 200 ||
                    ws_check_response(&h, c->nonce, &why) != 101)) {
        fprintf(stderr, "load: handshake refused: %s\n", why);
        exit(1);
    }
    c->open = true;
    ws_init(&c->ws, WS_CLIENT, &config, &out, &masks, 0);
    if (o.storm) {
        ws_close(&c->ws, 1000, "", 0);
        if (send(c->fd, out.p, out.len, MSG_NOSIGNAL) < 0) failures++;
        out.len = 0;
    } else if (!c->idle) {
        c->owed = o.depth;
        pay(c);
    }
    return size;
}

static void check(struct client *c, const struct ws_event *ev, int64_t now)
{
    messages++;
    bytes += ev->len;
    count_latency(now - c->at_us[c->tail++ % o.depth]);
    if (ev->len == o.size && (o.bare || (messages & 63) || !memcmp(ev->data, payload, o.size))) return;
    fprintf(stderr, "load: another message came back\n");
    exit(1);
}

/* Bytes have come: all[0..n). */
static void take(struct client *c, uint8_t *all, size_t n)
{
    struct ws_event ev;
    enum ws_ev e;
    int64_t now = now_us();
    ws_received(&c->ws, all, n, 0);
    while ((e = ws_next(&c->ws, &ev)) != WS_EV_NONE) {
        if (e == WS_EV_CLOSED && !o.storm) failures++;
        if (e == WS_EV_TEXT || e == WS_EV_BINARY) {
            check(c, &ev, now);
            c->owed++;
        }
    }
    if (out.len && !o.storm && send(c->fd, out.p, out.len, MSG_NOSIGNAL) < 0) failures++;
    out.len = 0;
    size_t left, want = 0;
    uint8_t *p = ws_keep(&c->ws, &left);
    if (left && (want = ws_want(&c->ws)) > c->kept_cap) {
        uint8_t *more = malloc(want);
        if (!more) die("memory");
        memcpy(more, p, left);
        free(c->kept);
        c->kept = more;
        c->kept_cap = want;
    } else if (left) {
        memmove(c->kept, p, left);
    }
    c->kept_len = left;
    if (c->owed && !o.storm) pay(c);
}

static void read_some(struct client *c)
{
    bool far = c->kept_len && c->kept_cap - c->kept_len >= 16384;   /* straight to its place */
    uint8_t *to = far ? c->kept : in;
    size_t cap = far ? c->kept_cap : IN;
    if (!far && c->kept_len) memcpy(in, c->kept, c->kept_len);
    ssize_t n = recv(c->fd, to + c->kept_len, cap - c->kept_len, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { hang_up(c); return; }
    size_t have = c->kept_len + (size_t)n, head = 0;
    if (!c->open) {
        if (!(head = opened(c, have))) { failures++; return; }
        if (head == have) return;
    }
    take(c, to + head, have - head);
}

static void run(double seconds)
{
    struct epoll_event got[256];
    int64_t end = now_us() + (int64_t)(seconds * 1e6);
    while (now_us() < end) {
        int n = epoll_wait(epoll, got, 256, 50);
        for (int i = 0; i < n; i++) {
            struct client *c = got[i].data.ptr;
            if (got[i].events & EPOLLOUT) pay(c);
            if (got[i].events & ~(uint32_t)EPOLLOUT) read_some(c);
        }
    }
}

static void flags(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *f = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(f, "--bare")) { o.bare = true; continue; }
        if (!strcmp(f, "--storm")) { o.storm = true; continue; }
        i++;
        if (!strcmp(f, "--port")) o.port = (unsigned)atoi(v);
        else if (!strcmp(f, "--connections")) o.connections = (unsigned)atoi(v);
        else if (!strcmp(f, "--depth")) o.depth = (unsigned)atoi(v);
        else if (!strcmp(f, "--size")) o.size = strtoul(v, NULL, 10);
        else if (!strcmp(f, "--idle")) o.idle = (unsigned)atoi(v);
        else if (!strcmp(f, "--pid")) o.pid = (unsigned)atoi(v);
        else if (!strcmp(f, "--seconds")) o.seconds = atof(v);
        else if (!strcmp(f, "--warmup")) o.warmup = atof(v);
        else if (!strcmp(f, "--kind")) {
            o.op = strcmp(v, "binary") ? WS_TEXT : WS_BINARY;
            o.utf8 = !strcmp(v, "utf8");
        } else {
            fprintf(stderr, "load: unknown flag %s\n", f);
            exit(64);
        }
    }
}

int main(int argc, char **argv)
{
    flags(argc, argv);
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    prepare();
    epoll = epoll_create1(0);
    struct client *idle = calloc(o.idle + 1, sizeof *idle);
    struct client *all = calloc(o.connections + 1, sizeof *all);
    if (!idle || !all) die("memory");
    unsigned long own_before = anonymous_kib();
    for (unsigned i = 0; i < o.idle; i++) {
        idle[i].idle = true;
        dial(&idle[i]);
        if (i % 100 == 99) run(0.001);
    }
    if (o.idle) run(1);
    unsigned long own_idle = anonymous_kib();
    for (unsigned i = 0; i < o.connections; i++) {
        all[i].at_us = calloc(o.depth + 1, sizeof(int64_t));
        dial(&all[i]);
    }
    run(o.warmup);
    messages = storms = bytes = 0;
    memset(latency, 0, sizeof latency);
    double cpu = cpu_us_of(o.pid);
    int64_t began = now_us();
    run(o.seconds);
    double took = (double)(now_us() - began) / 1e6, used = cpu_us_of(o.pid) - cpu;
    uint64_t n = o.storm ? storms : messages;
    printf("n=%llu rate=%.0f cpu_us=%.4f busy=%.2f p50_us=%.0f p99_us=%.0f max_us=%.0f mb_s=%.1f "
           "anonymous_kib=%lu idle_bytes=%.0f failures=%llu\n",
           (unsigned long long)n, (double)n / took, n ? used / (double)n : 0, used / took / 1e6,
           percentile(0.5), percentile(0.99), percentile(1), (double)bytes / took / 1e6, anonymous_kib(),
           o.idle ? (double)(own_idle - own_before) * 1024 / o.idle : 0.0,
           (unsigned long long)failures);
    return failures ? 1 : 0;
}
