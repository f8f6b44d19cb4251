/* The set of watched descriptors under loop.c, made twice: on epoll, which costs the
 * same beside ten thousand idle connections as beside none, and on poll(), portable. */
#ifndef SERVERS_LOOP_SET_H
#define SERVERS_LOOP_SET_H

#include "servers/loop.h"

#if defined(__linux__) && !defined(LOOP_POLL)
#define LOOP_EPOLL 1
#define LOOP_BATCH 256            /* watches served in a turn; the rest comes first in the next */

#include <sys/epoll.h>

struct watch_set {
    int fd;
    struct epoll_event got[LOOP_BATCH];
};
#else
#include <poll.h>

struct watch_set {
    struct pollfd *fd;            /* [cap], n used; fd -1: taken out, a hole until the next wait */
    struct watch **watch;         /* [cap], beside it */
    size_t n, cap, holes;
};
#endif

int  set_open(struct watch_set *s);
void set_free(struct watch_set *s);
int  set_watch(struct watch_set *s, struct watch *w, unsigned events);
void set_unwatch(struct watch_set *s, struct watch *w);
void set_closing(struct watch_set *s, struct watch *w);   /* the same, w->fd being closed next */
int  set_wait(struct watch_set *s, int timeout_ms);       /* how many are ready, or -1 with errno */
void set_run(struct watch_set *s, int ready);             /* call ready() of those */

#endif
