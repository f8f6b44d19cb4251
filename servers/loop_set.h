/* The two sets of descriptors under loop.c: an array for poll(), portable, and
 * an epoll set for the many. Without epoll the array holds everything. */
#ifndef SERVERS_LOOP_SET_H
#define SERVERS_LOOP_SET_H

#include <poll.h>

#include "servers/loop.h"

struct poll_set {
    struct pollfd *fd;            /* [cap], n used; fd -1: taken out, a hole until the next wait */
    struct watch **watch;         /* [cap], beside it */
    size_t n, cap, holes;
};

int  poll_set_watch(struct poll_set *s, struct watch *w, unsigned events);
void poll_set_unwatch(struct poll_set *s, struct watch *w);
int  poll_set_wait(struct poll_set *s, int timeout_ms);   /* poll(): how many are ready */
void poll_set_run(struct poll_set *s, int ready);         /* call ready() of those */
void poll_set_free(struct poll_set *s);

#if defined(__linux__) && !defined(LOOP_POLL)
#define LOOP_HAS_EPOLL 1

/* Itself a watch of the poll set. */
struct epoll_set {
    struct watch top;             /* fd: of the epoll set */
};

int  epoll_set_open(struct epoll_set *s);
int  epoll_set_watch(struct epoll_set *s, struct watch *w, unsigned events);
void epoll_set_unwatch(struct epoll_set *s, struct watch *w);
void epoll_set_free(struct epoll_set *s);
#endif

#endif
