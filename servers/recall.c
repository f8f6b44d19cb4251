/* recall: the command-line client of recalld. One connection, one command. */
#include "servers/offsets.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "json.h"
#include "servers/net.h"
#include "servers/recall_link.h"
#include "servers/values.h"

#define MAX_PAUSE_MS 60000

static bool as_json;                  /* --json */

static int finished(void)
{
    /* What failed in between is not told again by a flush that finds nothing left. */
    int e = fflush(stdout) ? errno : ferror(stdout) ? EIO : 0;
    if (e) die(74, "stdout cannot be written: %s", strerror(e));
    return 0;
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
    return json_before(&in, value) == JSON_STRING ? json_slice(&in) : value;
}

static void print(const char *before, struct slice s, const char *after)
{
    fputs(before, stdout);
    clean(s);
    if (s.len) fwrite(s.p, 1, s.len, stdout);
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

/* The next message. One that is no JSON, or nested deeper than we read, ends the program:
 * its members would be found missing, and an export end as if there were no more. */
static struct slice next_reply(void)
{
    struct slice reply = link_next();
    struct json in;
    json_before(&in, reply);
    if (json_next(&in) == JSON_ERROR)
        die(65, "the server sent what is no reply: %s at byte %zu", in.err, in.err_at);
    return reply;
}

/* `data` of a reply; an error ends the program with its sentence. */
static struct slice data_of(struct slice reply)
{
    if (as_json) print_raw(reply);
    if (!success(reply)) {
        struct slice why = plain(member(reply, "error"));
        if (as_json) exit(65);
        clean(why);
        if (!why.len) die(65, "the server sent what is no reply");
        die(65, "%.*s", (int)why.len, why.p);
    }
    return member(reply, "data");
}

static struct json_out begin(const char *type)
{
    static char *buf;
    if (!buf) buf = need(LINK_MESSAGE);
    struct json_out out = json_out(buf, LINK_MESSAGE);
    json_open(&out, '{');
    member_text(&out, "type", type);
    member_open(&out, "data", '{');
    return out;
}

/* Close the message; its bytes, SIZE_MAX where it found no room. */
static size_t finish(struct json_out *out)
{
    json_close(out, '}');
    json_close(out, '}');
    return out->full ? SIZE_MAX : out->len;
}

static void end(struct json_out *out)
{
    if (finish(out) == SIZE_MAX) die(65, "the text is too long");
    link_ask(out->p, out->len);
}

/* The reply to one of many requests: where the server has no time for it, it is asked again
 * when the server says. */
static struct slice in_time(const struct json_out *out)
{
    for (;;) {
        link_ask(out->p, out->len);
        struct slice reply = next_reply();
        struct json in;
        int64_t ms;
        json_before(&in, member(member(reply, "data"), "retry_after_ms"));
        if (success(reply) || !json_int(&in, &ms) || ms < 0) return reply;
        poll(NULL, 0, ms < MAX_PAUSE_MS ? (int)ms : MAX_PAUSE_MS);
    }
}

static struct slice request_text(const char *type, const char *text)
{
    size_t n = strlen(text);
    struct json_out out = begin(type);
    if (!utf8_valid((const uint8_t *)text, n)) die(65, "the text is not UTF-8");
    json_put_key(&out, "text"), json_put_str(&out, text, n);
    end(&out);
    return data_of(next_reply());
}

static void on_store(const char *text)
{
    struct slice data = request_text("store", text);
    if (as_json) return;
    print("", plain(member(data, "id")), "");
    print("  significance ", member(data, "significance"), "");
    print(member(data, "duplicate").len == 4 ? "  (known already)" : "", (struct slice){ 0 }, "\n");
}

static void on_search(const char *text)
{
    struct json in = json_inside(member(request_text("search", text), "results"));
    while (!as_json && json_next(&in) > JSON_END) {
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
    struct slice data = data_of(next_reply());
    if (!as_json) print_members(data, "");
}

static void on_embed(const char *text)
{
    struct json in = json_inside(member(request_text("embeddings", text), "embeddings"));
    if (!as_json && json_next(&in) > JSON_END) print("", json_raw(&in), "\n");
}

static void on_export(const char *text)
{
    struct slice after = { 0 };
    (void)text;
    do {
        struct json_out out = begin("export");
        if (after.len) json_put_key(&out, "after"), json_put_raw(&out, after.p, after.len);
        member_int(&out, "count", 100);
        finish(&out);
        bool json = as_json;
        as_json = false;                  /* lines are JSON already */
        struct slice data = data_of(in_time(&out)), list = member(data, "memories");
        as_json = json;
        struct json in = json_inside(list);
        while (json_next(&in) > JSON_END) print_raw(json_raw(&in));
        static char next[64];
        after = member(data, "next");
        if (after.len >= sizeof next || !after.len || *after.p != '"') break;
        memcpy(next, after.p, after.len);
        after.p = next;
    } while (1);
}

/* The greatest message that the server takes: a longer one would end the connection. */
static size_t greatest_message(void)
{
    struct json_out out = begin("config");
    end(&out);
    struct json in;
    int64_t bytes;
    json_before(&in, member(member(next_reply(), "data"), "max_message"));
    return json_int(&in, &bytes) && bytes > 0 ? (size_t)bytes : LINK_MESSAGE;
}

/* One line of an export: stored with what a client may give, with its vector or without; the
 * reply. False if it is no JSON, or more than the server takes. */
static bool import_line(char *line, size_t len, long n, bool vector, struct slice *reply)
{
    static size_t most;
    static const char *const names[] = { "text", "metadata", "tags", "significance", "timestamp",
                                         "pinned", "embedding" };
    size_t at;
    if (json_check(line, len, &at)) {
        tell("line %ld: no JSON (byte %zu)", n, at);
        return false;
    }
    if (!most) most = greatest_message();
    struct slice object = { line, len };
    struct json_out out = begin("store");
    for (size_t i = 0; i < sizeof names / sizeof *names - !vector; i++) {
        struct slice v = member(object, names[i]);
        if (!i && !v.len) v = member(object, "content");
        if (v.len) json_put_key(&out, names[i]), json_put_raw(&out, v.p, v.len);
    }
    if (finish(&out) > most) {
        tell("line %ld: too long, at most %zu bytes are taken", n, most);
        return false;
    }
    *reply = in_time(&out);
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
        while (len && memchr("\r\n\t ", line[len - 1], 4)) len--;
        n++;
        if (!len) continue;
        struct slice reply;
        if (!import_line(line, (size_t)len, n, true, &reply) && ++refused) continue;
        if (slice_is(plain(member(member(reply, "data"), "code")), "bad_dimension"))
            import_line(line, (size_t)len, n, false, &reply);   /* another embedder's vector */
        if (success(reply)) {
            if (member(member(reply, "data"), "duplicate").len == 4) known++;
            else stored++;
            continue;
        }
        struct slice why = plain(member(reply, "error"));
        clean(why);
        tell("line %ld: %.*s", n, (int)why.len, why.p);
        refused++;
    }
    int e = feof(in) ? 0 : errno;
    printf(as_json ? "{\"stored\":%ld,\"duplicates\":%ld,\"refused\":%ld}\n"
                  : "%ld stored, %ld known already, %ld refused\n", stored, known, refused);
    free(line);
    if (e) die(74, "%s: %s", path, strerror(e));
    if (refused) exit(65);
}

static void on_watch(const char *text)
{
    (void)text;
    struct json_out out = begin("subscribe");
    member_open(&out, "events", '[');
    json_put_text(&out, "memory_added"), json_put_text(&out, "memory_updated");
    json_put_text(&out, "memory_removed");
    json_close(&out, ']');
    end(&out);
    data_of(next_reply());
    link_wait(0);
    for (;;) {
        struct slice ev = next_reply(), data = member(ev, "data"), m = member(data, "memory");
        struct slice lost = member(ev, "dropped");
        if (as_json) print_raw(ev);
        else {
            clean(lost);
            if (lost.len) tell("%.*s events were lost", (int)lost.len, lost.p);
            print("", plain(member(ev, "event")), "  ");
            print("", plain(member(m.len ? m : data, "id")), "  ");
            print("", m.len ? plain(member(m, "text")) : plain(member(data, "reason")), "\n");
        }
        finished();
    }
}

static const struct {
    const char *name;
    void (*run)(const char *);
    const char *takes;
    bool inference;
} commands[] = {
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
        fprintf(to, "  recall %s %s\n", commands[i].name,
                commands[i].takes ? commands[i].takes : "");
    fputs("\n--json prints the raw reply. `-` reads the text or file from stdin. "
          "The memory server is\n"
          "ws://localhost:5000, for embed the inference server ws://localhost:5005. "
          "A token is taken\n"
          "from RECALLD_TOKEN.\n", to);
}

static char *read_stdin(void)
{
    size_t len = 0, cap = 65536;
    static char *p;                      /* lives as long as the program */
    p = need(cap);
    for (size_t n; (n = fread(p + len, 1, cap - len - 1, stdin)) > 0;) {
        len += n;
        if (len > LINK_MESSAGE) die(65, "the text is too long");
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
    signal(SIGXFSZ, SIG_IGN);            /* a limit on files is an error of the write */
    const char *words[3], *url = NULL;
    int n = 0;
    bool flags = true;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (flags && !strcmp(a, "--")) flags = false;
        else if (flags && !strcmp(a, "--json")) as_json = true;
        else if (flags && !strncmp(a, "--url=", 6)) url = a + 6;
        else if (flags && !strcmp(a, "--url") && i + 1 < argc) url = argv[++i];
        else if (flags && !strcmp(a, "--url")) die(64, "--url wants a value: ws://HOST:PORT");
        else if (flags && !strcmp(a, "--help")) { help(stdout); return finished(); }
        else if (flags && a[0] == '-' && a[1]) die(64, "unknown flag '%s'; --help lists them", a);
        else if (n < 3) words[n++] = a;
    }
    for (size_t i = 0; n && i < N_COMMANDS; i++) {
        if (strcmp(words[0], commands[i].name)) continue;
        if (n != 1 + (commands[i].takes != NULL))
            die(64, "recall %s wants %s", words[0],
                commands[i].takes ? commands[i].takes : "nothing more");
        const char *text = commands[i].takes ? words[1] : NULL;
        if (text && commands[i].run != on_import && !strcmp(text, "-")) text = read_stdin();
        if (!url) url = commands[i].inference ? "ws://localhost:5005" : "ws://localhost:5000";
        link_open(url, getenv("RECALLD_TOKEN"));
        commands[i].run(text);
        return finished();
    }
    if (n) die(64, "unknown command '%s'; --help lists them", words[0]);
    help(stderr);
    return 64;
}
