/* Commands of the memory endpoint that change something or ask for one memory, SPEC 4.2. */
#include <stdio.h>

#include "servers/inference/work.h"
#include "servers/memory/task.h"
#include "servers/values.h"

#define BESIDE     576      /* bytes of a reply beside the vector in it, at most; */
#define BESIDE_ONE 96       /* beside the memory, whose numbers may grow */
#define AHEAD_MS   60000    /* how far a memory's time may be ahead of the clock */

static struct memory_service *service(const struct request *rq) { return rq->ep->app; }

static void put_durable(struct request *rq, struct json_out *out, uint64_t seq)
{
    member_count(out, "seq", seq);
    member_bool(out, "durable", memory_durable(service(rq)));
}

/* ---- store, embed, score */

#define AT(field) .at = offsetof(struct call, field)

static const struct param store_params[] = {
    { "text",         PARAM_TEXT,   AT(text), .max = MEMORY_TEXT, .required = true },
    { "metadata",     PARAM_OBJECT, AT(metadata), .max = MEMORY_METADATA },
    { "significance", PARAM_NUMBER, AT(significance), .min = 0, .max = 1 },
    { "embedding",    PARAM_VECTOR, AT(embedding) },
    { "tags",         PARAM_TAGS,   AT(tags) },
    { "timestamp",    PARAM_TIME,   AT(timestamp) },
    { "pinned",       PARAM_BOOL,   AT(confirm) },
    { 0 }
};

static const struct call store_call = { .significance = -1, .timestamp = INT64_MIN };

static void put_significance(struct json_out *out, const struct memory_fields *f)
{
    member_double(out, "significance", f->significance);
    member_open(out, "components", '{');
    member_f32(out, "surprise", f->surprise);
    member_f32(out, "diversity", f->diversity);
    member_f32(out, "information", f->information);
    member_f32(out, "floor", f->floor);
    json_close(out, '}');
}

/* The answer to a store; it leaves when the store is durable. */
static void reply_added(struct task *t, const struct store_added *a)
{
    struct json_out *out = reply_begin(t->rq);
    json_put_key(out, "id"), memory_put_id(a->id, out);
    put_durable(t->rq, out, a->seq);
    put_significance(out, &a->f);
    json_put_key(out, "timestamp"), json_put_time(out, a->f.time_ms);
    member_bool(out, "duplicate", a->duplicate);
    member_open(out, "evicted", '[');
    for (uint32_t i = 0; i < a->n_evicted; i++) memory_put_id(a->evicted[i], out);
    json_close(out, ']');
    member_count(out, "memory_count", a->count);
    if (t->want_embedding)
        json_put_key(out, "embedding"), json_put_f32s(out, t->vector, t->rq->ep->dimension);
    task_done(t, a->seq);
}

static void again(struct task *t);

/* Was this very request stored already, perhaps while this one waited? The memory may have
 * changed or gone since: the vector for `embed` is that of the request. */
static bool answered_before(struct task *t)
{
    const struct store_added *before = t->rq->id.len ? resend_find(t->ms->resend, &t->key) : NULL;
    if (!before) return false;
    if (t->want_embedding && !t->ready) task_embed(t, again, true);
    else reply_added(t, before);
    return true;
}

/* Was there room for what was written to see, and so many bytes beside it? Else the reply would
 * be too large, and nothing was done. */
static bool fits(struct task *t, const struct json_out *out, size_t beside)
{
    if (!out->p || (!out->full && out->cap - out->len > beside)) return true;
    reply_too_large(t->rq);
    task_free(t);
    return false;
}

static bool embedding_fits(struct task *t)
{
    struct json_out *out = reply_begin(t->rq);
    json_put_key(out, "embedding"), json_put_f32s(out, t->vector, t->rq->ep->dimension);
    return fits(t, out, BESIDE);
}

static void store_found(struct task *t)
{
    struct memory m = call_memory(&t->c, t->vector);
    struct store_added a;
    memory_wall(t->rq->ep);
    if (answered_before(t) || task_stopped(t)) return;
    if (t->want_embedding && !embedding_fits(t)) return;
    struct scan *near = t->scanning ? &t->scan : NULL;
    int status = memory_id_new(m.id) ? store_add(t->ms->store, &m, near, &a) : STORE_NO_ROOM;
    if (task_over(t, status)) return;
    if (t->rq->id.len) resend_keep(t->ms->resend, &t->key, &a);
    reply_added(t, &a);
}

static void near_ready(struct task *t, void (*found)(struct task *))
{
    t->search = scan_nearest(t->vector);
    task_scan(t, found);
}

static void store_ready(struct task *t);

static bool is_duplicate(const struct task *t)
{
    struct memory m = call_memory(&t->c, NULL);
    return store_duplicate(t->ms->store, m.text, m.metadata) != ROW_NONE;
}

/* A duplicate wants no vector, if it is one still when there is room, but for `embed`. */
static void store_go(struct task *t)
{
    if (t->ready) near_ready(t, store_found);
    else if (t->want_embedding || !is_duplicate(t)) task_embed(t, store_ready, false);
    else store_found(t);
}

static void store_ready(struct task *t) { task_room(t, store_go); }

static void again(struct task *t)
{
    if (!answered_before(t)) store_ready(t);
}

/* What can be said without a vector: was it stored before, is it a duplicate, is there room? */
static void store_begin(struct task *t)
{
    int64_t now = memory_wall(t->rq->ep);
    if (answered_before(t)) return;
    if (t->c.timestamp > now + AHEAD_MS)
        task_error(t, REPLY_INVALID_TIMESTAMP,
                   "Invalid timestamp: more than 60 s ahead of the server's clock");
    else if (is_duplicate(t)) task_room(t, store_go);
    else if (store_full(t->ms->store)) task_over(t, STORE_FULL);
    else task_embed(t, store_ready, false);
}

static void store(struct request *rq, bool want_embedding)
{
    struct memory_service *ms = service(rq);
    uint64_t content = rq->id.len ? resend_hash(ms->resend, rq->data) : 0;
    struct task *t = task_new(rq, store_params, &store_call);
    if (!t || !task_has_text(t)) return;
    uint64_t connection = (uint64_t)rq->conn.slot << 32 | rq->conn.generation;
    t->key = (struct resend_key){ resend_session(ms->resend, t->meta.session, connection),
                                  resend_hash(ms->resend, rq->id), content + want_embedding };
    t->want_embedding = want_embedding;
    store_begin(t);
}

static void on_store(struct request *rq) { store(rq, false); }
static void on_embed(struct request *rq) { store(rq, true); }

static void score_found(struct task *t)
{
    struct memory m = call_memory(&t->c, t->vector);
    struct memory_fields f;
    if (task_over(t, store_score(t->ms->store, &m, &t->scan, &f))) return;
    struct json_out *out = reply_begin(t->rq);
    put_significance(out, &f);
    task_done(t, 0);
}

static void score_ready(struct task *t) { near_ready(t, score_found); }

static void on_score(struct request *rq)
{
    struct task *t = task_new(rq, store_params, &store_call);
    if (t && task_has_text(t)) task_embed(t, score_ready, true);
}

static const struct param text_params[] = {
    { "text", PARAM_TEXT, AT(text), .max = MEMORY_TEXT, .required = true },
    { "adapter", PARAM_TEXT, AT(adapter) },
    { 0 }
};

/* The shape of `embeddings` on the inference endpoint, for older clients. */
static void embed_only_ready(struct task *t)
{
    struct json_out *out = reply_begin(t->rq);
    put_embeddings(out, t->rq, &t->ask, t->c.adapter, false);
    task_done(t, 0);
}

static void on_embed_only(struct request *rq)
{
    struct task *t = task_new(rq, text_params, &store_call);
    if (t && task_has_text(t)) task_embed(t, embed_only_ready, true);
}

/* ---- update, delete */

static const struct param update_params[] = {
    { "id",           PARAM_TEXT,   AT(id), .required = true },
    { "text",         PARAM_TEXT,   AT(text), .max = MEMORY_TEXT },
    { "metadata",     PARAM_OBJECT, AT(metadata), .max = MEMORY_METADATA },
    { "tags",         PARAM_TAGS,   AT(tags) },
    { "significance", PARAM_NUMBER, AT(significance), .min = 0, .max = 1 },
    { "pinned",       PARAM_ANY,    AT(pinned) },
    { 0 }
};

/* task_row(); ROW_NONE: t is gone. */
static uint32_t row_of(struct task *t)
{
    uint32_t row = task_row(t->rq, t->c.id);
    if (row == ROW_NONE) task_free(t);
    return row;
}

static struct memory updated(const struct task *t, uint32_t row)
{
    const struct call *c = &t->c;
    struct memory m = records_view(store_records(t->ms->store), row);
    if (c->text.p) m.text = c->text, m.vector = t->vector;
    if (c->metadata.p) m.metadata = c->metadata;
    if (c->tags.p) m.tags = c->tags;
    if (c->significance >= 0) m.f.significance = c->significance;
    if (c->pinned.p) m.f.pinned = c->pinned.p[0] == 't';
    return m;
}

static void update_ready(struct task *t)
{
    struct request *rq = t->rq;
    const struct records *rs = store_records(t->ms->store);
    uint64_t seq;
    memory_wall(rq->ep);
    uint32_t row = row_of(t);
    if (row == ROW_NONE || task_stopped(t)) return;
    struct memory m = updated(t, row);
    struct json_out *out = reply_begin(rq);
    memory_member(t->ms, &m, MEMORY_PLAIN, out);
    if (!fits(t, out, BESIDE_ONE)) return;
    if (task_over(t, store_update(t->ms->store, row, &m, &seq))) return;
    out = reply_begin(rq);
    m = records_view(rs, records_find(rs, m.id));
    memory_member(t->ms, &m, MEMORY_PLAIN, out);
    put_durable(rq, out, seq);
    task_done(t, seq);
}

static void update_embedded(struct task *t) { task_room(t, update_ready); }

static void on_update(struct request *rq)
{
    struct task *t = task_new(rq, update_params, &store_call);
    if (!t || (t->c.text.p && !task_has_text(t))) return;
    struct slice p = t->c.pinned;
    if (p.p && !slice_is(p, "true") && !slice_is(p, "false")) {
        task_error(t, REPLY_INVALID_PARAMETER, "Invalid parameter: pinned (true or false)");
    } else if (row_of(t) != ROW_NONE) {
        if (t->c.text.p) task_embed(t, update_embedded, false);
        else update_embedded(t);
    }
}

static const struct param id_params[] = {
    { "id", PARAM_TEXT, AT(id), .required = true },
    { 0 }
};

static void delete_ready(struct task *t)
{
    struct request *rq = t->rq;
    uint32_t row = row_of(t);
    uint64_t seq;
    if (row == ROW_NONE || task_stopped(t)) return;
    if (task_over(t, store_remove(t->ms->store, row, STORE_DELETED, &seq))) return;
    struct json_out *out = reply_begin(rq);
    member_bool(out, "deleted", true);
    put_durable(rq, out, seq);
    task_done(t, seq);
}

static void on_delete(struct request *rq)
{
    struct task *t = task_new(rq, id_params, &store_call);
    if (t) task_room(t, delete_ready);
}

/* ---- compact, sync */

void reply_removed(struct request *rq, int64_t removed, uint64_t seq)
{
    struct json_out *out = reply_begin(rq);
    member_int(out, "removed", removed);
    member_count(out, "memory_count", store_records(service(rq)->store)->live);
    reply_end_durable(rq, seq);
}

static void on_compact(struct request *rq)
{
    struct memory_service *ms = service(rq);
    if (ms->compacted) memory_tell_compacted(ms);
    if (task_storage_failed(rq)) return;
    if (!journal_compacting(ms->journal) && memory_compact(ms)) {
        reply_error(rq, REPLY_STORAGE, "Storage failed: the log cannot be compacted now");
        return;
    }
    if (task_storage_failed(rq)) return;
    rq->user[0] = (int64_t)(intptr_t)ms->compacting;
    ms->compacting = rq;
}

void memory_tell_compacted(struct memory_service *ms)
{
    struct request *rq = ms->compacting, *next;
    ms->compacting = NULL;
    ms->compacted = false;
    for (; rq; rq = next) {
        next = (struct request *)(intptr_t)rq->user[0];
        if (*ms->compact_why) reply_error(rq, REPLY_STORAGE, "Storage failed: %s", ms->compact_why);
        else reply_removed(rq, 0, 0);
    }
}

/* Its reply waits with those to the stores that it asks for, but for the disk in any mode. */
static void on_sync(struct request *rq)
{
    struct memory_service *ms = service(rq);
    if (task_storage_failed(rq)) return;
    uint64_t seq = journal_state(ms->journal).seq;
    journal_sync(ms->journal);
    struct json_out *out = reply_begin(rq);
    member_count(out, "seq", seq);
    member_bool(out, "durable", true);
    rq->on_disk = true;
    reply_end_durable(rq, seq);
}

/* ---- stats and the table */

void memory_stats(struct endpoint *ep, struct json_out *out)
{
    static const char *const fifths[] = { "0.0-0.2", "0.2-0.4", "0.4-0.6", "0.6-0.8", "0.8-1.0" };
    const struct memory_service *ms = ep->app;
    struct store_counts n = store_count(ms->store);
    struct journal_state s = journal_state(ms->journal);
    uint64_t used = store_log_bytes(ms->store) + JOURNAL_HEAD_BYTES;
    member_count(out, "memory_count", n.memories);
    member_int(out, "max_size", ms->ep.options->max_memories);
    member_double(out, "avg_significance", n.avg_significance);
    member_open(out, "significance_distribution", '{');
    for (int i = 0; i < 5; i++) member_count(out, fifths[i], n.distribution[i]);
    json_close(out, '}');
    member_count(out, "store_bytes", n.bytes);
    member_count(out, "log_bytes", s.bytes);
    member_int(out, "garbage_bytes", s.bytes > used ? (int64_t)(s.bytes - used) : 0);
    member_count(out, "duplicates", n.duplicates);
    member_count(out, "forgotten", n.forgotten);
    member_count(out, "evicted", n.evicted);
    json_put_key(out, "sync"), options_put_sync(ms->ep.options, out);
    json_put_key(out, "last_sync_ms");
    if (s.last_sync_ms < 0) json_put_null(out);
    else json_put_int(out, s.last_sync_ms);
}

const struct command memory_commands[] = {
    { "store",      on_store,      CMD_LATER },
    { "retrieve",   find_retrieve, CMD_LATER },
    { "search",     find_search,   CMD_LATER },
    { "get",        find_get,      0 },
    { "update",     on_update,     CMD_LATER },
    { "delete",     on_delete,     CMD_LATER },
    { "score",      on_score,      CMD_LATER },
    { "embed",      on_embed,      CMD_LATER },
    { "embed_only", on_embed_only, CMD_LATER },
    { "compact",    on_compact,    CMD_LATER },
    { "clear",      memory_clear,  CMD_LATER },
    { "cleanup",    memory_cleanup, CMD_LATER },
    { "export",     find_export,   0 },
    { "sync",       on_sync,       CMD_LATER },
    { NULL, NULL, 0 }
};
