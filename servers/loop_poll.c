#include "servers/loop_set.h"

#ifndef LOOP_EPOLL

#include <errno.h>
#include <stdlib.h>

#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

static short poll_events(unsigned events)
{
    return (short)((events & LOOP_READ ? POLLIN : 0) | (events & LOOP_WRITE ? POLLOUT : 0) |
                   (events & LOOP_END ? POLLRDHUP : 0));
}

int set_open(struct watch_set *s)
{
    (void)s;                    /* zeroed: empty */
    return 0;
}

static int grow(struct watch_set *s)
{
    size_t cap = s->cap ? 2 * s->cap : 16;
    struct pollfd *fd = realloc(s->fd, cap * sizeof *fd);
    if (!fd) return -1;
    s->fd = fd;
    struct watch **watch = realloc(s->watch, cap * sizeof(struct watch *));
    if (!watch) return -1;
    s->watch = watch;
    s->cap = cap;
    return 0;
}

int set_watch(struct watch_set *s, struct watch *w, unsigned events)
{
    if (!w->on) {
        if (s->n == s->cap && grow(s)) {
            errno = ENOMEM;
            return -1;
        }
        s->fd[s->n] = (struct pollfd){ .fd = w->fd };
        s->watch[s->n] = w;
        w->at = (uint32_t)s->n++ & 0x7ffffffu;
        w->on = 1;
    }
    s->fd[w->at].events = poll_events(events);
    w->events = events & 15u;
    return 0;
}

/* The place stays, so that a walk in progress meets every other watch once. */
void set_unwatch(struct watch_set *s, struct watch *w)
{
    s->fd[w->at].fd = -1;
    s->fd[w->at].revents = 0;
    s->watch[w->at] = NULL;
    s->holes++;
    w->on = 0;
}

void set_closing(struct watch_set *s, struct watch *w) { set_unwatch(s, w); }

static void close_holes(struct watch_set *s)
{
    for (size_t i = 0; s->holes; ) {
        if (s->watch[i]) {
            i++;
            continue;
        }
        s->holes--;
        if (i == --s->n) continue;
        s->fd[i] = s->fd[s->n];
        s->watch[i] = s->watch[s->n];
        if (s->watch[i]) s->watch[i]->at = (uint32_t)i & 0x7ffffffu;
    }
}

int set_wait(struct watch_set *s, int timeout_ms)
{
    if (s->holes) close_holes(s);
    return poll(s->fd, (nfds_t)s->n, timeout_ms);
}

void set_run(struct watch_set *s, int ready)
{
    size_t n = s->n;
    for (size_t i = 0; ready > 0 && i < n; i++) {
        int got = s->fd[i].revents;
        if (!got) continue;
        ready--;
        struct watch *w = s->watch[i];
        unsigned events = (got & POLLIN ? LOOP_READ : 0u) | (got & POLLOUT ? LOOP_WRITE : 0u) |
                          (got & POLLRDHUP ? LOOP_END : 0u) |
                          (got & (POLLERR | POLLHUP | POLLNVAL) ? LOOP_HUP : 0u);
        if (w) w->ready(w, events);
    }
}

void set_free(struct watch_set *s)
{
    free(s->fd);
    free(s->watch);
}

#else
typedef int loop_poll_is_not_built;    /* ISO C wants a declaration */
#endif
