/* The loop that everything runs on: descriptors, deadlines and jobs, in one
 * thread around one wait: epoll_wait() on Linux, else poll(). `make LOOP=poll` chooses.
 *
 * A turn: wait, clock, reads and writes, deadlines, flush hooks, slices
 * of jobs while less than LOOP_SLICE_US of the turn are used, flush hooks
 * again, reap hooks (which free what was closed), clock. So a byte that lies in the
 * kernel's buffer is read before a deadline that it would have moved.
 *
 * The structs below are embedded in their owners; the loop keeps pointers, so
 * they stay where they are, and their memory lives until the end of the turn
 * in which they were taken out (a reap hook is the place to free it).
 * Times are milliseconds of the monotonic clock. */
#ifndef SERVERS_LOOP_H
#define SERVERS_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOP_SLICE_US 2000        /* of a turn may be used before jobs give way */
#define LOOP_NEVER    INT64_MAX

/* HUP: error or hang-up, reported always. END: the peer sends no more, for those that are not
 * watched for READ, which would tell (never reported where the system knows no POLLRDHUP). */
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HUP = 4, LOOP_END = 8 };

/* The struct that one of these is embedded in. */
#define CONTAINER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))

struct watch {
    int      fd;
    uint32_t at     : 27;         /* the loop's own */
    uint32_t events : 4;          /* watched for (the loop's own) */
    uint32_t on     : 1;          /* in the set (the loop's own) */
    void   (*ready)(struct watch *w, unsigned events);
};

struct timer {
    void   (*fire)(struct timer *t, int64_t now);  /* disarmed before the call */
    uint32_t slot;                /* the loop's own; 0 when not armed */
    uint32_t tag;                 /* the owner's, for whatever it likes: the room is there */
};

struct job {
    bool      (*step)(struct job *job);  /* one granule (0.2 to 1 ms); true while there is more */
    struct job *next;             /* the loop's own */
    bool        queued;
};

struct hook {
    void       (*run)(struct hook *h);
    struct hook *next;            /* the loop's own */
};

struct loop;

/* NULL when memory or descriptors are lacking (errno says which). */
struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* Watch w->fd for events (any of READ, WRITE, END, or none), or change what it is
 * watched for. 0, or -1 with errno. ready() is called with what came, HUP too. */
int  loop_watch(struct loop *loop, struct watch *w, unsigned events);
void loop_unwatch(struct loop *loop, struct watch *w);

/* Close w->fd, which no other process holds, and take w out without a call for that. */
void loop_close(struct loop *loop, struct watch *w);

/* Arm t for exactly `at` (LOOP_NEVER: disarm). 0, or -1 when memory is lacking
 * (only where it was not armed). */
int  loop_at(struct loop *loop, struct timer *t, int64_t at);

/* Arm t no later than `at`: a deadline that moves later is left alone, and its
 * owner arms it anew when it fires too early. Cheap; same result. */
int  loop_by(struct loop *loop, struct timer *t, int64_t at);

/* Queue a job behind the others; they take turns, a granule each. */
void loop_job(struct loop *loop, struct job *job);

/* Run h->run in every turn: flush hooks after events, deadlines and jobs
 * (whatever waits to be sent or written leaves now), reap hooks at its end. */
void loop_on_flush(struct loop *loop, struct hook *h);
void loop_on_reap(struct loop *loop, struct hook *h);

int64_t loop_now(const struct loop *loop);   /* of this turn */
int64_t loop_began_us(const struct loop *loop);   /* this turn, by loop_clock_us() */
int64_t loop_clock(void);                    /* the clock itself */
int64_t loop_clock_us(void);                 /* the same, finer */

/* One turn, waiting at most max_wait_ms (-1: as long as nothing is due, counted from the end of
 * the last turn). 0; -1 with errno when the wait fails for good. */
int  loop_turn(struct loop *loop, int max_wait_ms);

/* How long turns kept others waiting, from wait to wait: p99 of about the
 * last 65,000 turns, max since the start. */
struct loop_lag { double p99_ms, max_ms; uint64_t turns; };
struct loop_lag loop_lag(const struct loop *loop);

#endif
