/* A journal in a directory of its own, and what it told. After test.h. */
#ifndef JOURNAL_RIG_H
#define JOURNAL_RIG_H

#include "journal_dir.h"
#include "journal_log.h"
#include "journal_model.h"

/* What the journal told. */
struct told {
    uint64_t written, durable, failed_from;
    int      failures, compactions;
    bool     full;
    char     why[120];
};

static void on_written(void *user, uint64_t seq) { ((struct told *)user)->written = seq; }
static void on_durable(void *user, uint64_t seq) { ((struct told *)user)->durable = seq; }
static void on_failed(void *user, uint64_t from, bool full, const char *why)
{
    struct told *t = user;
    t->failures++;
    t->failed_from = from;
    t->full = full;
    snprintf(t->why, sizeof t->why, "%s", why);
}
static void on_compacted(void *user, const char *why)
{
    struct told *t = user;
    t->compactions++;
    snprintf(t->why, sizeof t->why, "%s", why ? why : "");
}

__attribute__((unused)) static struct journal *open_at(struct model *s, struct told *t, const char *dir, struct fault *f)
{
    struct journal_config c = model_config(s, dir);
    memset(t, 0, sizeof *t);
    c.events = (struct journal_events){ on_written, on_durable, on_failed, on_compacted, t };
    return journal_open(&c, f);
}

/* Operations from..to-1 of a seed, one batch each. */
__attribute__((unused)) static void run(struct journal *j, struct model *s, uint32_t seed, uint32_t from, uint32_t to)
{
    for (uint32_t k = from; k < to; k++) {
        struct item t;
        uint64_t seq;
        enum memory_change kind = model_op(s, seed, k, &t);
        cr_assert_eq(journal_append(j, kind, &t.m, &seq), 0, "operation %u", k);
        model_apply(s, kind, &t);
        journal_flush(j, k);
    }
    cr_assert_eq(journal_wait(j, to), 0, "all is written");
}

/* A log of n operations, closed or as a kill leaves it. */
__attribute__((unused)) static void make_log(const char *dir, uint32_t n, bool closed, struct model *s)
{
    struct told t;
    struct fault f;
    memset(s, 0, sizeof *s);
    struct journal *j = open_at(s, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    run(j, s, 7, 0, n);
    char copy[300], log[300];
    snprintf(copy, sizeof copy, "%s/copy", dir);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    if (!closed) copy_file(log, copy);
    cr_assert_eq(journal_close(j, n, &f), 0, "%s", f.why);
    if (!closed) rename(copy, log);
}

#endif
