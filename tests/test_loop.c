// uses: servers/loop.c servers/loop_poll.c servers/loop_epoll.c
/* The loop with pipes for sockets: what is called, in which order, how often. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "servers/loop.h"
#include "test.h"

static char told[400];

static void tell(const char *what) { strcat(told, what); }

static int64_t clock_ms(void) { return loop_clock(); }

/* A socket pair whose first end is watched. */
struct end {
    struct watch watch;
    struct loop *loop;
    struct end  *close_too;
    int          other, calls;
    unsigned     events;
    bool         drain;
};

static void on_ready(struct watch *w, unsigned events)
{
    struct end *e = (struct end *)w;
    char byte;
    e->calls++;
    e->events = events;
    tell("r");
    if (e->drain) while (read(w->fd, &byte, 1) > 0) { }
    if (e->close_too) {
        loop_close(e->loop, &e->close_too->watch);
        e->close_too = NULL;
    }
}

static void open_end(struct loop *loop, struct end *e, unsigned events)
{
    int fd[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    *e = (struct end){ .watch = { .fd = fd[0], .ready = on_ready },
                       .loop = loop, .other = fd[1], .drain = true };
    cr_assert_eq(loop_watch(loop, &e->watch, events), 0);
}

static void poke(struct end *e) { cr_assert_eq(write(e->other, "x", 1), 1); }

Test(loop_watch, readable_socket_is_reported_and_a_quiet_one_is_not)
{
    struct loop *loop = loop_new();
    struct end a, b;
    open_end(loop, &a, LOOP_READ);
    open_end(loop, &b, LOOP_READ);
    poke(&a);
    loop_turn(loop, 100);
    cr_assert_eq(a.calls, 1);
    cr_assert_eq(a.events, LOOP_READ);
    cr_assert_eq(b.calls, 0);
    loop_turn(loop, 0);
    cr_assert_eq(a.calls, 1, "nothing new came");
    loop_free(loop);
}

Test(loop_watch, what_is_watched_for_can_be_changed)
{
    struct loop *loop = loop_new();
    struct end a;
    open_end(loop, &a, 0);
    poke(&a);
    loop_turn(loop, 0);
    cr_assert_eq(a.calls, 0, "watched for nothing");
    loop_watch(loop, &a.watch, LOOP_READ | LOOP_WRITE);
    loop_turn(loop, 100);
    cr_assert_eq(a.events, LOOP_READ | LOOP_WRITE);
    loop_watch(loop, &a.watch, LOOP_WRITE);
    loop_turn(loop, 100);
    cr_assert_eq(a.events, LOOP_WRITE);
    loop_unwatch(loop, &a.watch);
    loop_turn(loop, 0);
    cr_assert_eq(a.calls, 2);
    loop_free(loop);
}

Test(loop_watch, hang_up_is_reported_whatever_is_watched_for)
{
    struct loop *loop = loop_new();
    struct end a;
    open_end(loop, &a, 0);
    close(a.other);
    loop_turn(loop, 100);
    cr_assert(a.events & LOOP_HUP);
    loop_free(loop);
}

Test(loop_watch, one_that_another_closed_in_the_same_turn_is_not_called)
{
    struct loop *loop = loop_new();
    struct end a, b;
    open_end(loop, &a, LOOP_READ);
    open_end(loop, &b, LOOP_READ);
    a.close_too = &b;
    b.close_too = &a;
    poke(&a);
    poke(&b);
    loop_turn(loop, 100);
    loop_turn(loop, 0);
    cr_assert_eq(a.calls + b.calls, 1);
    loop_free(loop);
}

Test(loop_watch, one_whose_descriptor_somebody_else_holds_is_not_called_when_it_was_taken_out)
{
    struct loop *loop = loop_new();
    struct end a;
    open_end(loop, &a, LOOP_READ);
    int held = dup(a.watch.fd);
    loop_unwatch(loop, &a.watch);
    loop_close(loop, &a.watch);
    cr_assert_eq(a.watch.fd, -1);
    poke(&a);
    loop_turn(loop, 0);
    cr_assert_eq(a.calls, 0);
    close(held);
    loop_free(loop);
}

Test(loop_watch, every_one_of_hundreds_is_served)
{
    enum { N = 400 };
    static struct end end[N];
    struct loop *loop = loop_new();
    for (int i = 0; i < N; i++) open_end(loop, &end[i], LOOP_READ);
    for (int i = 0; i < N; i += 3) loop_close(loop, &end[i].watch);
    for (int i = 0; i < N; i++) if (i % 3) poke(&end[i]);
    for (int i = 0; i < 4; i++) {
        loop_turn(loop, 0);
        told[0] = '\0';
    }
    for (int i = 0; i < N; i++) cr_assert_eq(end[i].calls, i % 3 ? 1 : 0, "%d", i);
    for (int i = 0; i < N; i++) {
        if (i % 3) close(end[i].watch.fd);
        close(end[i].other);
    }
    loop_free(loop);
}

/* Deadlines. */

struct alarm {
    struct timer  timer;
    struct loop  *loop;
    struct alarm *also;         /* disarmed when this one fires */
    int64_t       fired, again; /* again: armed anew so much later, once */
    int           times;
};

static void on_fire(struct timer *t, int64_t now)
{
    struct alarm *a = (struct alarm *)t;
    a->times++;
    a->fired = now;
    tell("t");
    if (a->also) loop_at(a->loop, &a->also->timer, LOOP_NEVER);
    if (a->again) loop_at(a->loop, t, now + a->again);
    a->again = 0;
}

static struct alarm make_alarm(struct loop *loop)
{
    return (struct alarm){ .timer = { .fire = on_fire }, .loop = loop };
}

static void turn_for(struct loop *loop, int64_t ms)
{
    int64_t end = clock_ms() + ms;
    while (clock_ms() < end) loop_turn(loop, (int)(end - clock_ms()));
}

Test(loop_time, deadline_fires_once_not_early_and_soon_after)
{
    struct loop *loop = loop_new();
    struct alarm a = make_alarm(loop);
    int64_t at = clock_ms() + 30;
    loop_at(loop, &a.timer, at);
    turn_for(loop, 60);
    cr_assert_eq(a.times, 1);
    cr_assert(a.fired >= at && a.fired <= at + 1000, "%d ms late", (int)(a.fired - at));
    loop_free(loop);
}

Test(loop_time, waiting_ends_at_the_earliest_deadline)
{
    struct loop *loop = loop_new();
    struct alarm a = make_alarm(loop), b = make_alarm(loop);
    int64_t now = clock_ms();
    loop_at(loop, &a.timer, now + 5000);
    loop_at(loop, &b.timer, now + 20);
    while (!b.times) loop_turn(loop, -1);
    cr_assert_lt(clock_ms(), now + 4000);
    cr_assert_eq(a.times, 0);
    loop_free(loop);
}

Test(loop_time, loop_by_only_moves_a_deadline_earlier)
{
    struct loop *loop = loop_new();
    struct alarm a = make_alarm(loop);
    int64_t now = clock_ms();
    loop_by(loop, &a.timer, now + 20);
    loop_by(loop, &a.timer, now + 4000);
    loop_by(loop, &a.timer, LOOP_NEVER);
    turn_for(loop, 40);
    cr_assert_eq(a.times, 1, "the later one was put in its place");
    loop_at(loop, &a.timer, clock_ms() + 4000);
    loop_by(loop, &a.timer, clock_ms() + 10);
    turn_for(loop, 30);
    cr_assert_eq(a.times, 2, "the earlier one was not");
    loop_free(loop);
}

Test(loop_time, loop_at_moves_a_deadline_both_ways_and_never_disarms)
{
    struct loop *loop = loop_new();
    struct alarm a = make_alarm(loop);
    loop_at(loop, &a.timer, clock_ms() + 10);
    loop_at(loop, &a.timer, clock_ms() + 4000);
    turn_for(loop, 30);
    cr_assert_eq(a.times, 0);
    loop_at(loop, &a.timer, clock_ms() + 5);
    loop_at(loop, &a.timer, LOOP_NEVER);
    turn_for(loop, 20);
    cr_assert_eq(a.times, 0);
    cr_assert_eq(a.timer.slot, 0);
    loop_free(loop);
}

Test(loop_time, timers_may_be_armed_and_disarmed_while_others_fire)
{
    struct loop *loop = loop_new();
    struct alarm all[50];
    int64_t now = clock_ms();
    for (int i = 0; i < 50; i++) {
        all[i] = make_alarm(loop);
        if (i >= 25) all[i].also = &all[i - 25];
        if (i >= 25) all[i].again = 5;
        loop_at(loop, &all[i].timer, now + (i < 25 ? 5000 : 5));
    }
    turn_for(loop, 40);
    for (int i = 0; i < 50; i++) {
        cr_assert_eq(all[i].times, i < 25 ? 0 : 2, "%d fired %d times", i, all[i].times);
        cr_assert_eq(all[i].timer.slot, 0, "%d", i);
    }
    loop_free(loop);
}

Test(loop_time, byte_that_is_already_here_is_read_before_a_deadline_that_passed)
{
    struct loop *loop = loop_new();
    struct alarm a = make_alarm(loop);
    struct end e;
    open_end(loop, &e, LOOP_READ);
    loop_at(loop, &a.timer, clock_ms() - 100);
    poke(&e);
    told[0] = '\0';
    loop_turn(loop, 0);
    cr_assert_str_eq(told, "rt");
    loop_free(loop);
}

/* Jobs and hooks. */

struct work { struct job job; int left; const char *name; int64_t us; };

static bool on_step(struct job *job)
{
    struct work *w = (struct work *)job;
    struct timespec began, t;
    tell(w->name);
    clock_gettime(CLOCK_MONOTONIC, &began);
    do clock_gettime(CLOCK_MONOTONIC, &t);
    while ((t.tv_sec - began.tv_sec) * 1000000 + (t.tv_nsec - began.tv_nsec) / 1000 < w->us);
    return --w->left > 0;
}

Test(loop_job, jobs_take_turns_a_granule_each)
{
    struct loop *loop = loop_new();
    struct work a = { { .step = on_step }, 3, "a", 0 }, b = { { .step = on_step }, 2, "b", 0 };
    told[0] = '\0';
    loop_job(loop, &a.job);
    loop_job(loop, &b.job);
    loop_job(loop, &a.job);
    for (int i = 0; i < 5; i++) loop_turn(loop, 0);
    cr_assert_str_eq(told, "ababa");
    cr_assert(!a.job.queued && !b.job.queued);
    loop_free(loop);
}

Test(loop_job, events_are_served_between_slices_of_a_long_job)
{
    struct loop *loop = loop_new();
    struct work a = { { .step = on_step }, 40, "a", 1000 };
    struct end e;
    open_end(loop, &e, LOOP_READ);
    told[0] = '\0';
    loop_job(loop, &a.job);
    loop_turn(loop, -1);
    cr_assert(a.left > 30, "one turn made %d granules of 1 ms", 40 - a.left);
    poke(&e);
    loop_turn(loop, -1);
    cr_assert_eq(e.calls, 1);
    cr_assert(a.left > 0);
    loop_free(loop);
}

struct note { struct hook hook; const char *name; };

static void on_hook(struct hook *h) { tell(((struct note *)h)->name); }

Test(loop_turn, runs_events_deadlines_flush_jobs_flush_reap_in_this_order)
{
    struct loop *loop = loop_new();
    struct note f = { { .run = on_hook }, "f" }, g = { { .run = on_hook }, "g" },
                x = { { .run = on_hook }, "x" };
    struct work a = { { .step = on_step }, 1, "j", 0 };
    struct alarm t = make_alarm(loop);
    struct end e;
    open_end(loop, &e, LOOP_READ);
    loop_on_flush(loop, &f.hook);
    loop_on_flush(loop, &g.hook);
    loop_on_reap(loop, &x.hook);
    loop_at(loop, &t.timer, clock_ms());
    loop_job(loop, &a.job);
    poke(&e);
    told[0] = '\0';
    loop_turn(loop, 0);
    cr_assert_str_eq(told, "rtfgjfgx");
    told[0] = '\0';
    loop_turn(loop, 0);
    cr_assert_str_eq(told, "fgx");
    loop_free(loop);
}

Test(loop_lag, long_turn_shows_in_max_and_hardly_in_p99)
{
    struct loop *loop = loop_new();
    struct work a = { { .step = on_step }, 1, "a", 30000 };
    struct loop_lag lag;
    loop_job(loop, &a.job);
    loop_turn(loop, 0);
    for (int i = 0; i < 500; i++) loop_turn(loop, 0);
    lag = loop_lag(loop);
    cr_assert(lag.max_ms >= 30 && lag.max_ms < 3000, "max %f", lag.max_ms);
    cr_assert(lag.p99_ms < 30, "p99 %f", lag.p99_ms);
    cr_assert_eq(lag.turns, 501);
    loop_free(loop);
}

Test(loop_lag, p99_is_near_what_most_turns_take)
{
    struct loop *loop = loop_new();
    struct loop_lag lag;
    for (int i = 0; i < 20; i++) {
        struct work a = { { .step = on_step }, 1, "", 5000 };
        loop_job(loop, &a.job);
        loop_turn(loop, 0);
    }
    lag = loop_lag(loop);
    cr_assert(lag.p99_ms >= 5 && lag.p99_ms <= lag.max_ms, "p99 %f, max %f", lag.p99_ms, lag.max_ms);
    loop_free(loop);
}

Test(loop_turn, wakes_for_nothing_no_more_than_a_few_times_a_second)
{
    struct loop *loop = loop_new();
    struct alarm a = make_alarm(loop);
    struct loop_lag lag;
    loop_at(loop, &a.timer, clock_ms() + 200);
    while (!a.times) loop_turn(loop, -1);
    lag = loop_lag(loop);
    cr_assert(lag.turns <= 3, "%d turns", (int)lag.turns);
    loop_free(loop);
}
