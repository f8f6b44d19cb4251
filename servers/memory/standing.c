/* Standing queries: whoever subscribed to `match` hears of every new memory that is near enough. */
#include <stdlib.h>
#include <string.h>

#include "servers/memory/task.h"

struct standing {
    struct standing *next;
    struct conn_ref conn;
    uint32_t query_id;
    double   min_similarity;
    float    vector[];      /* [dimension] */
};

#define AT(field) .at = offsetof(struct call, field)

static const struct param query_params[] = {
    { "text",           PARAM_TEXT,   AT(text), .max = MEMORY_TEXT },
    { "embedding",      PARAM_VECTOR, AT(embedding) },
    { "min_similarity", PARAM_NUMBER, AT(min_similarity), .min = -1, .max = 1 },
    { 0 }
};
static const struct param watch_params[] = {
    { "query", PARAM_GROUP, .group = query_params },
    { 0 }
};

static void watch_ready(struct task *t)
{
    struct request *rq = t->rq;
    size_t bytes = rq->ep->dimension * sizeof(float);
    struct standing *s = request_alive(rq) ? malloc(sizeof *s + bytes) : NULL;
    if (!s) {
        reply_drop(rq);
        task_free(t);
        return;
    }
    *s = (struct standing){ t->ms->standing, rq->conn, (uint32_t)t->c.count, t->c.min_similarity };
    memcpy(s->vector, t->vector, bytes);
    t->ms->standing = s;
    endpoint_watched(rq, s->query_id);
    task_free(t);
}

void memory_watch(struct request *rq, uint32_t query_id)
{
    struct call c = { .count = query_id,
                      .min_similarity = embedder_min_similarity(rq->ep->embedder) };
    struct task *t = task_new(rq, watch_params, &c);
    if (!t) return;
    if (!t->c.embedding.n && !t->c.text.len)
        task_error(t, REPLY_MISSING_FIELD, "Missing required field: query.text");
    else task_embed(t, watch_ready, true);
}

void memory_unwatch(struct endpoint *ep, struct conn_ref conn)
{
    struct memory_service *ms = ep->app;
    for (struct standing **p = &ms->standing, *s; (s = *p);) {
        bool his = s->conn.slot == conn.slot && s->conn.generation == conn.generation;
        if (his) {
            *p = s->next;
            free(s);
        } else {
            p = &s->next;
        }
    }
}

void memory_match(struct memory_service *ms, const struct memory *m)
{
    static char text[131072];            /* a memory of the greatest size, every byte escaped */
    for (const struct standing *s = ms->standing; s; s = s->next) {
        double cosine = cosine_clamp(cosine_exact(s->vector, m->vector, ms->ep.dimension));
        if (cosine < s->min_similarity) continue;
        struct json_out out = json_out(text, sizeof text);
        json_open(&out, '{');
        member_int(&out, "query_id", s->query_id);
        memory_member(ms, m, MEMORY_PLAIN, &out);
        member_double(&out, "similarity", cosine);
        json_close(&out, '}');
        if (!out.full)
            endpoint_event_to(&ms->ep, s->conn, EVENT_MATCH, (struct slice){text, out.len});
    }
}
