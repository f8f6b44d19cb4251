/* What removes many memories: `clear`, `cleanup` and the sweep of --forget, part by part, so
 * that the loop goes on between. */
#include "servers/memory/task.h"

#define PART  256   /* removed at once: half a millisecond */
#define LOOK  1024  /* rows of a sweep that are looked at at once */
#define BATCH 4096  /* removals that a batch may begin with, so that its end is short, too */

static struct memory_service *of_bulk(struct job *job)
{
    return (struct memory_service *)(void *)((char *)job - offsetof(struct memory_service, bulk));
}

static void append(struct task **list, struct task *t)
{
    while (*list) list = &(*list)->next;
    *list = t;
}

static void finish(struct task **list)
{
    struct task *t = *list;
    *list = t->next;
    reply_removed(t->rq, t->removed, t->seq);
    task_free(t);
}

static void fail(struct task **list, const char *why)
{
    struct task *t = *list;
    *list = t->next;
    if (!task_storage_failed(t->rq)) reply_error(t->rq, REPLY_STORAGE, "Storage failed: %s", why);
    task_free(t);
}

/* The oldest first. What was stored meanwhile goes too, with the last ones, all at once: so
 * it is as if everything had been removed in that moment. */
static void clear_part(struct memory_service *ms)
{
    struct task *t = ms->clearing;
    bool last = store_records(ms->store)->live <= PART;
    uint64_t seq;
    t->begun = true;
    long n = last ? store_clear(ms->store, &seq) : store_clear_oldest(ms->store, PART, &seq);
    if (n < 0) {
        fail(&ms->clearing, "the log takes nothing more");
        return;
    }
    t->removed += n;
    if (n) t->seq = seq;
    if (last) finish(&ms->clearing);
}

static void sweep_part(struct memory_service *ms)
{
    struct task *t = ms->cleaning && ms->cleaning->begun ? ms->cleaning : NULL;
    uint64_t seq = 0;
    long n = store_sweep_part(ms->store, &ms->sweep_row, LOOK, &seq);
    if (n < 0) ms->sweep_row = ROW_NONE;
    if (!t) return;
    if (n < 0) {
        fail(&ms->cleaning, "the log takes nothing more");
        return;
    }
    t->removed += n;
    if (n) t->seq = seq;
    if (ms->sweep_row == ROW_NONE) finish(&ms->cleaning);
}

static void sweep_begin(struct memory_service *ms)
{
    memory_wall(&ms->ep);
    ms->cleaning->begun = true;
    if (store_sweep(ms->store, true)) ms->sweep_row = 0;
    else finish(&ms->cleaning);
}

bool memory_bulk_wants(const struct memory_service *ms)
{
    bool any = ms->clearing || ms->cleaning || ms->sweep_row != ROW_NONE;
    if (store_cleared(ms->store)) return true;
    return any && journal_room(ms->journal, JOURNAL_BATCH_BYTES - BATCH * 64) &&
           task_has_room(ms, LOOK * 64);
}

bool memory_bulk_step(struct job *job)
{
    struct memory_service *ms = of_bulk(job);
    if (!memory_bulk_wants(ms)) return false;
    if (store_cleared(ms->store)) store_give_back(ms->store);
    else if (ms->sweep_row != ROW_NONE) sweep_part(ms);
    else if (ms->cleaning) sweep_begin(ms);
    else clear_part(ms);
    return memory_bulk_wants(ms);
}

void memory_bulk_failed(struct memory_service *ms, const char *why)
{
    ms->sweep_row = ROW_NONE;
    if (ms->clearing && ms->clearing->begun) fail(&ms->clearing, why);
    if (ms->cleaning && ms->cleaning->begun) fail(&ms->cleaning, why);
}

void memory_sweep(struct memory_service *ms)
{
    memory_wall(&ms->ep);
    if (ms->sweep_row == ROW_NONE && store_sweep(ms->store, false)) ms->sweep_row = 0;
}

static const struct param clear_params[] = {
    { "confirm", PARAM_BOOL, .at = offsetof(struct call, confirm), .required = true },
    { 0 }
};
static const struct param no_params[] = { { 0 } };

void memory_clear(struct request *rq)
{
    struct call c = { .significance = -1 };
    struct task *t = task_new(rq, clear_params, &c);
    if (!t) return;
    if (!t->c.confirm) {
        task_error(t, REPLY_INVALID_PARAMETER, "Invalid parameter: confirm (must be true)");
    } else if (task_storage_failed(rq)) {
        task_free(t);
    } else {
        append(&t->ms->clearing, t);
    }
}

void memory_cleanup(struct request *rq)
{
    struct call c = { .significance = -1 };
    struct task *t = task_new(rq, no_params, &c);
    if (!t) return;
    if (task_storage_failed(rq)) task_free(t);
    else append(&t->ms->cleaning, t);
}
