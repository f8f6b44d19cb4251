#include "servers/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "servers/values.h"

/* REAL is a double, BYTES, NUMBER and WORD are int64_t. */
enum kind { TEXT, LIST, SWITCH, BYTES, NUMBER, REAL, WORD, PORTS, SYNC, MODE };

/* In the order of their rank. */
enum source { CONFIG_FILE, ENVIRONMENT, COMMAND_LINE };

struct flag {
    const char *name;
    enum kind   kind;
    const char *value, *help;
    size_t      at;          /* offsetof its field in struct options */
    double      initial, min, max;
    const char *words;       /* WORD: the words it knows, where value does not name them all */
};

#define AT(f) .at = offsetof(struct options, f)
#define MAX_BYTES 1099511627776.0   /* 1 TiB */

/* In the order of SPEC 1. */
static const struct flag flags[] = {
    { "host", TEXT, "ADDR", "address to serve (localhost: 127.0.0.1 and ::1)", AT(host) },
    { "memory-port", NUMBER, "N", "port of the memory server; 0: any",
      AT(memory_port), 5000, 0, 65535 },
    { "inference-port", PORTS, "N|N-M", "first free port of these (5005-5014)",
      AT(inference_port), 5005, 0, 65535 },
    { "only", WORD, "memory|inference", "run one endpoint",
      AT(only), .words = "both|memory|inference" },
    { "data", TEXT, "DIR", "where memories live", AT(data) },
    { "model", TEXT, "DIR|builtin", "sentence encoder directory", AT(model) },
    { "adapter", LIST, "NAME=DIR", "LoRA adapter (repeatable)", AT(adapters) },
    { "allow-origin", LIST, "ORIGIN", "let pages of this origin in (repeatable)", AT(origins) },
    { "allow-host", LIST, "HOST", "accept this Host header (repeatable)", AT(hosts) },
    { "token-file", TEXT, "FILE", "clients must present this token", AT(token_file) },
    { "insecure", SWITCH, NULL, "serve a wider address without a token", AT(insecure) },
    { "buffer-memory", BYTES, "BYTES", "for unfinished messages and unsent replies",
      AT(buffer_memory), 67108864, 65536, MAX_BYTES },
    { "max-connections", NUMBER, "N", "per endpoint; above it 503",
      AT(max_connections), 1024, 1, 1000000 },
    { "max-message", BYTES, "BYTES", "above it close 1009",
      AT(max_message), 1048576, 125, 1073741824 },
    { "max-memories", NUMBER, "N", "above it see --when-full",
      AT(max_memories), 100000, 1, 100000000 },
    { "when-full", WORD, "refuse|evict", "refuse new memories or evict the weakest", AT(evict) },
    { "forget", REAL, "THRESHOLD", "forget memories weaker than this; 0: never",
      AT(forget), 0, 0, 1 },
    { "sync", SYNC, "always|SECONDS|never", "when a memory is on disk", AT(sync), .max = 86400 },
    { "rate", REAL, "N", "requests per minute and connection; 0: off", AT(rate), 0, 0, 1e9 },
    { "ping-interval", REAL, "S", "ping a quiet peer; 0: off", AT(ping_interval), 20, 0, 86400 },
    { "ping-timeout", REAL, "S", "close one that stays quiet; 0: off",
      AT(ping_timeout), 20, 0, 86400 },
    { "close-timeout", REAL, "S", "wait for the answer to a close",
      AT(close_timeout), 10, 0.01, 86400 },
    { "handshake-timeout", REAL, "S", "a request must be whole by then",
      AT(handshake_timeout), 10, 0.01, 86400 },
    { "log-level", WORD, "error|warn|info|debug", "how much is logged", AT(log_level), LOG_INFO },
    { "log-format", WORD, "text|json", "form of log lines", AT(log_json) },
    { "max-reply", BYTES, "BYTES", "a larger reply is cut or refused",
      AT(max_reply), 4194304, 4096, 1073741824 },
    { "message-timeout", REAL, "S", "a begun message must be whole by then",
      AT(message_timeout), 60, 0.01, 86400 },
    { "max-queue", NUMBER, "N", "texts waiting for the encoder", AT(max_queue), 256, 1, 1000000 },
    { "quantize", WORD, "int8", "encoder weights as int8", AT(int8), .words = "none|int8" },
    { "no-sandbox", SWITCH, NULL, "do without seccomp and Landlock", AT(no_sandbox) },
    { "require-sandbox", SWITCH, NULL, "refuse to run without them", AT(require_sandbox) },
    { "config", TEXT, "FILE", "`name = value` lines, names as these", AT(config) },
    { "inline-sync", SWITCH, NULL, "write in the loop, without a helper process", AT(inline_sync) },
    { "adapter-dir", TEXT, "DIR", "where load_adapter may load from", AT(adapter_dir) },
    { "port-file", TEXT, "FILE", "write the ports there once both listen", AT(port_file) },
    { "check", MODE, NULL, "verify data, model and adapters, then exit", AT(mode), CHECK },
    { "repair", MODE, NULL, "write a new log with every whole record", AT(mode), REPAIR },
    { "compact", MODE, NULL, "drop the garbage of the log", AT(mode), COMPACT },
    { "reembed", MODE, NULL, "embed every stored text again", AT(mode), REEMBED },
    { "export", MODE, "FILE", "write memories as JSON lines", AT(mode), EXPORT },
    { "import", MODE, "FILE", "read memories from JSON lines", AT(mode), IMPORT },
    { "sandbox-selftest", MODE, NULL, "try what the sandbox must deny", AT(mode), SELFTEST },
    { "help", MODE, NULL, "this text", AT(mode), HELP },
    { "version", MODE, NULL, "version and what the kernel offers", AT(mode), VERSION },
};
#define N_FLAGS (sizeof flags / sizeof *flags)

static void *field(struct options *o, const struct flag *f) { return (char *)o + f->at; }

static const struct flag *find(const char *name, size_t len)
{
    for (size_t i = 0; i < N_FLAGS; i++)
        if (strlen(flags[i].name) == len && !strncmp(flags[i].name, name, len)) return &flags[i];
    return NULL;
}

/* A plain decimal number and nothing behind it but, for bytes, K, M or G. */
static bool number(const char *s, double *v, bool bytes)
{
    char *end;
    if (!isdigit((unsigned char)*s) && *s != '.') return false;
    if (strpbrk(s, "xXpPeEnN")) return false;
    *v = strtod(s, &end);
    if (bytes && *end) {
        const char *unit = "KMG", *u = strchr(unit, toupper((unsigned char)*end));
        if (!u) return false;
        for (const char *p = unit; p <= u; p++) *v *= 1024;
        end++;
    }
    return !*end && isfinite(*v);
}

static bool set_number(struct options *o, const struct flag *f, const char *s)
{
    double v;
    if (!number(s, &v, f->kind == BYTES) || v < f->min || v > f->max) return false;
    if (f->kind == REAL) { *(double *)field(o, f) = v; return true; }
    if (v != floor(v)) return false;
    *(int64_t *)field(o, f) = (int64_t)v;
    return true;
}

static bool set_ports(struct options *o, const char *s)
{
    char *end;
    if (!isdigit((unsigned char)*s)) return false;
    long a = strtol(s, &end, 10), b = a;
    if (*end == '-' && isdigit((unsigned char)end[1])) b = strtol(end + 1, &end, 10);
    if (*end || a < 0 || b < a || b > 65535) return false;
    o->inference_port = a;
    o->inference_last = b;
    return true;
}

static const char *words_of(const struct flag *f) { return f->words ? f->words : f->value; }

static bool set_word(struct options *o, const struct flag *f, const char *s)
{
    long i = word_index(words_of(f), s, strlen(s));
    if (i >= 0) *(int64_t *)field(o, f) = i;
    return i >= 0;
}

static bool set_sync(struct options *o, const char *s)
{
    double v;
    if (!strcmp(s, "always")) { o->sync = 0; return true; }
    if (!strcmp(s, "never")) { o->sync = -1; return true; }
    if (!number(s, &v, false) || v <= 0 || v > 86400) return false;
    o->sync = v;
    return true;
}

static bool set_switch(bool *b, const char *s)
{
    long i = s ? word_index("0|1|false|true|no|yes|off|on", s, strlen(s)) : 1;
    if (i >= 0) *b = i & 1;
    return i >= 0;
}

/* A list given by a later source replaces the one of an earlier. */
static bool add(const struct options *o, struct options_list *l, const char *s)
{
    if (l->source != o->source) l->n = 0;
    if (l->n == OPTIONS_LIST || !*s) return false;
    l->source = o->source;
    l->bad = o->source == COMMAND_LINE ? 64 : 78;
    l->v[l->n++] = s;
    return true;
}

/* Two kinds of maintenance from one source contradict each other; a flag wins over the
 * environment. */
static bool set_mode(struct options *o, const struct flag *f, const char *s)
{
    enum maintenance mode = (enum maintenance)f->initial;
    bool on = true;
    if (f->value ? !*s : !set_switch(&on, s)) return false;
    if (!on) return true;
    if (o->mode != RUN && o->mode != mode && o->mode_source == o->source) return false;
    o->mode = mode;
    o->mode_source = o->source;
    if (f->value) o->file = s;
    return true;
}

/* Set one flag from text; s is NULL where none was given. */
static bool set(struct options *o, const struct flag *f, const char *s)
{
    switch (f->kind) {
    case SWITCH:    return set_switch(field(o, f), s);
    case TEXT:      *(const char **)field(o, f) = s; return *s && strlen(s) <= OPTIONS_TEXT;
    case LIST:      return add(o, field(o, f), s);
    case WORD:      return set_word(o, f, s);
    case PORTS:     return set_ports(o, s);
    case SYNC:      return set_sync(o, s);
    case MODE:      return set_mode(o, f, s);
    case BYTES: case NUMBER: case REAL: break;
    }
    return set_number(o, f, s);
}

/* where: the value's place and name, as its source spells them. */
static int assign(struct options *o, const struct flag *f, const char *s, const char *where,
                  struct fault *ft)
{
    char range[80] = "";
    int status = o->source == COMMAND_LINE ? 64 : 78;
    if (set(o, f, s)) return 0;
    if (f->kind == MODE && o->mode != RUN)
        return fault_set(ft, status, "%s: one of the flags from --check on at a time", where);
    if (f->kind == SYNC) snprintf(range, sizeof range, ", above 0 and at most %.15g", f->max);
    if (f->kind == PORTS) snprintf(range, sizeof range, ", up to %.15g and N not above M", f->max);
    if (f->kind == NUMBER || f->kind == REAL || f->kind == BYTES)
        snprintf(range, sizeof range, ", a number from %.15g to %.15g", f->min, f->max);
    if (f->kind == TEXT) snprintf(range, sizeof range, " of at most %d bytes", OPTIONS_TEXT);
    if (f->kind == LIST) snprintf(range, sizeof range, ", at most %d times", OPTIONS_LIST);
    return fault_set(ft, status, "%s: bad value '%.100s' (want %s%s)", where, s ? s : "",
                     f->value ? f->value : "true or false", range);
}

static void defaults(struct options *o)
{
    *o = (struct options){ .host = "localhost", .model = "builtin", .inference_last = 5014,
                           .adapters.bad = 78, .origins.bad = 78, .hosts.bad = 78 };
    for (size_t i = 0; i < N_FLAGS; i++) {
        const struct flag *f = &flags[i];
        if (f->kind == REAL) *(double *)field(o, f) = f->initial;
        else if (f->kind == BYTES || f->kind == NUMBER || f->kind == WORD || f->kind == PORTS)
            *(int64_t *)field(o, f) = (int64_t)f->initial;
    }
}

struct owned { struct owned *next; char text[]; };

/* A copy that lives as long as o. NULL: out of memory. */
static char *own(struct options *o, const char *text)
{
    size_t n = strlen(text) + 1;
    struct owned *w = malloc(sizeof *w + n);
    if (!w) return NULL;
    memcpy(w->text, text, n);
    w->next = o->owned;
    o->owned = w;
    return w->text;
}

void options_free(struct options *o)
{
    for (struct owned *w; (w = o->owned); free(w)) o->owned = w->next;
}

/* The environment: RECALLD_MAX_QUEUE for --max-queue; several values of a list
 * separated by commas. Not --help and --version: images of containers set RECALLD_VERSION. */
static int read_environment(struct options *o, struct fault *ft)
{
    for (size_t i = 0; i < N_FLAGS; i++) {
        const struct flag *f = &flags[i];
        if (f->kind == MODE && (f->initial == HELP || f->initial == VERSION)) continue;
        char where[80] = "environment: RECALLD_", *name = strchr(where, 'R'), *end = name + 8;
        for (const char *p = f->name; *p; p++)
            *end++ = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        const char *s = getenv(name);
        if (!s) continue;
        if (f->kind != LIST) {
            if (assign(o, f, s, where, ft)) return -1;
            continue;
        }
        char *copy = own(o, s), *save = NULL;
        if (!copy) return fault_set(ft, 71, "out of memory");
        for (char *t = strtok_r(copy, ",", &save); t; t = strtok_r(NULL, ",", &save))
            if (assign(o, f, t, where, ft)) return -1;
    }
    return 0;
}

static char *strip(char *s)
{
    while (isspace((unsigned char)*s)) s++;
    for (size_t n = strlen(s); n && isspace((unsigned char)s[n - 1]);) s[--n] = 0;
    return s;
}

static int read_line(struct options *o, char *line, const char *where, struct fault *ft)
{
    char *s = strip(line);
    if (!*s || *s == '#') return 0;
    char *eq = strchr(s, '=');
    if (eq) *eq = 0;
    char *name = strip(s), *copy;
    const struct flag *f = find(name, strlen(name));
    if (!f || f->kind == MODE || f->at == offsetof(struct options, config))
        return fault_set(ft, 78, "%s: unknown name '%.100s'", where, name);
    if (!eq && f->kind != SWITCH)
        return fault_set(ft, 78, "%s: '%s' wants a value: %s = %s", where, name, name, f->value);
    copy = eq ? own(o, strip(eq + 1)) : NULL;
    if (eq && !copy) return fault_set(ft, 71, "out of memory");
    char place[400];
    snprintf(place, sizeof place, "%s: %s", where, f->name);
    return assign(o, f, copy, place, ft);
}

static int read_file(struct options *o, const char *path, struct fault *ft)
{
    FILE *in = fopen(path, "re");
    if (!in) return fault_set(ft, 78, "--config %.200s: %s", path, strerror(errno));
    char *line = NULL, where[320];
    size_t cap = 0;
    int bad = 0;
    ssize_t len;
    for (int n = 1; !bad && (len = getline(&line, &cap, in)) >= 0; n++) {
        snprintf(where, sizeof where, "%.250s line %d", path, n);
        bad = strlen(line) != (size_t)len ? fault_set(ft, 78, "%s: a NUL byte", where)
                                          : read_line(o, line, where, ft);
    }
    if (!bad && !feof(in)) bad = fault_set(ft, 78, "--config %.200s: cannot be read", path);
    free(line);
    fclose(in);
    return bad;
}

/* One word of the command line; *i moves behind a value that was its own word. */
static int read_word(struct options *o, int argc, char **argv, int *i, struct fault *ft)
{
    const char *s = argv[*i];
    if (strncmp(s, "--", 2) || !s[2])
        return fault_set(ft, 64, "unexpected argument '%.100s'; --help lists the flags", s);
    const char *eq = strchr(s, '=');
    const struct flag *f = find(s + 2, eq ? (size_t)(eq - s - 2) : strlen(s + 2));
    if (!f) return fault_set(ft, 64, "unknown flag '%.100s'; --help lists them", s);
    const char *value = eq ? eq + 1 : NULL;
    if (f->value && !value) {
        if (*i + 1 == argc) return fault_set(ft, 64, "--%s wants a value: %s", f->name, f->value);
        value = argv[++*i];
    }
    if (f->kind == MODE && !f->value && value)
        return fault_set(ft, 64, "--%s takes no value", f->name);
    char where[64];
    snprintf(where, sizeof where, "--%s", f->name);
    return assign(o, f, value, where, ft);
}

int options_read(struct options *o, int argc, char **argv, struct fault *ft)
{
    struct options cli;
    /* First for --config alone and for errors of usage; then in order of rank. */
    defaults(&cli);
    cli.host = NULL;
    cli.source = COMMAND_LINE;
    for (int i = 1; i < argc; i++)
        if (read_word(&cli, argc, argv, &i, ft)) return -1;
    defaults(o);
    const char *file = cli.config ? cli.config : getenv("RECALLD_CONFIG");
    if (file && *file && read_file(o, file, ft)) return -1;
    o->source = ENVIRONMENT;
    if (read_environment(o, ft)) return -1;
    o->source = COMMAND_LINE;
    for (int i = 1; i < argc; i++)
        if (read_word(o, argc, argv, &i, ft)) return -1;
    o->bad_host = cli.host ? 64 : 78;
    if (o->no_sandbox && o->require_sandbox)
        return fault_set(ft, cli.no_sandbox || cli.require_sandbox ? 64 : 78,
                         "--no-sandbox and --require-sandbox contradict each other");
    return 0;
}

void options_help(void)
{
    puts("usage: recalld [flags]\n\n"
         "Two WebSocket servers in one process: memory (5000) and inference (5005).\n"
         "Each flag down to --sandbox-selftest also as RECALLD_NAME in the environment, those\n"
         "above --check as `name = value` in --config.\n");
    for (size_t i = 0; i < N_FLAGS; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", flags[i].name, flags[i].value ? flags[i].value : "");
        printf("  %-34s %s\n", left, flags[i].help);
    }
}

static void put_word(const struct options *o, const struct flag *f, struct json_out *out)
{
    const void *at = (const char *)o + f->at;
    int64_t i = *(const int64_t *)at;
    const char *w = words_of(f);
    while (i-- > 0) w += strcspn(w, "|") + 1;
    json_put_str(out, w, strcspn(w, "|"));
}

void options_put_sync(const struct options *o, struct json_out *out)
{
    if (o->sync > 0) json_put_double(out, o->sync);
    else json_put_text(out, o->sync < 0 ? "never" : "always");
}

static void put_ports(const struct options *o, struct json_out *out)
{
    char s[32];
    snprintf(s, sizeof s, "%lld-%lld", (long long)o->inference_port, (long long)o->inference_last);
    json_put_text(out, s);
}

void options_put(const struct options *o, struct json_out *out)
{
    for (size_t i = 0; i < N_FLAGS; i++) {
        const struct flag *f = &flags[i];
        const void *at = (const char *)o + f->at;
        /* Paths and who may in are nobody's business but the operator's. */
        if (f->kind == MODE || f->kind == TEXT || f->kind == LIST) continue;
        char name[40];
        snprintf(name, sizeof name, "%s", f->name);
        for (char *p = name; *p; p++)
            if (*p == '-') *p = '_';
        json_put_key(out, name);
        switch (f->kind) {
        case SWITCH: json_put_bool(out, *(const bool *)at); break;
        case WORD:   put_word(o, f, out); break;
        case REAL:   json_put_double(out, *(const double *)at); break;
        case SYNC:   options_put_sync(o, out); break;
        case PORTS:  put_ports(o, out); break;
        default:     json_put_int(out, *(const int64_t *)at);
        }
    }
}
