/* recalld: the daemon. Reads the flags, opens data and model, listens, closes
 * the door behind itself and turns the loop until it is told to stop. */
#include "servers/offsets.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "servers/inference/service.h"
#include "servers/maintenance.h"
#include "servers/memory/service.h"
#include "servers/policy.h"
#include "servers/sandbox.h"
#include "servers/systemd.h"

#define USAGE_MS   60000
#define PIPE_TRIES 150   /* of 20 ms: 3 s */

static struct {
    struct options           options;
    struct policy            policy;
    struct loop             *loop;
    struct conn_pool        *pool;
    struct embedder         *embedder;
    struct memory_service    memory;
    struct inference_service inference;
    struct endpoint         *endpoint[2];    /* [endpoints] that are served */
    int                      endpoints;
    bool                     has_memory, has_inference, stopping, ended;
    struct job               encoding;
    struct watch             signals;
    struct timer             usage, watchdog, end;
    struct hook              flush, reap;
    int                      argc;
    char                   **argv;
} d;

static int fail(const struct fault *f)
{
    fprintf(stderr, "recalld: %s\n", f->why);
    return f->exit;
}

/* The encoder's work, a granule at a time. */
static bool encode(struct job *j)
{
    (void)j;
    return embedder_step(d.embedder, loop_clock_us());
}

static void wake(void *user)
{
    (void)user;
    if (d.loop) loop_job(d.loop, &d.encoding);
}

static int open_embedder(struct fault *f)
{
    const struct options *o = &d.options;
    struct embedder_options eo = { .model = o->model, .int8 = o->int8,
                                   .max_queue = (size_t)o->max_queue, .wake = wake };
    if (!(d.embedder = embedder_open(&eo, f))) return -1;
    for (int64_t i = 0; i < o->adapters.n; i++) {
        const char *s = o->adapters.v[i], *eq = strchr(s, '=');
        char name[EMBED_NAME + 1];
        size_t n = eq ? (size_t)(eq - s) : 0;
        if (!n || n > EMBED_NAME || !utf8_valid((const uint8_t *)s, n) || !eq[1])
            return fault_set(f, o->adapters.bad, "--adapter %.100s: want NAME=DIR, the name of at "
                             "most %d bytes of UTF-8", s, EMBED_NAME);
        snprintf(name, sizeof name, "%.*s", (int)n, s);
        if (embedder_adapter(d.embedder, (struct slice){ s, n }) >= 0)
            return fault_set(f, o->adapters.bad, "--adapter %s: is there twice", name);
        if (embedder_load_adapter(d.embedder, name, eq + 1, f) < 0) return -1;
    }
    d.encoding.step = encode;
    return 0;
}

/* Listening. */

static int32_t ms(double seconds) { return (int32_t)(seconds * 1000 + 0.5); }

static void prepare(struct endpoint *ep, const char *name, const char *protocol)
{
    const struct options *o = &d.options;
    ep->name = name;
    ep->protocol = protocol;
    ep->options = o;
    ep->policy = &d.policy;
    ep->max_reply = (size_t)o->max_reply;
    ep->rate = o->rate;
    ep->slow = strcmp(o->model, "builtin") != 0;
    ep->embedder = d.embedder;
    ep->dimension = embedder_dimension(d.embedder);
    ep->server.loop = d.loop;
    ep->server.pool = d.pool;
    ep->server.max_connections = (uint32_t)o->max_connections;
    ep->server.handshake_timeout_ms = ms(o->handshake_timeout);
    ep->server.ws = (struct ws_config){
        .max_message = (uint64_t)o->max_message, .ping_interval_ms = ms(o->ping_interval),
        .ping_timeout_ms = ms(o->ping_timeout), .close_timeout_ms = ms(o->close_timeout),
        .message_timeout_ms = ms(o->message_timeout) };
    endpoint_init(ep);
    d.endpoint[d.endpoints++] = ep;
}

/* May what reaches beyond this machine be served? */
static int check_wide(const struct options *o, const char *what, const char *name, struct fault *f)
{
    if (o->token_file) return 0;
    if (!o->insecure)
        return fault_set(f, 78, "%s %s would let the network in: give --token-file, or "
                         "--insecure to do without", what, name);
    log_say(LOG_WARN, "", "serving %s %s without a token: whoever reaches it may read and write",
            what, name);
    return 0;
}

/* Sockets of one endpoint: handed over, or bound now. */
static int listen_on(struct endpoint *ep, int64_t first, int64_t last, struct fault *f)
{
    struct net_listeners l = { 0 };
    const char *host = d.options.host;
    for (int fd; (fd = systemd_socket(ep->name, l.n)) >= 0;)
        if (net_inherit(&l, fd))
            return fault_set(f, 71, "the socket handed over for %s %s", ep->name,
                             l.n == 2 ? "is a third: two are served" : "does not listen");
    bool handed = l.n > 0;
    if (!handed && net_listen(&l, host, (unsigned)first, (unsigned)last)) {
        int e = errno;
        if (e == EADDRINUSE && last > first)
            return fault_set(f, 69, "No available ports found in %lld-%lld on %s; choose others "
                             "with --inference-port", (long long)first, (long long)last, host);
        if (e == EADDRINUSE && ep == &d.inference.ep)
            return fault_set(f, 69, "No available ports found: port %lld on %s is busy; choose "
                             "another with --inference-port", (long long)first, host);
        if (e == EADDRINUSE)
            return fault_set(f, 69, "port %lld on %s is busy; stop what uses it or choose "
                             "another with --%s-port", (long long)first, host, ep->name);
        if (e == EACCES)
            return fault_set(f, 71, "port %lld on %s may not be used: %s", (long long)first, host,
                             strerror(e));
        return fault_set(f, e == EINVAL || e == EADDRNOTAVAIL ? 78 : 71, "--host %.100s: %s", host,
                         e == EINVAL ? "want localhost or an address" : strerror(e));
    }
    if (l.wide && handed && check_wide(&d.options, "the socket handed over for", ep->name, f))
        return -1;
    d.policy.ports[ep == &d.inference.ep] = l.port;
    if (server_listen(&ep->server, &l))
        return fault_set(f, 71, "cannot listen: %s", strerror(errno));
    char text[NET_TEXT];
    bool bare = strchr(host, ':') && *host != '[';
    if (!handed)
        log_say(LOG_INFO, ep->name, bare ? "listening on [%s]:%u" : "listening on %s:%u", host,
                l.port);
    else
        log_say(LOG_INFO, ep->name, "listening on %s, handed over",
                net_text(text, &l.address, true));
    return 0;
}

static bool is_pipe(const char *path)
{
    struct stat st;
    return path && !stat(path, &st) && S_ISFIFO(st.st_mode);
}

/* A pipe's reader may come a little later than we, or never: no signal would end that wait. */
static FILE *open_port_file(const char *path)
{
    int tries = is_pipe(path) ? PIPE_TRIES : 1, fd = -1;
    while (fd < 0 && tries--) {
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0600);
        if (fd < 0 && tries) nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    }
    return fd < 0 ? NULL : fdopen(fd, "w");
}

static int write_port_file(const char *path, struct fault *f)
{
    char tmp[4096];
    struct stat st;
    /* A device, a pipe, a link: not ours to replace. */
    bool direct = !lstat(path, &st) && !S_ISREG(st.st_mode);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    FILE *out = open_port_file(direct ? path : tmp);
    for (int i = 0; out && i < 2; i++)
        if (d.policy.ports[i])
            fprintf(out, "%s %u\n", i ? "inference" : "memory", d.policy.ports[i]);
    if (out && !fclose(out) && (direct || !rename(tmp, path))) return 0;
    int e = errno;
    if (!direct) unlink(tmp);
    return fault_set(f, 74, "--port-file %.200s: %s", path,
                     e == ENXIO && is_pipe(path) ? "nobody reads this pipe" : strerror(e));
}

static int listen_all(struct fault *f)
{
    const struct options *o = &d.options;
    if (d.has_memory && listen_on(&d.memory.ep, o->memory_port, o->memory_port, f)) return -1;
    if (d.has_inference && listen_on(&d.inference.ep, o->inference_port, o->inference_last, f))
        return -1;
    return o->port_file ? write_port_file(o->port_file, f) : 0;
}

/* Signals. */

static void stop(int64_t now)
{
    if (d.stopping) { d.ended = true; return; }   /* the second one */
    d.stopping = true;
    log_say(LOG_INFO, "", "stopping");
    systemd_notify("STOPPING=1");
    for (int i = 0; i < d.endpoints; i++) {
        server_stop_accepting(&d.endpoint[i]->server);
        server_shutdown(&d.endpoint[i]->server, 1001, "server stops");
    }
    loop_at(d.loop, &d.end, now + ms(d.options.close_timeout));
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

/* Token and origins; these may stand in the file given by --config. */
static int reread(struct fault *f)
{
    static struct options last;              /* owns the origins in force */
    struct options fresh, *o = &d.options;
    struct options_list before = o->origins;
    /* To open one again is to wait until somebody writes into it. */
    if (is_pipe(o->config) || is_pipe(o->token_file))
        return fault_set(f, 78, "--%s names a pipe: that is read at the start only",
                         is_pipe(o->config) ? "config" : "token-file");
    if (options_read(&fresh, d.argc, d.argv, f)) {
        /* said already */
    } else if (!same_text(fresh.token_file, o->token_file)) {
        fault_set(f, 78, "--token-file names another file now: that needs a restart");
    } else {
        o->origins = fresh.origins;
        if (!policy_load(&d.policy, o, f)) {
            options_free(&last);
            last = fresh;
            return 0;
        }
        o->origins = before;
    }
    options_free(&fresh);
    return -1;
}

static void reloaded(struct embed_load *l, int index, const struct fault *f)
{
    l->user = NULL;
    if (index < 0) log_say(LOG_ERROR, "", "adapter %s stays as it was: %s", l->name, f->why);
    else log_say(LOG_INFO, "", "adapter %s read again", l->name);
}

/* Adapters are read beside everything else. */
static void reload(void)
{
    static struct embed_load load[OPTIONS_LIST];
    struct fault f;
    if (reread(&f)) log_say(LOG_ERROR, "", "reload failed: %s", f.why);
    else log_say(LOG_INFO, "", "token and origins read again");
    for (int64_t i = 0; i < d.options.adapters.n; i++) {
        const char *s = d.options.adapters.v[i], *eq = strchr(s, '=');
        struct embed_load *l = &load[i];
        if (l->user) {
            log_say(LOG_WARN, "", "adapter %s is still being read: signal again", l->name);
            continue;
        }
        l->user = l;
        l->done = reloaded;
        snprintf(l->name, sizeof l->name, "%.*s", (int)(eq - s), s);
        if (embedder_begin_load(d.embedder, l, eq + 1, &f)) reloaded(l, -1, &f);
    }
}

static void log_stats(void)
{
    static char text[ENDPOINT_STATS];
    for (int i = 0; i < d.endpoints; i++) {
        struct json_out out = json_out(text, sizeof text);
        endpoint_stats(d.endpoint[i], &out);
        log_begin(LOG_INFO, d.endpoint[i]->name, "stats");
        log_json("stats", (struct slice){ text, out.len });
        log_end();
    }
}

static void on_signal(struct watch *w, unsigned events)
{
    struct signalfd_siginfo s;
    (void)events;
    while (read(w->fd, &s, sizeof s) == sizeof s)
        switch (s.ssi_signo) {
        case SIGHUP:  reload(); break;
        case SIGUSR1: log_stats(); break;
        default:      stop(loop_now(d.loop));
        }
}

/* Blocked before the disk helper is forked, which inherits it: a Ctrl-C for the
 * whole group must not take the helper away from us. */
static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM), sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP), sigaddset(&set, SIGUSR1);
    signal(SIGPIPE, SIG_IGN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Work of the turns. */

static void on_usage(struct timer *t, int64_t now)
{
    struct usage u = usage_read(now);
    log_begin(LOG_INFO, "", "memory usage");
    log_num("rss_mb", u.rss_mb, 1);
    log_num("peak_rss_mb", u.peak_rss_mb, 1);
    log_int("buffers", (int64_t)conn_pool_held(d.pool));
    log_num("cpu", u.cpu, 3);
    for (int i = 0; i < d.endpoints; i++)
        log_int(d.endpoint[i]->name, d.endpoint[i]->server.n.open);
    log_end();
    loop_at(d.loop, t, now + USAGE_MS);
}

static void on_watchdog(struct timer *t, int64_t now)
{
    systemd_notify("WATCHDOG=1");
    loop_at(d.loop, t, now + systemd_watchdog_ms());
}

static void on_end(struct timer *t, int64_t now)
{
    (void)t, (void)now;
    d.ended = true;
}

static void on_flush(struct hook *h)
{
    (void)h;
    log_flush();
}

static void on_reap(struct hook *h)
{
    (void)h;
    uint32_t active = 0;
    for (int i = 0; i < d.endpoints; i++) active += d.endpoint[i]->server.n.active;
    bool working = d.encoding.queued || (d.has_memory && memory_busy(&d.memory));
    if (d.stopping && !active && !working) d.ended = true;
}

static void attach(int signals)
{
    d.signals = (struct watch){ .fd = signals, .ready = on_signal };
    loop_watch(d.loop, &d.signals, LOOP_READ);
    d.usage.fire = on_usage;
    d.watchdog.fire = on_watchdog;
    d.end.fire = on_end;
    d.flush.run = on_flush;
    d.reap.run = on_reap;
    loop_at(d.loop, &d.usage, loop_clock() + USAGE_MS);
    if (systemd_watchdog_ms()) loop_at(d.loop, &d.watchdog, loop_clock());
    if (d.has_memory) memory_attach(&d.memory, d.loop);
    loop_on_flush(d.loop, &d.flush);
    loop_on_reap(d.loop, &d.reap);
}

/* Start. */

static int check_host(const struct options *o, struct fault *f)
{
    struct net_address a;
    if (!strcmp(o->host, "localhost")) return 0;
    if (!net_parse(&a, o->host, 0))
        return fault_set(f, o->bad_host, "--host %.100s: want localhost or an address", o->host);
    return net_is_loopback(&a) ? 0 : check_wide(o, "--host", o->host, f);
}

/* $XDG_STATE_HOME/recalld, else ~/.local/state/recalld. */
static int default_data(struct options *o, struct fault *f)
{
    static char path[4096];
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (o->data || (o->mode == RUN && o->only == ONLY_INFERENCE)) return 0;
    if (state && *state == '/') n = snprintf(path, sizeof path, "%s/recalld", state);
    else if (home && *home == '/')
        n = snprintf(path, sizeof path, "%s/.local/state/recalld", home);
    if (n < 0)
        return fault_set(f, 78, "neither --data nor XDG_STATE_HOME nor HOME says "
                         "where memories live");
    if (n > OPTIONS_TEXT)
        return fault_set(f, 78, "XDG_STATE_HOME or HOME is too long: give --data of at most %d "
                         "bytes", OPTIONS_TEXT);
    o->data = path;
    return 0;
}

static int open_all(struct fault *f)
{
    struct options *o = &d.options;
    d.has_memory = o->only != ONLY_INFERENCE;
    d.has_inference = o->only != ONLY_MEMORY;
    if (d.has_memory && memory_open(&d.memory, o, d.embedder, f)) return -1;
    usage_open();
    if (!(d.loop = loop_new())) return fault_set(f, 71, "no loop: %s", strerror(errno));
    d.pool = conn_pool_new(d.loop, (size_t)o->max_reply, (size_t)o->buffer_memory);
    if (!d.pool) return fault_set(f, 71, "out of memory");
    if (d.has_memory) prepare(&d.memory.ep, "memory", "memory-protocol");
    if (d.has_inference) {
        inference_open(&d.inference);
        prepare(&d.inference.ep, "inference", "inference-protocol");
        if (d.has_memory) {
            d.inference.predict = memory_predict;
            d.inference.memory = &d.memory;
        }
    }
    return 0;
}

static int run(int signals, struct fault *f)
{
    struct options *o = &d.options;
    systemd_open();
    if (open_all(f) || listen_all(f)) return -1;
    attach(signals);
    log_say(LOG_INFO, "", "recalld %s model=%s data=%s", RECALLD_VERSION, embedder_name(d.embedder),
            d.has_memory ? o->data : "none");
    log_say(LOG_INFO, "", "buffers and connections take at most %llu bytes",
            (unsigned long long)conn_worst_case(
                (size_t)o->max_reply, (size_t)o->buffer_memory,
                (uint32_t)o->max_connections * (uint32_t)d.endpoints));
    if (sandbox_enter(o, f)) return -1;
    systemd_notify("READY=1");
    log_flush();
    for (int wait_ms = 0; !d.ended; wait_ms = -1)     /* at first not: the start took time */
        if (loop_turn(d.loop, wait_ms)) return fault_set(f, 71, "poll: %s", strerror(errno));
    for (int i = 0; i < d.endpoints; i++) server_free(&d.endpoint[i]->server);
    int bad = d.has_memory ? memory_close(&d.memory, f) : 0;
    if (!bad) log_say(LOG_INFO, "", "stopped");
    log_flush();
    conn_pool_free(d.pool);
    loop_free(d.loop);
    embedder_close(d.embedder);
    return bad;
}

/* What was asked for stands on stdout, or the status of what hindered it. */
static int printed(struct fault *f)
{
    if (!fflush(stdout) && !ferror(stdout)) return 0;
    fault_set(f, 74, "stdout cannot be written: %s", strerror(errno));
    return fail(f);
}

int main(int argc, char **argv)
{
    net_fill_descriptors();
    struct fault f = { 0 };
    struct options *o = &d.options;
    d.argc = argc, d.argv = argv;
    if (options_read(o, argc, argv, &f)) return fail(&f);
    if (o->mode == HELP) { options_help(); return printed(&f); }
    log_open((enum log_level)o->log_level, o->log_json);
    if (o->mode == VERSION) {
        printf("recalld %s\nsandbox: %s\n", RECALLD_VERSION, sandbox_offered());
        return printed(&f);
    }
    if (o->mode == SELFTEST) {
        int bad = sandbox_selftest(o);
        return bad ? bad : printed(&f);
    }
    umask(077);
    signal(SIGXFSZ, SIG_IGN);            /* a limit on files is an error of the write */
    if (check_host(o, &f) || default_data(o, &f) || policy_load(&d.policy, o, &f)) return fail(&f);
    net_raise_descriptors();
    int signals = o->mode == RUN ? block_signals() : 0;
    if (signals < 0) return fail(&(struct fault){ 71, "no signals" });
    if (o->mode == REPAIR) return maintenance_repair(o, &f) ? fail(&f) : printed(&f);
    if (open_embedder(&f)) return fail(&f);
    if (o->mode != RUN) return maintenance_run(o, d.embedder, &f) ? fail(&f) : printed(&f);
    return run(signals, &f) ? fail(&f) : 0;
}
