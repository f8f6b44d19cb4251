/* Connections in memory, in place of the system's calls that the server makes, so that
 * a run costs none: accept4, recv, recvmsg, send, sendmsg, shutdown, and epoll.
 *
 * A pair is a connection: its server's end has a descriptor, its client's end is used
 * by the functions sim_*. Bytes sent wait in a pipe of limited room; what is behind
 * them, an end or a reset, comes when they have been read, as with a stream socket. */
#ifndef SIM_NET_H
#define SIM_NET_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { SIM_PAIRS = 40, SIM_FD = 1 << 20, SIM_TO_CLIENT = 100000, SIM_TO_SERVER = 212992, SIM_LOW = 4096 };

struct sim_pipe { uint8_t *p; size_t cap, from, to; };   /* p[2 * cap], at most cap held */

struct sim_watched { bool on; uint32_t events; void *data; };

static struct sim_pair {
    bool used, pending;             /* pending: not accepted yet */
    bool server, client;            /* this end is open */
    bool server_shut, client_shut;  /* it sends no more */
    bool reset;                     /* closed by the client with bytes unread */
    struct sim_pipe in, out;        /* to the server, to the client */
    struct sim_watched watched;
} sim_pair[SIM_PAIRS];

static struct {
    struct sim_watched door;        /* of the listening socket, descriptor SIM_FD + SIM_PAIRS */
    int    queue[SIM_PAIRS], queued;
    int    top;                     /* pairs from here on were never used */
    size_t piece;                   /* bytes taken by one call of the server at most */
} sim;

static struct sim_pair *sim_of(int fd)
{
    if (fd < SIM_FD || fd >= SIM_FD + SIM_PAIRS || !sim_pair[fd - SIM_FD].server) abort();
    return &sim_pair[fd - SIM_FD];
}

static size_t sim_held(const struct sim_pipe *q) { return q->to - q->from; }

static size_t sim_put(struct sim_pipe *q, const void *p, size_t n)
{
    if (!q->p && !(q->p = malloc(2 * q->cap))) abort();
    if (n > q->cap - sim_held(q)) n = q->cap - sim_held(q);
    if (2 * q->cap - q->to < n) {
        memcpy(q->p, q->p + q->from, sim_held(q));     /* from lies behind the middle */
        q->to -= q->from;
        q->from = 0;
    }
    memcpy(q->p + q->to, p, n);
    q->to += n;
    return n;
}

static size_t sim_get(struct sim_pipe *q, void *p, size_t n)
{
    if (n > sim_held(q)) n = sim_held(q);
    if (!n) return 0;
    memcpy(p, q->p + q->from, n);
    q->from += n;
    if (q->from == q->to) q->from = q->to = 0;
    return n;
}

/* The client's end. */

static int sim_dial(void)
{
    for (int i = 0; i < SIM_PAIRS; i++) {
        struct sim_pair *s = &sim_pair[i];
        if (s->used) continue;
        uint8_t *in = s->in.p, *out = s->out.p;
        *s = (struct sim_pair){ .used = true, .pending = true, .server = true, .client = true,
                                .in = { in, SIM_TO_SERVER, 0, 0 }, .out = { out, SIM_TO_CLIENT, 0, 0 } };
        sim.queue[sim.queued++] = i;
        if (i >= sim.top) sim.top = i + 1;
        return i;
    }
    return -1;
}

static void sim_say(int i, const void *p, size_t n)
{
    struct sim_pair *s = &sim_pair[i];
    if (s->server && !s->client_shut) sim_put(&s->in, p, n);
}

static size_t sim_hear(int i, void *p, size_t n) { return sim_get(&sim_pair[i].out, p, n); }

static void sim_hang_up(int i)
{
    struct sim_pair *s = &sim_pair[i];
    s->reset = sim_held(&s->out) > 0;
    s->client = false;
    s->client_shut = true;
    s->used = s->server;
}

/* Connections whose server's end is open. */
static unsigned sim_open(void)
{
    unsigned n = 0;
    for (int i = 0; i < sim.top; i++) n += sim_pair[i].used && sim_pair[i].server;
    return n;
}

/* The server's end. */

int accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
    struct sockaddr_storage *a = (struct sockaddr_storage *)(void *)from;
    (void)fd; (void)len; (void)flags;
    if (!sim.queued) { errno = EAGAIN; return -1; }
    int i = sim.queue[0];
    memmove(sim.queue, sim.queue + 1, (size_t)--sim.queued * sizeof sim.queue[0]);
    sim_pair[i].pending = false;
    a->ss_family = AF_UNIX;
    return SIM_FD + i;
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
    struct sim_pair *s = sim_of(fd);
    size_t got = 0;
    (void)flags;
    for (size_t i = 0; i < m->msg_iovlen && got < sim.piece; i++) {
        const struct iovec *v = &m->msg_iov[i];
        size_t most = sim.piece - got;
        got += sim_get(&s->in, v->iov_base, v->iov_len < most ? v->iov_len : most);
    }
    if (got) return (ssize_t)got;
    if (s->client_shut && !s->reset) return 0;
    errno = s->reset ? ECONNRESET : EAGAIN;
    s->reset = false;
    return -1;
}

ssize_t recv(int fd, void *p, size_t n, int flags)
{
    struct iovec v = { p, n };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    return recvmsg(fd, &m, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    struct sim_pair *s = sim_of(fd);
    size_t sent = 0;
    if (!(flags & MSG_NOSIGNAL) || s->server_shut) abort();
    if (!s->client) { errno = EPIPE; return -1; }
    for (size_t i = 0; i < m->msg_iovlen && sent < sim.piece; i++) {
        const struct iovec *v = &m->msg_iov[i];
        size_t most = sim.piece - sent;
        sent += sim_put(&s->out, v->iov_base, v->iov_len < most ? v->iov_len : most);
    }
    if (sent) return (ssize_t)sent;
    errno = EAGAIN;
    return -1;
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    struct iovec v = { (void *)(uintptr_t)p, n };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    return sendmsg(fd, &m, flags);
}

int shutdown(int fd, int how)
{
    if (how != SHUT_WR) abort();
    sim_of(fd)->server_shut = true;
    return 0;
}

static int sim_close(int fd)
{
    if (fd == SIM_FD + SIM_PAIRS) {       /* nobody accepts who waits there */
        sim.door.on = false;
        while (sim.queued) sim_close(SIM_FD + sim.queue[--sim.queued]);
        return 0;
    }
    struct sim_pair *s = sim_of(fd);
    s->server = s->watched.on = false;
    s->used = s->client;
    return 0;
}

/* What is watched: one set. */

int epoll_create1(int flags) { (void)flags; return SIM_FD - 1; }

int epoll_ctl(int set, int op, int fd, struct epoll_event *ev)
{
    struct sim_watched *w = fd == SIM_FD + SIM_PAIRS ? &sim.door : &sim_of(fd)->watched;
    (void)set;
    if (w->on != (op != EPOLL_CTL_ADD)) abort();
    w->on = op != EPOLL_CTL_DEL;
    if (!w->on) return 0;
    w->events = ev->events;
    w->data = ev->data.ptr;
    return 0;
}

static uint32_t sim_events(const struct sim_pair *s)
{
    uint32_t e = 0;
    if (sim_held(&s->in) || s->client_shut) e |= EPOLLIN;
    if (!s->client || s->out.cap - sim_held(&s->out) >= SIM_LOW) e |= EPOLLOUT;
    if (s->client_shut) e |= EPOLLRDHUP;
    e &= s->watched.events;
    if (!s->client || (s->client_shut && s->server_shut)) e |= EPOLLHUP;
    if (s->reset) e |= EPOLLERR;
    return e;
}

int epoll_wait(int set, struct epoll_event *got, int most, int ms)
{
    int n = 0;
    (void)set; (void)ms;
    if (sim.door.on && sim.door.events & EPOLLIN && sim.queued)
        got[n++] = (struct epoll_event){ .events = EPOLLIN, .data.ptr = sim.door.data };
    for (int i = 0; i < sim.top && n < most; i++) {
        const struct sim_pair *s = &sim_pair[i];
        if (!s->used || !s->watched.on) continue;
        uint32_t e = sim_events(s);
        if (e) got[n++] = (struct epoll_event){ .events = e, .data.ptr = s->watched.data };
    }
    return n;
}

#endif
