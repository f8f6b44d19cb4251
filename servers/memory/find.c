/* Commands of the memory endpoint that look for memories, SPEC 4.2. */
#include "servers/memory/task.h"

#define CLOSING 256         /* bytes kept for what stands behind a list */
#define GROWTH  64          /* a memory that is reinforced is told of in at most so many more */

#define AT(field) .at = offsetof(struct call, field)

static enum memory_form form_of(const struct call *c)
{
    return c->include_embeddings ? MEMORY_EMBEDDING : MEMORY_PLAIN;
}

/* ---- lists that may be cut */

struct list { struct json_out *out, before; size_t kept; bool cut; };

static struct list list_open(struct json_out *out, const char *key)
{
    member_open(out, key, '[');
    struct list l = { .out = out };
    if (out->cap - out->len > CLOSING) l.kept = CLOSING;
    else out->full = true;               /* what stands before it leaves no room for the end */
    out->cap -= l.kept;
    return l;
}

/* Was there room for what was written since the last call? If not it is taken back. */
static bool list_fits(struct list *l)
{
    if (!l->out->full) return true;
    *l->out = l->before;
    l->cut = true;
    return false;
}

static void list_close(struct list *l)
{
    l->out->cap += l->kept;
    json_close(l->out, ']');
}

/* So many bytes more are kept for later. */
static void list_keep(struct list *l, size_t bytes)
{
    if (l->out->cap - l->out->len < bytes) l->out->full = true;
    if (l->out->full) return;
    l->out->cap -= bytes;
    l->kept += bytes;
}

/* Hits from..to, as members of an object each. With vectors nothing is cut. */
static size_t put_hits(struct task *t, struct list *l, size_t from, size_t to, bool score,
                       size_t growth)
{
    bool vectors = t->c.include_embeddings;
    const struct store *st = t->ms->store;
    size_t n = 0;
    for (size_t i = from; i < to; i++, n++) {
        const struct hit *h = &t->scan.hits[i];
        struct memory m = records_view(store_records(st), h->row);
        l->before = *l->out;
        json_open(l->out, '{');
        memory_put(t->ms, &m, store_strength(st, h->row), form_of(&t->c), l->out);
        if (t->scan.vector) member_double(l->out, "similarity", cosine_clamp(h->cosine));
        if (score) member_double(l->out, "score", h->key);
        json_close(l->out, '}');
        list_keep(l, growth);
        if (!vectors && !list_fits(l)) break;
    }
    return n;
}

/* ---- search and retrieve */

static struct scan_filter filter_of(const struct call *c)
{
    return (struct scan_filter){ .type = c->type, .n_tags = c->n_tags, .since_ms = c->since,
                                 .until_ms = c->until, .min_significance = c->min_significance,
                                 .min_strength = c->min_strength };
}

#define FILTERS                                                                   \
    { "min_significance", PARAM_NUMBER, AT(min_significance), .min = 0, .max = 1 }, \
    { "min_strength",     PARAM_NUMBER, AT(min_strength), .min = 0, .max = 1 },     \
    { "type",             PARAM_TEXT,   AT(type) },                               \
    { "tags",             PARAM_TAGS,   AT(tags) },                               \
    { "since",            PARAM_TIME,   AT(since) },                              \
    { "until",            PARAM_TIME,   AT(until) },                              \
    { "include_embeddings", PARAM_BOOL, AT(include_embeddings) },                 \
    { "text",             PARAM_TEXT,   AT(text), .max = MEMORY_TEXT },           \
    { "embedding",        PARAM_VECTOR, AT(embedding) },                          \
    { "adapter",          PARAM_TEXT,   AT(adapter) }

static const struct param search_params[] = {
    FILTERS,
    { "limit",          PARAM_INT,    AT(count), .min = 1, .max = 100 },
    { "min_similarity", PARAM_NUMBER, AT(min_similarity), .min = -1, .max = 1 },
    { "reinforce",      PARAM_BOOL,   AT(reinforce) },
    { 0 }
};

/* Reinforce the first n of what was found; false: the log refused and the task is over. */
static bool reinforce(struct task *t, size_t n, uint64_t *seq)
{
    if (task_stopped(t)) return false;
    for (size_t i = 0; i < n; i++)
        if (task_over(t, store_reinforce(t->ms->store, t->scan.hits[i].row, seq))) return false;
    return true;
}

/* The reply with at most the first `most` hits; returns how many it has. */
static size_t put_found(struct task *t, size_t most, size_t growth)
{
    struct json_out *out = reply_begin(t->rq);
    json_put_key(out, "query");
    if (t->c.embedding.n) json_put_null(out);
    else json_put_str(out, t->c.text.p, t->c.text.len);
    struct list l = list_open(out, "results");
    size_t n = put_hits(t, &l, 0, most, true, growth);
    list_close(&l);
    l.cut |= most < t->scan.n;
    member_count(out, "count", n);
    member_count(out, "searched", t->scan.searched);
    member_count(out, "below_threshold", t->scan.below);
    if (l.cut) member_bool(out, "truncated", true);
    member_double(out, "processing_time_ms", request_ms(t->rq));
    return n;
}

/* What is not told of is not reinforced, and nothing is where the reply is refused: so it
 * is written to see what it holds, and again when those have changed. */
static void search_found(struct task *t)
{
    uint64_t seq = 0;
    memory_wall(t->rq->ep);
    size_t n = put_found(t, t->scan.n, t->c.reinforce ? GROWTH : 0);
    if (t->c.reinforce && !t->rq->out.full) {
        if (!reinforce(t, n, &seq)) return;
        put_found(t, n, 0);
    }
    task_done(t, seq);
}

static void search_ready(struct task *t)
{
    t->search = (struct scan_config){ .filter = filter_of(&t->c), .vector = t->vector,
                                      .min_similarity = t->c.min_similarity,
                                      .order = SCAN_SCORE, .k = (size_t)t->c.count };
    task_scan(t, search_found);
}

static void search_embedded(struct task *t)
{
    if (t->c.reinforce) task_room(t, search_ready);
    else search_ready(t);
}

void find_search(struct request *rq)
{
    struct call c = { .count = 5, .since = INT64_MIN, .until = INT64_MAX,
                      .min_similarity = embedder_min_similarity(rq->ep->embedder) };
    struct task *t = task_new(rq, search_params, &c);
    if (!t || (!t->c.embedding.n && !task_has_text(t))) return;
    task_embed(t, search_embedded, true);
}

static const struct param retrieve_params[] = {
    FILTERS,
    { "count",  PARAM_INT,  AT(count), .min = 1, .max = 1000 },
    { "offset", PARAM_INT,  AT(offset), .min = 0, .max = 1e9 },
    { "sort",   PARAM_ENUM, AT(sort), .words = "strength|recent|significance|similarity" },
    { "order",  PARAM_ENUM, AT(ascending), .words = "desc|asc" },
    { 0 }
};

static void retrieve_found(struct task *t)
{
    struct json_out *out = reply_begin(t->rq);
    struct list l = list_open(out, "memories");
    size_t n = put_hits(t, &l, (size_t)t->c.offset, t->scan.n, false, 0);
    list_close(&l);
    member_count(out, "count", n);
    member_count(out, "total", t->scan.searched);
    if (l.cut) member_bool(out, "truncated", true);
    task_done(t, 0);
}

static void retrieve_ready(struct task *t)
{
    static const enum scan_order orders[] = { SCAN_STRENGTH, SCAN_TIME, SCAN_SIGNIFICANCE,
                                              SCAN_COSINE };
    t->search = (struct scan_config){ .filter = filter_of(&t->c), .vector = t->vector,
                                      .min_similarity = -2, .order = orders[t->c.sort],
                                      .ascending = t->c.ascending,
                                      .k = (size_t)(t->c.offset + t->c.count) };
    task_scan(t, retrieve_found);
}

void find_retrieve(struct request *rq)
{
    struct call c = { .count = 5, .since = INT64_MIN, .until = INT64_MAX, .sort = -1 };
    struct task *t = task_new(rq, retrieve_params, &c);
    if (!t) return;
    bool given = t->c.embedding.n || t->c.text.p;
    if (t->c.sort < 0) t->c.sort = given ? 3 : 0;
    if (t->c.sort == 3) {
        if (t->c.embedding.n || task_has_text(t)) task_embed(t, retrieve_ready, true);
    } else {
        t->drop = true;
        retrieve_ready(t);
    }
}

/* ---- get and export */

static const struct param get_params[] = {
    { "id", PARAM_TEXT, AT(id), .required = true },
    { "include_embeddings", PARAM_BOOL, AT(include_embeddings) },
    { 0 }
};

void find_get(struct request *rq)
{
    struct memory_service *ms = rq->ep->app;
    struct call c = { .count = 0 };
    uint32_t row = params_read(rq, get_params, &c) ? task_row(rq, c.id) : ROW_NONE;
    if (row == ROW_NONE) return;
    struct memory m = records_view(store_records(ms->store), row);
    memory_member(ms, &m, form_of(&c), reply_begin(rq));
    reply_end(rq);
}

static const struct param export_params[] = {
    { "after", PARAM_TEXT, AT(after) },
    { "count", PARAM_INT,  AT(count), .min = 1, .max = 1000 },
    { 0 }
};

/* Rows from `row` on as export lines have them; gives the last one. */
static uint32_t put_rows(struct memory_service *ms, struct list *l, uint32_t row, int64_t count)
{
    const struct records *rs = store_records(ms->store);
    uint32_t last = ROW_NONE;
    for (; count && row != ROW_NONE; count--, row = records_at(rs, row)->next) {
        struct memory m = records_view(rs, row);
        l->before = *l->out;
        json_open(l->out, '{');
        memory_put(ms, &m, 0, MEMORY_EXPORT, l->out);
        json_close(l->out, '}');
        if (last != ROW_NONE && !list_fits(l)) break;
        last = row;
    }
    return last;
}

/* A page is shorter where more would be too large; `next` goes on from there. */
void find_export(struct request *rq)
{
    struct memory_service *ms = rq->ep->app;
    const struct records *rs = store_records(ms->store);
    struct call c = { .count = 100 };
    uint32_t row = rs->first;
    if (!params_read(rq, export_params, &c)) return;
    if (c.after.p) {
        row = task_row(rq, c.after);
        if (row == ROW_NONE) return;
        row = records_at(rs, row)->next;
    }
    struct json_out *out = reply_begin(rq);
    struct list l = list_open(out, "memories");
    uint32_t last = put_rows(ms, &l, row, c.count);
    list_close(&l);
    json_put_key(out, "next");
    if (last == ROW_NONE || last == rs->last) json_put_null(out);
    else memory_put_id(records_at(rs, last)->id, out);
    if (l.cut) member_bool(out, "truncated", true);
    reply_end(rq);
}
