#include "servers/loop_set.h"

#ifdef LOOP_HAS_EPOLL

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH 256   /* connections served in a turn; the rest comes first in the next */

static void run(struct watch *top, unsigned events)
{
    (void)events;
    struct epoll_event got[BATCH];
    int n = epoll_wait(top->fd, got, BATCH, 0);
    for (int i = 0; i < n; i++) {
        struct watch *w = got[i].data.ptr;
        unsigned ev = (got[i].events & EPOLLIN ? LOOP_READ : 0u) |
                      (got[i].events & EPOLLOUT ? LOOP_WRITE : 0u) |
                      (got[i].events & EPOLLRDHUP ? LOOP_END : 0u) |
                      (got[i].events & (EPOLLERR | EPOLLHUP) ? LOOP_HUP : 0u);
        if (w->on) w->ready(w, ev);
    }
}

int epoll_set_open(struct epoll_set *s)
{
    s->top = (struct watch){ .fd = epoll_create1(EPOLL_CLOEXEC), .ready = run };
    return s->top.fd < 0 ? -1 : 0;
}

int epoll_set_watch(struct epoll_set *s, struct watch *w, unsigned events)
{
    struct epoll_event ev = { .data.ptr = w };
    if (events & LOOP_READ) ev.events |= EPOLLIN;
    if (events & LOOP_WRITE) ev.events |= EPOLLOUT;
    if (events & LOOP_END) ev.events |= EPOLLRDHUP;
    if (epoll_ctl(s->top.fd, w->on ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &ev)) return -1;
    w->on = 1;
    w->events = events & 15u;
    return 0;
}

void epoll_set_unwatch(struct epoll_set *s, struct watch *w)
{
    epoll_ctl(s->top.fd, EPOLL_CTL_DEL, w->fd, NULL);
    w->on = 0;
}

void epoll_set_free(struct epoll_set *s)
{
    if (s->top.fd >= 0) close(s->top.fd);
}

#else
typedef int loop_epoll_is_not_built;   /* ISO C wants a declaration */
#endif
