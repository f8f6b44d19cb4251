/* The smallest server on this loop: it sends back what it gets. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "number.h"
#include "servers/conn.h"

#define DEFAULT_PORT   8080
#define BUFFER_MEMORY  67108864
#define SPARE_FDS      16      /* descriptors that are not connections */

enum { EXIT_USAGE = 64, EXIT_BUSY = 69, EXIT_SYSTEM = 71 };

static const char usage[] =
    "usage: echo [--port N] [--max-message BYTES] [--max-connections N]\n"
    "Echoes WebSocket messages on ws://localhost:N (default 8080; 0 takes any free port).\n";

struct app {
    struct server server;
    struct watch  signals;
    int           told;         /* signals so far */
};

static void on_message(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    conn_send(c, op, p, n);
}

static const struct server_ops ops = { .message = on_message };

/* First signal: say goodbye. Second: leave. */
static void on_signal(struct watch *w, unsigned events)
{
    struct app *app = CONTAINER(struct app, signals, w);
    struct signalfd_siginfo info;
    (void)events;
    if (read(w->fd, &info, sizeof info) != sizeof info) return;
    if (app->told++) return;
    server_stop_accepting(&app->server);
    server_shutdown(&app->server, 1001, "server is going down");
}

static int watch_signals(struct app *app)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    app->signals = (struct watch){ .fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC),
                                   .ready = on_signal };
    if (app->signals.fd < 0) return -1;
    return loop_watch(app->server.loop, &app->signals, LOOP_READ);
}

/* Formatted printing would be a sixth of the static binary. */
static void say(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0) errno = 0;    /* nobody listens */
}

#ifndef __GLIBC__
/* musl's own prints with fprintf(), which nothing else here wants. */
_Noreturn void __assert_fail(const char *what, const char *file, int line, const char *function)
{
    const char *const parts[] = { "echo: ", file, ": ", function, ": ", what, " does not hold\n" };
    (void)line;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) say(2, parts[i]);
    abort();
}
#endif

static void say_number(int fd, unsigned v)
{
    char digits[NUMBER_ROOM];
    digits[number_put_int(digits, v)] = '\0';
    say(fd, digits);
}

static int fail(int status, const char *what, const char *advice)
{
    const char *const parts[] = { "echo: ", what, ": ", advice, "\n" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) say(2, parts[i]);
    return status;
}

/* The number after a flag: 0..most, or -1. */
static int64_t number(const char *text, int64_t most)
{
    int64_t v = 0;
    if (!text || !*text) return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || v > (INT64_MAX - 9) / 10) return -1;
        v = v * 10 + (*text - '0');
    }
    return v > most ? -1 : v;
}

static int read_flags(int argc, char **argv, struct server *s, unsigned *port)
{
    for (int i = 1; i < argc; i += 2) {
        const char *flag = argv[i], *value = argv[i + 1];
        int64_t v = -1;
        if (!strcmp(flag, "--help")) {
            say(1, usage);
            exit(0);
        }
        if (!strcmp(flag, "--port")) {
            if ((v = number(value, 65535)) >= 0) *port = (unsigned)v;
        } else if (!strcmp(flag, "--max-message")) {
            if ((v = number(value, INT64_MAX)) >= 0) s->ws.max_message = (uint64_t)v;
        } else if (!strcmp(flag, "--max-connections")) {
            if ((v = number(value, 1 << 24)) >= 0) s->max_connections = (uint32_t)v;
        } else {
            say(2, usage);
            return fail(EXIT_USAGE, flag, "unknown flag");
        }
        if (v < 0) return fail(EXIT_USAGE, flag, "needs a number, see --help");
    }
    return 0;
}

static int serve(struct app *app, unsigned port)
{
    struct net_listeners l;
    if (net_listen(&l, "localhost", port, port)) {
        if (errno == EADDRINUSE) {
            say(2, "echo: port ");
            say_number(2, port);
            say(2, " is busy: choose another with --port\n");
            return EXIT_BUSY;
        }
        return fail(EXIT_SYSTEM, "cannot listen on localhost", errno == EACCES
                    ? "not allowed on this port: choose one above 1023" : "is the network up?");
    }
    if (watch_signals(app) || server_listen(&app->server, &l))
        return fail(EXIT_SYSTEM, "cannot start", "out of memory or descriptors");
    say(1, "listening on localhost:");
    say_number(1, l.port);
    say(1, "\n");
    while (!app->told || (app->told == 1 && app->server.n.active))
        if (loop_turn(app->server.loop, -1)) return fail(EXIT_SYSTEM, "poll", "out of memory");
    return 0;
}

int main(int argc, char **argv)
{
    net_fill_descriptors();
    signal(SIGPIPE, SIG_IGN);
    unsigned port = DEFAULT_PORT, fds = net_raise_descriptors();
    struct app app = { .server = {
        .ops = &ops,
        .handshake_timeout_ms = 10000,
        .max_connections = fds > 2 * SPARE_FDS ? fds - SPARE_FDS : SPARE_FDS,
        .ws = { .max_message = 16777216, .ping_interval_ms = 20000, .ping_timeout_ms = 20000,
                .close_timeout_ms = 10000, .message_timeout_ms = 60000 },
    } };
    int status = read_flags(argc, argv, &app.server, &port);
    if (status) return status;
    app.server.loop = loop_new();
    app.server.pool = app.server.loop ? conn_pool_new(app.server.loop, 0, BUFFER_MEMORY) : NULL;
    if (!app.server.pool) return fail(EXIT_SYSTEM, "cannot start", "out of memory or descriptors");
    status = serve(&app, port);
    server_free(&app.server);
    conn_pool_free(app.server.pool);
    loop_free(app.server.loop);
    return status;
}
