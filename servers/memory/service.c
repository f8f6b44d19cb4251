#include "servers/memory/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "servers/memory/resend.h"
#include "servers/memory/task.h"
#include "servers/sandbox.h"
#include "servers/values.h"

#define SWEEP_MS 60000

int64_t memory_wall(struct endpoint *ep)
{
    struct memory_service *ms = ep->app;
    return store_clock(ms->store, time_now(), loop_clock());
}

bool memory_durable(const struct memory_service *ms) { return ms->ep.options->sync == 0; }

bool memory_busy(const struct memory_service *ms)
{
    return ms->scans || ms->parked || ms->removing;
}

static bool ready(struct endpoint *ep)
{
    struct memory_service *ms = ep->app;
    return !journal_state(ms->journal).why;
}

/* The log on behalf of the store. */

static int append(void *user, enum memory_change what, const struct memory *m, uint64_t *seq)
{
    struct memory_service *ms = user;
    return journal_append(ms->journal, what, m, seq);
}

static void event(void *user, enum store_event what, enum store_reason why, const struct memory *m)
{
    static const char *const reasons[] = { "deleted", "forgotten", "evicted", "cleared" };
    static const unsigned bits[] = { EVENT_ADDED, EVENT_UPDATED, EVENT_REMOVED };
    static char text[131072];            /* a memory of the greatest size, every byte escaped */
    struct memory_service *ms = user;
    if (what == STORE_ADDED) memory_match(ms, m);
    if (!endpoint_listens(&ms->ep, bits[what])) return;
    struct json_out out = json_out(text, sizeof text);
    json_open(&out, '{');
    if (what == STORE_REMOVED) {
        json_put_key(&out, "id"), memory_put_id(m->id, &out);
        member_text(&out, "reason", reasons[why]);
    } else {
        memory_member(ms, m, MEMORY_PLAIN, &out);
    }
    json_close(&out, '}');
    if (!out.full) endpoint_event(&ms->ep, bits[what], (struct slice){ text, out.len });
}

/* What may be answered: with --sync always what is on disk, else what a kill of
 * this process cannot lose. */
static void on_progress(void *user, uint64_t reached)
{
    struct memory_service *ms = user;
    (void)reached;
    struct journal_state s = journal_state(ms->journal);
    uint64_t seq = memory_durable(ms) ? s.durable : s.written;
    store_durable(ms->store, seq);
    endpoint_durable(&ms->ep, seq, s.durable);
}

/* Deletes need not fail with the stores beside them, which a full disk refused: append them
 * once more, alone, under the numbers that their replies tell. Those that could be are moved
 * to the front; how many. */
static size_t delete_again(struct memory_service *ms, struct store_gone *gone, size_t n)
{
    uint64_t tried = ms->again, seq;
    size_t kept = 0;
    ms->again = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t row = records_find(store_records(ms->store), gone[i].id);
        if (gone[i].seq <= tried || row == ROW_NONE) continue;
        if (journal_pad(ms->journal, gone[i].seq)) break;
        if (store_remove(ms->store, row, STORE_DELETED, &seq)) break;
        ms->again = seq;
        gone[kept++] = gone[i];
    }
    return kept;
}

static int by_seq(const void *key, const void *element)
{
    uint64_t a = *(const uint64_t *)key, b = ((const struct store_gone *)element)->seq;
    return (a > b) - (a < b);
}

struct again { const struct store_gone *gone; size_t n; };

static bool is_again(const void *user, uint64_t seq)
{
    const struct again *a = user;
    return a->n && bsearch(&seq, a->gone, a->n, sizeof *a->gone, by_seq);
}

static void on_failed(void *user, uint64_t from, bool full, const char *why)
{
    struct memory_service *ms = user;
    size_t n = full ? store_deletes(ms->store, from, NULL, 0) : 0;
    struct store_gone *gone = n ? malloc(n * sizeof *gone) : NULL;
    n = gone ? store_deletes(ms->store, from, gone, n) : 0;
    log_begin(LOG_ERROR, "memory", "storage failed");
    log_text("reason", why);
    log_int("from_seq", (int64_t)from);
    log_end();
    store_failed(ms->store, from);
    resend_failed(ms->resend, from);
    struct again again = { gone, delete_again(ms, gone, n) };
    endpoint_failed(&ms->ep, from, why, is_again, &again);
    /* At once: beside the next store they would be refused again. */
    if (again.n) journal_flush(ms->journal, loop_now(ms->ep.server.loop));
    endpoint_go_on(&ms->ep);
    memory_bulk_failed(ms, why);
    free(gone);
}

static void on_compacted(void *user, const char *why)
{
    struct memory_service *ms = user;
    log_begin(why ? LOG_ERROR : LOG_INFO, "memory", why ? "compaction failed" : "log compacted");
    if (why) log_text("reason", why);
    log_int("log_bytes", (int64_t)journal_state(ms->journal).bytes);
    log_end();
    snprintf(ms->compact_why, sizeof ms->compact_why, "%s", why ? why : "");
    /* Told by a job: a reply lets the next command run, and this may be amid a change. */
    ms->compacted = true;
    if (ms->compacting) loop_job(ms->ep.server.loop, &ms->compaction);
}

/* Compaction. */

static void keep(void *user, const struct memory *m)
{
    struct memory_service *ms = user;
    journal_compact_keep(ms->journal, m);
}

int memory_compact(struct memory_service *ms)
{
    if (journal_compacting(ms->journal)) return -1;
    struct journal_living living = { store_living(ms->store), store_living_next, ms->store };
    if (journal_compact_begin(ms->journal, &living)) return -1;
    loop_job(ms->ep.server.loop, &ms->compaction);
    return 0;
}

static bool step_compaction(struct job *j)
{
    struct memory_service *ms = CONTAINER(struct memory_service, compaction, j);
    if (ms->compacted) memory_tell_compacted(ms);
    return journal_compact_step(ms->journal, loop_now(ms->ep.server.loop));
}

/* Turns of the loop. */

static void arm(struct memory_service *ms, int64_t at)
{
    if (ms->ep.options->forget > 0 && ms->next_sweep < at) at = ms->next_sweep;
    loop_at(ms->ep.server.loop, &ms->due, at == INT64_MAX ? LOOP_NEVER : at);
}

/* At the end of a turn: what it stored goes to the disk. */
static void on_flush(struct hook *h)
{
    struct memory_service *ms = CONTAINER(struct memory_service, flush, h);
    int64_t now = loop_now(ms->ep.server.loop);
    bool at_once = journal_fd(ms->journal) < 0 && journal_due(ms->journal) <= now;
    journal_flush(ms->journal, now);
    if (journal_compact_ready(ms->journal)) loop_job(ms->ep.server.loop, &ms->compaction);
    else if (!ms->removing && journal_compact_due(ms->journal, store_log_bytes(ms->store), now))
        memory_compact(ms);
    if (task_may_go(ms)) loop_job(ms->ep.server.loop, &ms->going);
    if (memory_bulk_wants(ms)) loop_job(ms->ep.server.loop, &ms->bulk);
    /* Without a helper the answers are there already, and what sends them has run. */
    arm(ms, at_once ? now : journal_due(ms->journal));
}

static void on_due(struct timer *t, int64_t now)
{
    struct memory_service *ms = CONTAINER(struct memory_service, due, t);
    if (ms->ep.options->forget > 0 && now >= ms->next_sweep) {
        memory_sweep(ms);
        ms->next_sweep = now + SWEEP_MS;
    }
    /* What else is due is done by on_flush(), in this turn. */
}

static void log_disk(const struct memory_service *ms)
{
    struct journal_state s = journal_state(ms->journal);
    log_begin(LOG_DEBUG, "memory", "disk answered");
    log_int("written_seq", (int64_t)s.written);
    log_int("durable_seq", (int64_t)s.durable);
    log_int("last_sync_ms", s.last_sync_ms);
    log_end();
}

static void on_disk(struct watch *w, unsigned events)
{
    struct memory_service *ms = CONTAINER(struct memory_service, disk, w);
    (void)events;
    journal_ready(ms->journal, loop_now(ms->ep.server.loop));
    log_disk(ms);
    if (!ready(&ms->ep)) loop_unwatch(ms->ep.server.loop, w); /* readable for ever */
}

int memory_open(struct memory_service *ms, const struct options *o, struct embedder *e,
                struct fault *f)
{
    struct store_config sc = { .dimension = embedder_dimension(e),
                               .max_memories = (size_t)o->max_memories,
                               .evict = o->evict, .forget = o->forget, .user = ms,
                               .append = append, .keep = keep, .event = event };
    struct journal_config jc = {
        .dir = o->data, .dimension = embedder_dimension(e), .fingerprint = embedder_fingerprint(e),
        .sync_ms = o->sync < 0 ? JOURNAL_SYNC_NEVER : (int64_t)(o->sync * 1000 + 0.999),
        .in_process = o->inline_sync || o->mode == EXPORT, .reading = o->mode == EXPORT,
        .child = sandbox_enter_helper, .child_user = (void *)o,
        .events = { on_progress, on_progress, on_failed, on_compacted, ms } };
    if (getrandom(sc.seed, sizeof sc.seed, 0) != sizeof sc.seed)
        return fault_set(f, 71, "no random numbers from the system");
    ms->ep = (struct endpoint){
        .options = o, .embedder = e, .app = ms, .wall = memory_wall, .ready = ready,
        .commands = memory_commands, .stats = memory_stats,
        .watch = memory_watch, .unwatch = memory_unwatch,
        .events = EVENT_ADDED | EVENT_UPDATED | EVENT_REMOVED | EVENT_STATS | EVENT_MATCH };
    if (!(ms->store = store_new(&sc)) || !(ms->resend = resend_new(sc.seed)))
        return fault_set(f, 71, "out of memory");
    jc.replay = (struct journal_replay){ store_load, ms->store };
    if (!(ms->journal = journal_open(&jc, f))) {
        store_free(ms->store);
        return -1;
    }
    store_loaded(ms->store);
    return 0;
}

void memory_attach(struct memory_service *ms, struct loop *loop)
{
    ms->ep.durable = ms->ep.on_disk = journal_state(ms->journal).seq;
    ms->flush.run = on_flush;
    ms->due.fire = on_due;
    ms->compaction.step = step_compaction;
    ms->scanning.step = task_step;
    ms->going.step = task_go;
    ms->bulk.step = memory_bulk_step;
    ms->sweep_row = ROW_NONE;
    ms->ep.slow = true;                  /* scans, compactions and syncs may take their time */
    ms->next_sweep = loop_clock() + SWEEP_MS;
    loop_on_flush(loop, &ms->flush);
    if (journal_fd(ms->journal) < 0) return;
    ms->disk = (struct watch){ .fd = journal_fd(ms->journal), .ready = on_disk };
    loop_watch(loop, &ms->disk, LOOP_READ);
}

int memory_close(struct memory_service *ms, struct fault *f)
{
    int bad = journal_close(ms->journal, loop_clock(), f);
    store_free(ms->store);
    resend_free(ms->resend);
    return bad;
}
