#include "servers/loop_set.h"

#ifdef LOOP_EPOLL

#include <unistd.h>

int set_open(struct watch_set *s)
{
    s->fd = epoll_create1(EPOLL_CLOEXEC);
    return s->fd < 0 ? -1 : 0;
}

void set_free(struct watch_set *s)
{
    if (s->fd >= 0) close(s->fd);
}

int set_watch(struct watch_set *s, struct watch *w, unsigned events)
{
    struct epoll_event ev = { .data.ptr = w };
    if (events & LOOP_READ) ev.events |= EPOLLIN;
    if (events & LOOP_WRITE) ev.events |= EPOLLOUT;
    if (events & LOOP_END) ev.events |= EPOLLRDHUP;
    if (epoll_ctl(s->fd, w->on ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, w->fd, &ev)) return -1;
    w->on = 1;
    w->events = events & 15u;
    return 0;
}

void set_unwatch(struct watch_set *s, struct watch *w)
{
    epoll_ctl(s->fd, EPOLL_CTL_DEL, w->fd, NULL);
    w->on = 0;
}

/* The kernel takes out what nobody has open any more. */
void set_closing(struct watch_set *s, struct watch *w)
{
    (void)s;
    w->on = 0;
}

int set_wait(struct watch_set *s, int timeout_ms)
{
    return epoll_wait(s->fd, s->got, LOOP_BATCH, timeout_ms);
}

void set_run(struct watch_set *s, int ready)
{
    for (int i = 0; i < ready; i++) {
        struct watch *w = s->got[i].data.ptr;
        unsigned got = s->got[i].events;
        unsigned events = (got & EPOLLIN ? LOOP_READ : 0u) | (got & EPOLLOUT ? LOOP_WRITE : 0u) |
                          (got & EPOLLRDHUP ? LOOP_END : 0u) |
                          (got & (EPOLLERR | EPOLLHUP) ? LOOP_HUP : 0u);
        if (w->on) w->ready(w, events);
    }
}

#else
typedef int loop_epoll_is_not_built;   /* ISO C wants a declaration */
#endif
