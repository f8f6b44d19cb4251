#include "servers/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "servers/loop_set.h"

#define LAG_STEPS 4                       /* buckets of the lag for each doubling */
#define LAG_BUCKETS (32 * LAG_STEPS)
#define LAG_WINDOW 65536                  /* turns after which older ones count half */

struct due {
    int64_t       at;
    struct timer *timer;
};

struct loop {
    struct watch_set set;
    struct due *due;                      /* [due_cap], due_n used, in no order */
    uint32_t    due_n, due_cap;
    int64_t     earliest;                 /* no deadline is before it */
    int64_t     now;
    int64_t     began_us;                 /* when this turn's wait was over */
    int64_t     took_us;                  /* from there to the reaping */
    struct job *job, **job_end;
    struct hook *flush, *reap;
    uint64_t    turns;
    int64_t     lag_max_us;
    uint32_t    lag[LAG_BUCKETS], lag_n;
};

int64_t loop_clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t loop_clock(void)
{
    return loop_clock_us() / 1000;
}

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop) return NULL;
    loop->earliest = LOOP_NEVER;
    loop->job_end = &loop->job;
    loop->began_us = loop_clock_us();
    loop->now = loop->began_us / 1000;
    if (!set_open(&loop->set)) return loop;
    free(loop);
    return NULL;
}

void loop_free(struct loop *loop)
{
    if (!loop) return;
    set_free(&loop->set);
    free(loop->due);
    free(loop);
}

int loop_watch(struct loop *loop, struct watch *w, unsigned events)
{
    return w->on && w->events == events ? 0 : set_watch(&loop->set, w, events);
}

void loop_unwatch(struct loop *loop, struct watch *w)
{
    if (w->on) set_unwatch(&loop->set, w);
}

void loop_close(struct loop *loop, struct watch *w)
{
    if (w->on) set_closing(&loop->set, w);
    close(w->fd);
    w->fd = -1;
}

static void disarm(struct loop *loop, struct timer *t)
{
    if (!t->slot) return;
    struct due *d = &loop->due[t->slot - 1];
    *d = loop->due[--loop->due_n];
    d->timer->slot = t->slot;
    t->slot = 0;
}

int loop_at(struct loop *loop, struct timer *t, int64_t at)
{
    if (at == LOOP_NEVER) {
        disarm(loop, t);
        return 0;
    }
    if (!t->slot) {
        if (loop->due_n == loop->due_cap) {
            uint32_t cap = loop->due_cap ? 2 * loop->due_cap : 16;
            struct due *due = realloc(loop->due, cap * sizeof *due);
            if (!due) return -1;
            loop->due = due;
            loop->due_cap = cap;
        }
        loop->due[loop->due_n].timer = t;
        t->slot = ++loop->due_n;
    }
    loop->due[t->slot - 1].at = at;
    if (at < loop->earliest) loop->earliest = at;
    return 0;
}

int loop_by(struct loop *loop, struct timer *t, int64_t at)
{
    if (t->slot && loop->due[t->slot - 1].at <= at) return 0;
    return at == LOOP_NEVER ? 0 : loop_at(loop, t, at);
}

/* Backwards, so that whatever fire() arms or disarms leaves those that are not
 * looked at yet where they are, or moves in some that are not due. */
static void run_timers(struct loop *loop)
{
    if (loop->now < loop->earliest) return;
    loop->earliest = LOOP_NEVER;
    for (uint32_t i = loop->due_n; i-- > 0; ) {
        if (i >= loop->due_n) continue;
        struct due d = loop->due[i];
        if (d.at > loop->now) {
            if (d.at < loop->earliest) loop->earliest = d.at;
            continue;
        }
        disarm(loop, d.timer);
        d.timer->fire(d.timer, loop->now);
    }
}

void loop_job(struct loop *loop, struct job *job)
{
    if (job->queued) return;
    job->queued = true;
    job->next = NULL;
    *loop->job_end = job;
    loop->job_end = &job->next;
}

static void run_jobs(struct loop *loop)
{
    while (loop->job) {
        struct job *job = loop->job;
        loop->job = job->next;
        if (!loop->job) loop->job_end = &loop->job;
        job->queued = false;
        if (job->step(job)) loop_job(loop, job);
        if (loop_clock_us() - loop->began_us >= LOOP_SLICE_US) break;
    }
}

static void add_hook(struct hook **list, struct hook *h)
{
    while (*list) list = &(*list)->next;
    h->next = NULL;
    *list = h;
}

void loop_on_flush(struct loop *loop, struct hook *h) { add_hook(&loop->flush, h); }
void loop_on_reap(struct loop *loop, struct hook *h)  { add_hook(&loop->reap, h); }

static void run_hooks(struct hook *h)
{
    for (; h; h = h->next) h->run(h);
}

int64_t loop_now(const struct loop *loop) { return loop->now; }

int64_t loop_began_us(const struct loop *loop) { return loop->began_us; }

static int wait_ms(const struct loop *loop, int max_wait_ms)
{
    if (loop->job) return 0;
    if (loop->earliest == LOOP_NEVER) return max_wait_ms;
    int64_t ms = loop->earliest - loop->now;      /* from a time rounded down: never too short */
    if (ms < 0) ms = 0;
    if (ms > INT_MAX) ms = INT_MAX;
    return max_wait_ms >= 0 && max_wait_ms < ms ? max_wait_ms : (int)ms;
}

/* Index of the bucket for a turn of so many microseconds. */
static unsigned lag_bucket(int64_t us)
{
    if (us <= 0) return 0;
    unsigned octave = 63u - (unsigned)__builtin_clzll((uint64_t)us);
    unsigned step = (unsigned)((uint64_t)us * LAG_STEPS >> octave) - LAG_STEPS;
    unsigned i = 1 + octave * LAG_STEPS + step;
    return i < LAG_BUCKETS ? i : LAG_BUCKETS - 1;
}

static void count_turn(struct loop *loop, int64_t us)
{
    if (us > loop->lag_max_us) loop->lag_max_us = us;
    loop->turns++;
    loop->lag[lag_bucket(us)]++;
    if (++loop->lag_n < LAG_WINDOW) return;
    loop->lag_n = 0;
    for (unsigned i = 0; i < LAG_BUCKETS; i++) loop->lag_n += loop->lag[i] /= 2;
}

struct loop_lag loop_lag(const struct loop *loop)
{
    uint32_t above = loop->lag_n / 100, seen = 0;
    unsigned i = LAG_BUCKETS - 1;
    while (i > 0 && (seen += loop->lag[i]) <= above) i--;
    unsigned octave = i ? (i - 1) / LAG_STEPS : 0, step = i ? (i - 1) % LAG_STEPS + 1 : 0;
    double scale = (double)(1u << (octave < 31 ? octave : 31));
    double top_us = i ? scale * (1 + step / (double)LAG_STEPS) : 1;
    double max_ms = (double)loop->lag_max_us / 1000, p99_ms = top_us / 1000;
    return (struct loop_lag){ .p99_ms = p99_ms < max_ms ? p99_ms : max_ms, .max_ms = max_ms,
                              .turns = loop->turns };
}

int loop_turn(struct loop *loop, int max_wait_ms)
{
    int ready = set_wait(&loop->set, wait_ms(loop, max_wait_ms));
    int failed = ready < 0 && errno != EINTR && errno != EAGAIN ? errno : 0;
    loop->began_us = loop_clock_us();
    loop->now = loop->began_us / 1000;
    set_run(&loop->set, ready);
    run_timers(loop);
    run_hooks(loop->flush);
    if (loop->job) {
        run_jobs(loop);
        run_hooks(loop->flush);
    }
    loop->took_us = loop_clock_us() - loop->began_us;
    count_turn(loop, loop->took_us);
    run_hooks(loop->reap);
    loop->now = (loop->began_us + loop->took_us) / 1000;
    errno = failed;
    return failed ? -1 : 0;
}
