// uses: servers/conn.c servers/conn_http.c servers/conn_out.c servers/conn_pool.c servers/server.c servers/net.c servers/loop.c servers/loop_poll.c servers/loop_epoll.c ws.c ws_handshake.c http.c sha1.c base64.c utf8.c number.c
// flags: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=mmap,--wrap=recv,--wrap=recvmsg,--wrap=send,--wrap=sendmsg,--wrap=accept4,--wrap=epoll_ctl,--wrap=epoll_wait,--wrap=poll
/* Every system call and allocation of the server fails, or falls short, at every
 * place of a session, once and from then on. Whatever happens to the clients:
 * nothing crashes, nothing leaks, an honest echo is whole or missing, never
 * wrong, and a server that is well again serves. */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "conn_rig.h"
#include "test.h"

enum kind { MALLOC, CALLOC, REALLOC, MMAP, RECV, RECVMSG, SEND, SENDMSG, ACCEPT, CTL, WAIT, POLL, KINDS };
enum how { FAILS, FALLS_SHORT, INTERRUPTED, HOWS };

static const char *const kinds[] = { "malloc", "calloc", "realloc", "mmap", "recv", "recvmsg", "send",
                                     "sendmsg", "accept4", "epoll_ctl", "epoll_wait", "poll" };

static struct {
    bool      armed, for_ever;
    enum kind kind;
    enum how  how;
    unsigned  at, calls;
} fault;

/* Is it this call's turn? */
static bool hit(enum kind kind)
{
    if (!fault.armed || fault.kind != kind) return false;
    fault.calls++;
    return fault.for_ever ? fault.calls >= fault.at : fault.calls == fault.at;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_mmap(void *p, size_t n, int prot, int flags, int fd, off_t at);
ssize_t __real_recv(int fd, void *p, size_t n, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *m, int flags);
ssize_t __real_send(int fd, const void *p, size_t n, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
int __real_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags);
int __real_epoll_ctl(int epoll, int op, int fd, struct epoll_event *ev);
int __real_epoll_wait(int epoll, struct epoll_event *ev, int n, int ms);
int __real_poll(struct pollfd *fds, nfds_t n, int ms);

void *__wrap_malloc(size_t n) { return hit(MALLOC) ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return hit(CALLOC) ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return hit(REALLOC) ? NULL : __real_realloc(p, n); }

void *__wrap_mmap(void *p, size_t n, int prot, int flags, int fd, off_t at)
{
    return hit(MMAP) ? MAP_FAILED : __real_mmap(p, n, prot, flags, fd, at);
}

static int give_up(int error)
{
    errno = fault.how == INTERRUPTED && !fault.for_ever ? EINTR : error;
    return -1;
}

ssize_t __wrap_recv(int fd, void *p, size_t n, int flags)
{
    if (!hit(RECV)) return __real_recv(fd, p, n, flags);
    return fault.how == FALLS_SHORT ? __real_recv(fd, p, n > 3 ? 3 : n, flags) : give_up(ECONNRESET);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
    if (!hit(RECVMSG)) return __real_recvmsg(fd, m, flags);
    return fault.how == FALLS_SHORT ? __real_recv(fd, m->msg_iov->iov_base, 1, flags) : give_up(ETIMEDOUT);
}

ssize_t __wrap_send(int fd, const void *p, size_t n, int flags)
{
    if (!hit(SEND)) return __real_send(fd, p, n, flags);
    if (fault.how == FALLS_SHORT && n > 1) return __real_send(fd, p, n / 2, flags);
    return give_up(fault.how == FALLS_SHORT ? EAGAIN : EPIPE);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
    if (!hit(SENDMSG)) return __real_sendmsg(fd, m, flags);
    if (fault.how == FALLS_SHORT) return __real_send(fd, m->msg_iov->iov_base, 1, flags);
    return give_up(ECONNRESET);
}

int __wrap_accept4(int fd, struct sockaddr *a, socklen_t *len, int flags)
{
    static const int errors[] = { EMFILE, ECONNABORTED, EINTR };
    if (!hit(ACCEPT)) return __real_accept4(fd, a, len, flags);
    errno = errors[fault.for_ever ? 0 : fault.how];
    return -1;
}

int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *ev)
{
    return hit(CTL) && op != EPOLL_CTL_DEL ? (errno = ENOMEM, -1) : __real_epoll_ctl(epoll, op, fd, ev);
}

int __wrap_epoll_wait(int epoll, struct epoll_event *ev, int n, int ms)
{
    return hit(WAIT) ? give_up(ENOMEM) : __real_epoll_wait(epoll, ev, n, ms);
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int ms)
{
    return hit(POLL) ? give_up(ENOMEM) : __real_poll(fds, n, ms);
}

/* One turn in which things go wrong. */
static void turn(struct rig *r)
{
    fault.armed = true;
    loop_turn(r->loop, 0);
    fault.armed = false;
}

static void write_all(struct rig *r, int fd, const void *p, size_t n)
{
    for (int tries = 0; n && tries < 30; tries++) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent > 0) {
            p = (const char *)p + sent;
            n -= (size_t)sent;
        }
        turn(r);
    }
}

/* What came must be the beginning of what an unharmed server sends. */
static void check_prefix(struct rig *r, int fd, const struct bytes *want, const char *what)
{
    for (int i = 0; i < 12; i++) {
        turn(r);
        rig_read_now(r, fd);
    }
    size_t n = r->n < want->n ? r->n : want->n;
    cr_assert(!n || !memcmp(r->got, want->p, n), "%s after call %u of %s: other bytes", what, fault.at,
              kinds[fault.kind]);
}

static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/* A client that upgrades and sends messages of so many bytes, half of the last one late. */
static void talk(struct rig *r, size_t small, size_t large)
{
    struct bytes wire = { 0 }, want = { 0 };
    uint8_t *payload = calloc(1, large + small + 1);
    int fd = rig_dial(r);
    if (fd < 0) { free(payload); return; }
    bytes_add(&wire, UPGRADE, sizeof UPGRADE - 1);
    bytes_add(&want, answer, sizeof answer - 1);
    for (int i = 0; i < 3; i++) {
        rig_put_frame(&wire, 0x82, payload, i < 2 ? small : large);
        wire_frame(&want, 0x82, false, 0, i < 2 ? small : large, payload, i < 2 ? small : large);
    }
    rig_put_frame(&wire, 0x88, "\x03\xe8", 2);
    wire_frame(&want, 0x88, false, 0, 2, (const uint8_t *)"\x03\xe8", 2);
    write_all(r, fd, wire.p, 20);
    write_all(r, fd, wire.p + 20, wire.n / 2);
    write_all(r, fd, wire.p + 20 + wire.n / 2, wire.n - 20 - wire.n / 2);
    check_prefix(r, fd, &want, "talk");
    bytes_free(&wire);
    bytes_free(&want);
    free(payload);
}

static void session(struct rig *r)
{
    struct bytes refusal = { 0 };
    bytes_add(&refusal, "HTTP/1.1 404 Not Found\r\n", 24);
    talk(r, 50, 1000);
    talk(r, 5000, 400000);
    int fd = rig_dial(r);
    write_all(r, fd, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 28);
    check_prefix(r, fd, &refusal, "refusal");
    bytes_free(&refusal);
}

/* An unharmed client at the end; a server that never accepts again is no server. */
static void check_well(struct rig *r, bool accepting)
{
    fault.kind = KINDS;
    rig_turn(r, accepting ? 60 : 2);          /* longer than it pauses */
    rig_echo_one(r, rig_upgrade(r), 300, 1000);
}

/* How many calls of that kind a session makes. */
static unsigned session_with(enum kind kind, enum how how, unsigned at, bool for_ever)
{
    struct rig r;
    fault.kind = KINDS;
    rig_open(&r, &rig_echo);
    fault.kind = kind;
    fault.how = how;
    fault.at = at;
    fault.calls = 0;
    fault.for_ever = for_ever;
    session(&r);
    unsigned calls = fault.calls;
    check_well(&r, kind == ACCEPT);
    rig_close(&r);
    return calls;
}

static bool is_used(enum kind kind)
{
    return kind == CTL || kind == WAIT ? ON_EPOLL : kind != POLL || !ON_EPOLL;
}

static void every_place(enum kind kind)
{
    for (int how = 0; how < HOWS; how++) {
        bool more_ways = kind >= RECV && kind <= ACCEPT;
        if (how && !more_ways) break;
        for (int for_ever = 0; for_ever < 2; for_ever++) {
            unsigned calls = 1;
            for (unsigned at = 1; at <= calls && at < 60; at++) {
                unsigned n = session_with(kind, (enum how)how, at, for_ever);
                if (at == 1 && !for_ever) cr_assert(n || !is_used(kind), "no call of %s", kinds[kind]);
                if (n > calls) calls = n;
            }
        }
    }
}

Test(server_faults, malloc_may_fail_anywhere)     { every_place(MALLOC); }
Test(server_faults, calloc_may_fail_anywhere)     { every_place(CALLOC); }
Test(server_faults, realloc_may_fail_anywhere)    { every_place(REALLOC); }
Test(server_faults, mmap_may_fail_anywhere)       { every_place(MMAP); }
Test(server_faults, recv_may_fail_anywhere)       { every_place(RECV); }
Test(server_faults, recvmsg_may_fail_anywhere)    { every_place(RECVMSG); }
Test(server_faults, send_may_fail_anywhere)       { every_place(SEND); }
Test(server_faults, sendmsg_may_fail_anywhere)    { every_place(SENDMSG); }
Test(server_faults, accept_may_fail_anywhere)     { every_place(ACCEPT); }
Test(server_faults, epoll_ctl_may_fail_anywhere)  { every_place(CTL); }
Test(server_faults, epoll_wait_may_fail_anywhere) { every_place(WAIT); }
Test(server_faults, poll_may_fail_anywhere)       { every_place(POLL); }

/* Start: nothing is left of a start that fails. */
Test(server_faults, start_fails_cleanly)
{
    static const enum kind those[] = { MALLOC, CALLOC, REALLOC, MMAP, CTL };
    for (size_t k = 0; k < sizeof those / sizeof *those; k++) {
        for (unsigned at = 1; at < 6; at++) {
            fault.kind = those[k];
            fault.how = FAILS;
            fault.at = at;
            fault.calls = 0;
            fault.for_ever = false;
            fault.armed = true;
            struct loop *loop = loop_new();
            struct conn_pool *pool = loop ? conn_pool_new(loop, 1000, 1000000) : NULL;
            fault.armed = false;
            cr_assert(pool || fault.calls >= at, "failed without a fault");
            conn_pool_free(pool);
            loop_free(loop);
        }
    }
}
