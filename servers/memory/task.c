#include "servers/memory/task.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "servers/inference/work.h"
#include "servers/values.h"

/* A scan of up to so many bytes of codes is done at once, and so many of them in a turn. */
#define AT_ONCE   ((size_t)6 << 20)
#define IN_A_TURN ((size_t)24 << 20)
#define ROOM      131072    /* bytes of the log that any one change may take, and its evictions */

void task_free(struct task *t)
{
    t->ms->admitted -= t->admitted;
    scan_end(&t->scan);
    free(t);
}

void task_done(struct task *t, uint64_t seq)
{
    reply_end_durable(t->rq, seq);
    task_free(t);
}

bool task_error(struct task *t, enum reply_code code, const char *text)
{
    reply_error(t->rq, code, "%s", text);
    task_free(t);
    return false;
}

static void storage_failed(struct request *rq)
{
    struct memory_service *ms = rq->ep->app;
    struct journal_state s = journal_state(ms->journal);
    reply_error(rq, REPLY_STORAGE, "Storage failed: %s",
                s.why ? s.why : s.full ? "disk full" : "too much waits for the disk");
}

bool task_storage_failed(struct request *rq)
{
    struct memory_service *ms = rq->ep->app;
    bool stopped = journal_state(ms->journal).why != NULL;
    if (stopped) storage_failed(rq);
    return stopped;
}

bool task_stopped(struct task *t)
{
    bool failed = task_storage_failed(t->rq);
    if (failed) task_free(t);
    return failed;
}

bool task_over(struct task *t, int status)
{
    struct request *rq = t->rq;
    if (status == STORE_OK) return false;
    if (status == STORE_FULL) reply_error(rq, REPLY_STORE_FULL, "Memory store full");
    else if (status == STORE_LOG) storage_failed(rq);
    else reply_error(rq, REPLY_INTERNAL, "Internal error");
    task_free(t);
    return true;
}

uint32_t task_row(struct request *rq, struct slice text)
{
    struct memory_service *ms = rq->ep->app;
    uint8_t id[MEMORY_ID];
    bool right = memory_id_parse(text, id);
    uint32_t row = right ? records_find(store_records(ms->store), id) : ROW_NONE;
    if (row == ROW_NONE)
        reply_error(rq, REPLY_NOT_FOUND, "Memory not found: %.*s",
                    (int)(text.len < 128 ? text.len : 128), text.p);
    return row;
}

/* ---- parameters, as the memory wants them */

void call_tags(struct call *c)
{
    char text[MEMORY_LIST];
    size_t at[MEMORY_TAGS + 1];
    struct json in = json_inside(c->tags);
    struct json_out out = json_out(text, sizeof text);
    json_open(&out, '[');
    for (c->n_tags = 0; json_next(&in) > JSON_END; c->n_tags++) {
        struct slice s = json_slice(&in);
        at[c->n_tags] = out.len + out.comma;
        json_put_str(&out, s.p, s.len);
    }
    json_close(&out, ']');
    at[c->n_tags] = out.len;
    assert(!out.full && out.len <= c->tags.len);
    memcpy((char *)c->tags.p, text, out.len);
    c->tags.len = out.len;
    for (size_t i = 0; i < c->n_tags; i++)
        c->tag[i] = (struct slice){ c->tags.p + at[i], at[i + 1] - at[i] - 1 };
}

struct memory call_memory(const struct call *c, const float *vector)
{
    static const struct slice object = { "{}", 2 }, list = { "[]", 2 };
    return (struct memory){ .text = c->text, .metadata = c->metadata.p ? c->metadata : object,
                            .tags = c->tags.p ? c->tags : list, .vector = vector,
                            .f = { .significance = c->significance, .time_ms = c->timestamp,
                                   .pinned = c->confirm } };
}

/* The rest of what the parameter table cannot say. */
static bool check(struct request *rq, struct task *t)
{
    struct call *c = &t->c;
    if (c->text.p) c->text = trim_ascii(c->text);
    if (c->text.len > MEMORY_TEXT)
        return reply_error(rq, REPLY_TOO_LARGE, "Text too long: %zu bytes, at most %d are allowed",
                           c->text.len, MEMORY_TEXT);
    if (c->metadata.p) meta_read(&t->meta, c->metadata);
    if (t->meta.bad_importance)
        return reply_error(rq, REPLY_INVALID_PARAMETER,
                           "Invalid parameter: metadata.importance (a number from 0 to 1)");
    if (c->tags.p) call_tags(c);
    if (c->embedding.n && !work_vector(rq, &c->embedding, rq->ep->dimension)) return false;
    return work_adapter(rq, c->adapter, &t->adapter);
}

struct task *task_new(struct request *rq, const struct param *params, const struct call *defaults)
{
    uint32_t dimension = rq->ep->dimension;
    struct task *t = calloc(1, sizeof *t + dimension * sizeof(float));
    if (!t) {
        reply_error(rq, REPLY_INTERNAL, "Internal error");
        return NULL;
    }
    t->meta.importance = -1;
    t->rq = rq;
    t->ms = rq->ep->app;
    t->c = *defaults;
    t->c.embedding = (struct param_vector){ .v = t->vector, .cap = dimension };
    if (params_read(rq, params, &t->c) && check(rq, t)) return t;
    task_free(t);
    return NULL;
}

bool task_has_text(struct task *t)
{
    return t->c.text.len || task_error(t, REPLY_MISSING_FIELD, "Missing required field: text");
}

/* ---- vectors */

static bool alive(struct embed_request *ask)
{
    return request_alive(((struct task *)(void *)ask)->rq);
}

static void embedded(struct embed_request *ask)
{
    struct task *t = (struct task *)(void *)ask;
    if (ask->status == EMBED_DONE) {
        t->ready(t);
        return;
    }
    work_refused(t->rq, ask->status);
    task_free(t);
}

void task_embed(struct task *t, void (*ready)(struct task *), bool drop)
{
    t->ready = ready;
    t->drop = drop;
    if (t->c.embedding.n) {
        ready(t);
        return;
    }
    t->ask = (struct embed_request){
        .text = &t->c.text, .n = 1, .adapter = t->adapter, .normalize = true, .truncate = true,
        .client = (uint64_t)t->rq->conn.slot << 32 | t->rq->conn.generation,
        .vector = t->vector, .tokens = &t->tokens, .truncated = &t->truncated,
        .alive = drop ? alive : NULL, .done = embedded };
    if (embedder_submit(t->rq->ep->embedder, &t->ask, loop_clock_us()) != EMBED_QUEUED)
        embedded(&t->ask);
}

/* ---- those that wait, oldest first: a connection has one of them at most */

static void append(struct task **list, struct task *t)
{
    while (*list) list = &(*list)->next;
    *list = t;
}

static struct task *take(struct task **list)
{
    struct task *t = *list;
    *list = t->next;
    t->next = NULL;
    return t;
}

/* ---- room in the log */

/* For these bytes beside what is kept for others? */
static bool has_room(const struct memory_service *ms, size_t bytes)
{
    return journal_room(ms->journal, ms->admitted * ROOM + bytes);
}

bool task_may_go(const struct memory_service *ms)
{
    return ms->parked && has_room(ms, ROOM);
}

static void admit(struct task *t)
{
    t->ms->admitted++;
    t->admitted = true;
    t->go(t);
}

void task_room(struct task *t, void (*go)(struct task *))
{
    struct memory_service *ms = t->ms;
    t->go = go;
    if (t->admitted) go(t);
    else if (!ms->parked && has_room(ms, ROOM)) admit(t);
    else append(&ms->parked, t);
}

bool task_go(struct job *job)
{
    struct memory_service *ms = CONTAINER(struct memory_service, going, job);
    if (!task_may_go(ms)) return false;
    admit(take(&ms->parked));
    return task_may_go(ms);
}

/* ---- scans */

static bool scan_open(struct task *t)
{
    if (t->drop && !request_alive(t->rq)) {
        reply_drop(t->rq);
        task_free(t);
        return false;
    }
    memory_wall(t->rq->ep);
    if (t->search.filter.n_tags) t->search.filter.tags = t->c.tag;
    if (store_scan(t->ms->store, &t->scan, &t->search))
        return task_error(t, REPLY_INTERNAL, "Internal error");
    return t->scanning = true;
}

static void scan_close(struct task *t)
{
    if (scan_finish(&t->scan)) task_error(t, REPLY_INTERNAL, "Internal error");
    else t->found(t);
}

void task_scan(struct task *t, void (*found)(struct task *))
{
    struct memory_service *ms = t->ms;
    struct loop *loop = t->rq->ep->server.loop;
    size_t bytes = store_records(ms->store)->used * 2 * COSINE_STRIDE(t->rq->ep->dimension);
    t->found = found;
    if (ms->scanned_at != loop_now(loop)) ms->scanned = 0;
    ms->scanned_at = loop_now(loop);
    if (!ms->scans && bytes <= AT_ONCE && ms->scanned + bytes <= IN_A_TURN) {
        ms->scanned += bytes;
        if (scan_open(t)) scan_close(t);
        return;
    }
    append(&ms->scans, t);
    loop_job(loop, &ms->scanning);
}

bool task_step(struct job *job)
{
    struct memory_service *ms = CONTAINER(struct memory_service, scanning, job);
    struct task *t = ms->scans;
    if (!t) return false;
    if (t->scanning && scan_step(&t->scan)) return true;
    take(&ms->scans);                    /* a refusal lets other requests come here */
    if (t->scanning) {
        scan_close(t);
    } else if (scan_open(t)) {
        t->next = ms->scans;
        ms->scans = t;
    }
    return ms->scans != NULL;
}

/* ---- what removes many memories, part by part, so that the loop goes on between */

#define PART  256   /* removed at once: half a millisecond */
#define LOOK  1024  /* rows of a sweep that are looked at at once */
#define BATCH 4096  /* removals that a batch may begin with, so that its end is short, too */

static void fail(struct memory_service *ms, const char *why)
{
    struct task *t = take(&ms->removing);
    if (!task_storage_failed(t->rq)) reply_error(t->rq, REPLY_STORAGE, "Storage failed: %s", why);
    task_free(t);
}

static void finish(struct memory_service *ms)
{
    struct task *t = take(&ms->removing);
    reply_removed(t->rq, t->removed, t->seq);
    task_free(t);
}

/* So many of a part went for the first command, or the log refused; `last`: that was all. */
static void part_done(struct memory_service *ms, long n, uint64_t seq, bool last)
{
    if (n < 0) {
        fail(ms, "the log takes nothing more");
        return;
    }
    ms->removing->removed += n;
    if (n) ms->removing->seq = seq;
    if (last) finish(ms);
}

/* The oldest first. What was stored meanwhile goes too, with the last ones, all at once: so
 * it is as if everything had been removed in that moment. */
static void clear_part(struct memory_service *ms)
{
    uint64_t seq = 0;
    ms->removing->begun = true;
    long n = store_clear(ms->store, PART, &seq);
    part_done(ms, n, seq, !store_records(ms->store)->live);
}

static void sweep_part(struct memory_service *ms)
{
    const struct task *t = ms->removing;
    uint64_t seq = 0;
    long n = store_sweep_part(ms->store, &ms->sweep_row, LOOK, &seq);
    if (n < 0) ms->sweep_row = ROW_NONE;
    if (t && t->begun && !t->c.confirm) part_done(ms, n, seq, ms->sweep_row == ROW_NONE);
}

static void sweep_begin(struct memory_service *ms)
{
    memory_wall(&ms->ep);
    ms->removing->begun = true;
    if (store_sweep(ms->store, true)) ms->sweep_row = 0;
    else finish(ms);
}

bool memory_bulk_wants(const struct memory_service *ms)
{
    bool any = ms->removing || ms->sweep_row != ROW_NONE;
    if (records_spare(store_records(ms->store))) return true;
    return any && journal_room(ms->journal, JOURNAL_BATCH_BYTES - BATCH * 64) &&
           has_room(ms, LOOK * 64);
}

bool memory_bulk_step(struct job *job)
{
    struct memory_service *ms = CONTAINER(struct memory_service, bulk, job);
    if (!memory_bulk_wants(ms)) return false;
    if (records_spare(store_records(ms->store))) store_give_back(ms->store);
    else if (ms->sweep_row != ROW_NONE) sweep_part(ms);
    else if (ms->removing->c.confirm) clear_part(ms);
    else sweep_begin(ms);
    return memory_bulk_wants(ms);
}

void memory_bulk_failed(struct memory_service *ms, const char *why)
{
    ms->sweep_row = ROW_NONE;
    if (ms->removing && ms->removing->begun) fail(ms, why);
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
    } else if (!task_stopped(t)) {
        append(&t->ms->removing, t);
    }
}

void memory_cleanup(struct request *rq)
{
    struct call c = { .significance = -1 };
    struct task *t = task_new(rq, no_params, &c);
    if (t && !task_stopped(t)) append(&t->ms->removing, t);
}
