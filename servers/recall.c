/* recall: the command-line client of recalld. One connection, one command. */
#include <errno.h>
#include <netdb.h>
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

#include "json.h"
#include "servers/net.h"
#include "servers/values.h"
#include "ws.h"

#define MAX_MESSAGE (16u << 20)   /* bytes of a reply */
#define WAIT_S      60            /* for a reply */
#define BYE_S       2             /* for the end of TCP behind our close */
#define LOST        "connection lost"

static struct {
    int             fd;
    struct ws       ws;
    struct ws_out   out, bye;     /* bye: a close frame, ready to be sent */
    struct ws_masks masks;
    uint8_t        *in;
    size_t          kept, cap;
    bool            json;
    const char     *url, *token;
} r = { .fd = -1 };

static const struct ws_config config = { .max_message = MAX_MESSAGE, .close_timeout_ms = 2000 };

static void die(int status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

static void die(int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("recall: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(status);
}

static int finished(void)
{
    if (fflush(stdout)) die(74, "stdout cannot be written: %s", strerror(errno));
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void *need(size_t n)
{
    void *p = malloc(n);
    if (!p) die(71, "out of memory");
    return p;
}

static void send_all(const void *p, size_t n)
{
    for (const char *s = p; n;) {
        ssize_t sent = send(r.fd, s, n, MSG_NOSIGNAL);
        if (sent < 0) die(74, LOST ": %s", strerror(errno));
        s += sent, n -= (size_t)sent;
    }
}

static void flush(void)
{
    send_all(r.out.p, r.out.len);
    r.out.len = 0;
}

/* For each recv(); 0: for ever. */
static void wait_at_most(int seconds)
{
    setsockopt(r.fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = seconds }, sizeof(struct timeval));
}

static bool say_bye(void) { return send(r.fd, r.bye.p, r.bye.len, MSG_NOSIGNAL | MSG_DONTWAIT) > 0; }

static void on_signal(int sig)
{
    say_bye();
    signal(sig, SIG_DFL), raise(sig);
}

/* At exit: our close, or the answer to the server's; then it ends TCP. */
static void hang_up(void)
{
    if (r.ws.closed ? send(r.fd, r.out.p, r.out.len, MSG_NOSIGNAL | MSG_DONTWAIT) <= 0 : !say_bye()) return;
    wait_at_most(BYE_S);
    recv(r.fd, r.in, r.cap, MSG_WAITALL);
}

/* Room for n bytes behind those that are kept. */
static void room(size_t n)
{
    if (r.cap >= r.kept + n) return;
    r.cap = r.kept + n;
    if (!(r.in = realloc(r.in, r.cap))) die(71, "out of memory");
}

/* What others sent must not reach the terminal with control characters in it. */
static void clean(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if ((c < ' ' && c != '\n' && c != '\t') || c == 127) ((char *)s.p)[i] = '?';
    }
}

/* ws://host[:port][/path], host perhaps an IPv6 address in brackets. */
static void dial(const char *host, const char *port)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *a;
    int e = getaddrinfo(host, port, &hints, &list);
    if (e) die(69, "%s: %s", host, gai_strerror(e));
    for (a = list; a; a = a->ai_next) {
        r.fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (r.fd >= 0 && !connect(r.fd, a->ai_addr, a->ai_addrlen)) break;
        e = errno;
        if (r.fd >= 0) close(r.fd);
        r.fd = -1;
    }
    freeaddrinfo(list);
    if (r.fd < 0) die(69, "nobody answers at %s port %s: %s; is recalld running?", host, port, strerror(e));
    wait_at_most(WAIT_S);
}

static void shake_hands(const char *authority, const char *path)
{
    uint8_t nonce[16];
    char head[4096], headers[512] = "";
    struct http_scan scan = { 0 };
    struct http_head h;
    const char *why = "";
    if (getrandom(nonce, 16, 0) != 16 || getrandom(r.masks.seed, 16, 0) != 16) die(71, "no random numbers");
    if (r.token) snprintf(headers, sizeof headers, "Authorization: Bearer %s\r\n", r.token);
    send_all(head, ws_request(head, sizeof head, authority, path, nonce, headers));
    for (int status = 0; !status;) {
        room(HTTP_MAX_HEAD);
        ssize_t n = recv(r.fd, r.in + r.kept, HTTP_MAX_HEAD, 0);
        if (n <= 0) die(69, "no WebSocket answer from %s", r.url);
        r.kept += (size_t)n;
        if ((status = http_scan(&scan, (char *)r.in, r.kept)) > 200) die(69, "%s is no WebSocket server", r.url);
    }
    int status = http_response(&h, (char *)r.in, scan.at) == 200 ? ws_check_response(&h, nonce, &why) : 400;
    if (status == 401) die(77, "a token is wanted: set RECALLD_TOKEN");
    if (status != 101) {
        struct slice body = trim_ascii((struct slice){ (char *)r.in + scan.at, r.kept - scan.at });
        clean(body);
        die(69, "%s refused with %d: %.*s", r.url, status, (int)body.len, body.p);
    }
    r.kept -= scan.at;
    memmove(r.in, r.in + scan.at, r.kept);
}

static void open_connection(void)
{
    static char host[256], port[8] = "80", authority[300];
    static uint8_t bye[WS_MAX_CTRL];
    struct ws closing;
    const char *p = r.url, *slash;
    if (strncmp(p, "ws://", 5)) die(64, "--url %s: want ws://HOST:PORT", r.url);
    p += 5;
    slash = strchr(p, '/');
    size_t n = slash ? (size_t)(slash - p) : strlen(p);
    struct http_origin o;
    if (n >= sizeof authority || !http_host(&o, (struct slice){ p, n })) die(64, "--url %s: want ws://HOST:PORT", r.url);
    memcpy(authority, p, n);
    bool v6 = o.host.len > 2 && *o.host.p == '[';
    snprintf(host, sizeof host, "%.*s", (int)(o.host.len - 2 * v6), o.host.p + v6);
    if (o.port) snprintf(port, sizeof port, "%u", o.port);
    dial(host, port);
    r.out.p = need(r.out.cap = MAX_MESSAGE + WS_MAX_HEAD);
    shake_hands(authority, slash ? slash : "/");
    ws_init(&r.ws, WS_CLIENT, &config, &r.out, &r.masks, now_ms());
    ws_received(&r.ws, r.in, r.kept, now_ms());
    r.bye = (struct ws_out){ .p = bye, .cap = sizeof bye };
    ws_init(&closing, WS_CLIENT, &config, &r.bye, &r.masks, now_ms());
    ws_close(&closing, 1000, "", now_ms());
    atexit(hang_up);
    signal(SIGINT, on_signal), signal(SIGTERM, on_signal);
}

static void ask(const char *text, size_t len)
{
    if (ws_send(&r.ws, WS_TEXT, text, len)) die(65, "the message is too long");
    flush();
}

/* The next message. */
static struct slice next_message(void)
{
    struct ws_event ev;
    for (enum ws_ev e; (e = ws_next(&r.ws, &ev)) != WS_EV_TEXT;) {
        if (e == WS_EV_CLOSED) die(69, "the server closed the connection: %u %.*s", ev.code, (int)ev.len, ev.data);
        if (r.out.len) flush();
        if (e != WS_EV_NONE) continue;
        uint8_t *keep = ws_keep(&r.ws, &r.kept);
        size_t want = ws_want(&r.ws) > r.kept ? ws_want(&r.ws) - r.kept : 0, n = want > 65536 ? want : 65536;
        if (r.kept) memmove(r.in, keep, r.kept);
        room(n);
        ssize_t got = recv(r.fd, r.in + r.kept, n, 0);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) die(75, "no reply within %d s", WAIT_S);
        if (got <= 0) die(74, LOST);
        ws_received(&r.ws, r.in, r.kept + (size_t)got, now_ms());
    }
    return (struct slice){ (char *)ev.data, ev.len };
}

/* The member of that name: its text, or an empty slice. */
static struct slice member(struct slice object, const char *name)
{
    struct json in = json_inside(object);
    while (json_next(&in) > JSON_END)
        if (json_key(&in, name)) return json_raw(&in);
    return (struct slice){ 0 };
}

/* A string as people read it, anything else as it stands. */
static struct slice plain(struct slice value)
{
    struct json in;
    json_init(&in, (char *)value.p, value.len);
    return json_next(&in) == JSON_STRING ? json_slice(&in) : value;
}

static void print(const char *before, struct slice s, const char *after)
{
    fputs(before, stdout);
    clean(s);
    fwrite(s.p, 1, s.len, stdout);
    fputs(after, stdout);
}

static void print_raw(struct slice s)
{
    fwrite(s.p, 1, s.len, stdout);
    putchar('\n');
}

static bool success(struct slice reply)
{
    return slice_is(member(reply, "status"), "\"success\"");
}

/* `data` of a reply; an error ends the program with its sentence. */
static struct slice data_of(struct slice reply)
{
    if (r.json) print_raw(reply);
    if (!success(reply)) {
        struct slice why = plain(member(reply, "error"));
        if (r.json) exit(65);
        clean(why);
        if (!why.len) die(65, "the server sent what is no reply");
        die(65, "%.*s", (int)why.len, why.p);
    }
    return member(reply, "data");
}

static struct json_out begin(const char *type)
{
    static char *buf;
    struct json_out out;
    if (!buf) buf = need(MAX_MESSAGE);
    json_out(&out, buf, MAX_MESSAGE);
    json_open(&out, '{');
    json_put_key(&out, "type"), json_put_text(&out, type);
    json_put_key(&out, "data");
    json_open(&out, '{');
    return out;
}

static void end(struct json_out *out)
{
    json_close(out, '}');
    json_close(out, '}');
    if (out->full) die(65, "the text is too long");
    ask(out->p, out->len);
}

static struct slice request_text(const char *type, const char *text)
{
    size_t n = strlen(text);
    struct json_out out = begin(type);
    if (!utf8_valid((const uint8_t *)text, n)) die(65, "the text is not UTF-8");
    json_put_key(&out, "text"), json_put_str(&out, text, n);
    end(&out);
    return data_of(next_message());
}

static void on_store(const char *text)
{
    struct slice data = request_text("store", text);
    if (r.json) return;
    print("", plain(member(data, "id")), "");
    print("  significance ", member(data, "significance"), "");
    print(member(data, "duplicate").len == 4 ? "  (known already)" : "", (struct slice){ 0 }, "\n");
}

static void on_search(const char *text)
{
    struct json in = json_inside(member(request_text("search", text), "results"));
    while (!r.json && json_next(&in) > JSON_END) {
        struct slice m = json_raw(&in);
        print("", member(m, "score"), "  ");
        print("", plain(member(m, "text")), "\n");
    }
}

static void print_members(struct slice object, const char *indent)
{
    struct json in = json_inside(object);
    while (json_next(&in) > JSON_END) {
        struct slice key = in.key;
        bool group = in.type == JSON_OBJECT;
        struct slice value = json_raw(&in);
        print(indent, key, group ? "\n" : "  ");
        if (group) print_members(value, "  ");
        else print("", plain(value), "\n");
    }
}

static void on_stats(const char *text)
{
    (void)text;
    struct json_out out = begin("stats");
    end(&out);
    struct slice data = data_of(next_message());
    if (!r.json) print_members(data, "");
}

static void on_embed(const char *text)
{
    struct json in = json_inside(member(request_text("embeddings", text), "embeddings"));
    if (!r.json && json_next(&in) > JSON_END) print("", json_raw(&in), "\n");
}

static void on_export(const char *text)
{
    struct slice after = { 0 };
    (void)text;
    do {
        struct json_out out = begin("export");
        if (after.len) json_put_key(&out, "after"), json_put_raw(&out, after.p, after.len);
        json_put_key(&out, "count"), json_put_int(&out, 100);
        end(&out);
        bool json = r.json;
        r.json = false;                  /* lines are JSON already */
        struct slice data = data_of(next_message()), list = member(data, "memories");
        r.json = json;
        struct json in = json_inside(list);
        while (json_next(&in) > JSON_END) print_raw(json_raw(&in));
        static char next[64];
        after = member(data, "next");
        if (after.len >= sizeof next || !after.len || *after.p != '"') break;
        memcpy(next, after.p, after.len);
        after.p = next;
    } while (1);
}

/* One line of an export: stored with what a client may give, with its vector or without.
 * False if it is no JSON. */
static bool import_line(char *line, size_t len, long n, bool vector)
{
    static const char *const names[] = { "text", "metadata", "tags", "significance", "timestamp", "pinned", "embedding" };
    size_t at;
    if (json_check(line, len, &at)) return fprintf(stderr, "recall: line %ld: no JSON (byte %zu)\n", n, at), false;
    struct slice object = { line, len };
    struct json_out out = begin("store");
    for (size_t i = 0; i < sizeof names / sizeof *names - !vector; i++) {
        struct slice v = member(object, names[i]);
        if (!i && !v.len) v = member(object, "content");
        if (v.len) json_put_key(&out, names[i]), json_put_raw(&out, v.p, v.len);
    }
    end(&out);
    return true;
}

static void on_import(const char *path)
{
    FILE *in = strcmp(path, "-") ? fopen(path, "re") : stdin;
    char *line = NULL;
    size_t cap = 0;
    long n = 0, stored = 0, known = 0, refused = 0;
    if (!in) die(74, "%s: %s", path, strerror(errno));
    for (ssize_t len; (len = getline(&line, &cap, in)) >= 0;) {
        while (len && strchr("\r\n\t ", line[len - 1])) len--;
        n++;
        if (!len) continue;
        if (!import_line(line, (size_t)len, n, true) && ++refused) continue;
        struct slice reply = next_message();
        if (slice_is(plain(member(member(reply, "data"), "code")), "bad_dimension")) {
            import_line(line, (size_t)len, n, false);        /* another embedder's vector */
            reply = next_message();
        }
        if (success(reply)) {
            if (member(member(reply, "data"), "duplicate").len == 4) known++;
            else stored++;
            continue;
        }
        struct slice why = plain(member(reply, "error"));
        clean(why);
        fprintf(stderr, "recall: line %ld: %.*s\n", n, (int)why.len, why.p);
        refused++;
    }
    int e = feof(in) ? 0 : errno;
    printf(r.json ? "{\"stored\":%ld,\"duplicates\":%ld,\"refused\":%ld}\n"
                  : "%ld stored, %ld known already, %ld refused\n", stored, known, refused);
    free(line);
    if (e) die(74, "%s: %s", path, strerror(e));
    if (refused) exit(65);
}

static void on_watch(const char *text)
{
    (void)text;
    struct json_out out = begin("subscribe");
    json_put_key(&out, "events");
    json_open(&out, '[');
    json_put_text(&out, "memory_added"), json_put_text(&out, "memory_updated"), json_put_text(&out, "memory_removed");
    json_close(&out, ']');
    end(&out);
    data_of(next_message());
    wait_at_most(0);
    for (;;) {
        struct slice ev = next_message(), data = member(ev, "data"), m = member(data, "memory");
        if (r.json) print_raw(ev);
        else {
            print("", plain(member(ev, "event")), "  ");
            print("", plain(member(m.len ? m : data, "id")), "  ");
            print("", m.len ? plain(member(m, "text")) : plain(member(data, "reason")), "\n");
        }
        fflush(stdout);
    }
}

static const struct { const char *name; void (*run)(const char *); const char *takes; bool inference; } commands[] = {
    { "store", on_store, "TEXT", false }, { "search", on_search, "TEXT", false },
    { "stats", on_stats, NULL, false }, { "embed", on_embed, "TEXT", true },
    { "export", on_export, NULL, false }, { "import", on_import, "FILE", false },
    { "watch", on_watch, NULL, false },
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static void help(FILE *to)
{
    fputs("usage: recall [--json] [--url ws://HOST:PORT] COMMAND\n\n", to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  recall %s %s\n", commands[i].name, commands[i].takes ? commands[i].takes : "");
    fputs("\n--json prints the raw reply. `-` reads the text or file from stdin. The memory server is\n"
          "ws://localhost:5000, for embed the inference server ws://localhost:5005. A token is taken\n"
          "from RECALLD_TOKEN.\n", to);
}

static char *read_stdin(void)
{
    size_t len = 0, cap = 65536;
    static char *p;                      /* lives as long as the program */
    p = need(cap);
    for (size_t n; (n = fread(p + len, 1, cap - len - 1, stdin)) > 0;) {
        len += n;
        if (len > MAX_MESSAGE) die(65, "the text is too long");
        if (cap - len >= 2) continue;
        char *grown = realloc(p, cap *= 2);
        if (!grown) die(71, "out of memory");
        p = grown;
    }
    if (ferror(stdin)) die(74, "stdin: %s", strerror(errno));
    if (memchr(p, 0, len)) die(65, "the text holds a NUL byte");
    p[len] = 0;
    return p;
}

int main(int argc, char **argv)
{
    net_fill_descriptors();
    const char *words[3];
    int n = 0;
    bool flags = true;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (flags && !strcmp(a, "--")) flags = false;
        else if (flags && !strcmp(a, "--json")) r.json = true;
        else if (flags && !strncmp(a, "--url=", 6)) r.url = a + 6;
        else if (flags && !strcmp(a, "--url") && i + 1 < argc) r.url = argv[++i];
        else if (flags && !strcmp(a, "--url")) die(64, "--url wants a value: ws://HOST:PORT");
        else if (flags && !strcmp(a, "--help")) { help(stdout); return finished(); }
        else if (flags && a[0] == '-' && a[1]) die(64, "unknown flag '%s'; --help lists them", a);
        else if (n < 3) words[n++] = a;
    }
    r.token = getenv("RECALLD_TOKEN");
    for (size_t i = 0; n && i < N_COMMANDS; i++) {
        if (strcmp(words[0], commands[i].name)) continue;
        if (n != 1 + (commands[i].takes != NULL)) die(64, "recall %s wants %s", words[0], commands[i].takes ? commands[i].takes : "nothing more");
        const char *text = commands[i].takes ? words[1] : NULL;
        if (text && commands[i].run != on_import && !strcmp(text, "-")) text = read_stdin();
        if (!r.url) r.url = commands[i].inference ? "ws://localhost:5005" : "ws://localhost:5000";
        open_connection();
        commands[i].run(text);
        return finished();
    }
    if (n) die(64, "unknown command '%s'; --help lists them", words[0]);
    help(stderr);
    return 64;
}
