/* Commands of the inference endpoint, SPEC 4.3: vectors, similarity, models and adapters. */
#include "servers/offsets.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "servers/inference/work.h"
#include "servers/log.h"
#include "servers/memory/cosine.h"

#define TEXTS_MAX 256           /* of one embeddings command */

/* ---- embeddings */

struct embeddings { struct slice text, adapter; bool normalize, truncate; int64_t base64; };

static const struct param embeddings_config[] = {
    { "normalize",       PARAM_BOOL, .at = offsetof(struct embeddings, normalize) },
    { "truncate",        PARAM_BOOL, .at = offsetof(struct embeddings, truncate) },
    { "encoding_format", PARAM_ENUM, .at = offsetof(struct embeddings, base64),
      .words = "float|base64" },
    { 0 }
};
static const struct param embeddings_params[] = {
    { "text",    PARAM_ANY,   .at = offsetof(struct embeddings, text), .required = true },
    { "adapter", PARAM_TEXT,  .at = offsetof(struct embeddings, adapter) },
    { "config",  PARAM_GROUP, .group = embeddings_config },
    { 0 }
};

static bool read_text(struct request *rq, struct json *in, struct slice *out)
{
    if (in->type != JSON_STRING)
        return reply_error(rq, REPLY_INVALID_PARAMETER, "Invalid parameter: text (a string, or a "
                           "list of at most %d)", TEXTS_MAX);
    *out = json_slice(in);
    return work_text(rq, "text", out);
}

/* The strings of a string or list; how many, or -1 after an error reply. */
static long read_texts(struct request *rq, struct slice raw, struct slice out[TEXTS_MAX])
{
    struct json in;
    long n = 0;
    if (json_before(&in, raw) != JSON_ARRAY) return read_text(rq, &in, out) ? 1 : -1;
    json_enter(&in);
    for (; json_next(&in) > JSON_END; n++) {
        if (n == TEXTS_MAX) in.type = JSON_NULL;    /* one too many is as wrong as no string */
        if (!read_text(rq, &in, out + (n < TEXTS_MAX ? n : 0))) return -1;
    }
    return n;
}

static void put_tokens(struct json_out *out, const struct embed_request *ask)
{
    member_open(out, "tokens", '[');
    for (size_t i = 0; i < ask->n; i++) json_put_int(out, ask->tokens[i]);
    json_close(out, ']');
    member_open(out, "truncated", '[');
    for (size_t i = 0; i < ask->n; i++) json_put_bool(out, ask->truncated[i]);
    json_close(out, ']');
}

void put_embeddings(struct json_out *out, const struct request *rq,
                    const struct embed_request *ask, struct slice adapter, bool base64)
{
    size_t dimension = rq->ep->dimension;
    member_open(out, "embeddings", '[');
    for (size_t i = 0; i < ask->n; i++)
        put_vector(out, ask->vector + i * dimension, dimension, base64);
    json_close(out, ']');
    member_count(out, "count", ask->n);
    member_count(out, "dimension", dimension);
    member_text(out, "model", embedder_name(rq->ep->embedder));
    json_put_key(out, "adapter");
    if (adapter.p) json_put_str(out, adapter.p, adapter.len);
    else json_put_null(out);
    member_bool(out, "normalized", ask->normalize);
    put_tokens(out, ask);
    member_double(out, "processing_time_ms", request_ms(rq));
}

static void embeddings_reply(struct work *w)
{
    const struct embeddings *p = w->own;
    struct json_out *out = reply_begin(w->rq);
    put_embeddings(out, w->rq, &w->ask, p->adapter, p->base64);
    reply_end(w->rq);
}

static void on_embeddings(struct request *rq)
{
    struct embeddings p = { .normalize = true, .truncate = true };
    struct slice text[TEXTS_MAX];
    int adapter;
    long n;
    if (!params_read(rq, embeddings_params, &p)) return;
    if ((n = read_texts(rq, p.text, text)) < 0) return;
    if (!work_adapter(rq, p.adapter, &adapter)) return;
    struct work *w = work_new(rq, (size_t)n, sizeof p, embeddings_reply);
    if (!w) return;
    memcpy(w->text, text, (size_t)n * sizeof *text);
    memcpy(w->own, &p, sizeof p);
    w->ask.adapter = adapter;
    w->ask.normalize = p.normalize;
    w->ask.truncate = p.truncate;
    work_submit(w);
}

/* ---- similarity */

struct similarity { struct slice text1, text2, adapter; };

static const struct param similarity_params[] = {
    { "text1",   PARAM_TEXT, .at = offsetof(struct similarity, text1), .required = true },
    { "text2",   PARAM_TEXT, .at = offsetof(struct similarity, text2), .required = true },
    { "adapter", PARAM_TEXT, .at = offsetof(struct similarity, adapter) },
    { 0 }
};

static void similarity_reply(struct work *w)
{
    size_t dimension = w->rq->ep->dimension;
    double s = cosine_clamp(cosine_exact(w->ask.vector, w->ask.vector + dimension, dimension));
    struct json_out *out = reply_begin(w->rq);
    member_double(out, "similarity", s);
    put_tokens(out, &w->ask);
    reply_end(w->rq);
}

static void on_similarity(struct request *rq)
{
    struct similarity p = {0};
    int adapter;
    if (!params_read(rq, similarity_params, &p)) return;
    if (!work_text(rq, "text1", &p.text1) || !work_text(rq, "text2", &p.text2)
        || !work_adapter(rq, p.adapter, &adapter)) return;
    struct work *w = work_new(rq, 2, 0, similarity_reply);
    if (!w) return;
    w->text[0] = p.text1;
    w->text[1] = p.text2;
    w->ask.adapter = adapter;
    work_submit(w);
}

/* ---- models and adapters */

static void on_models(struct request *rq)
{
    const struct embedder *e = rq->ep->embedder;
    struct json_out *out = reply_begin(rq);
    member_open(out, "models", '[');
    json_open(out, '{');
    member_text(out, "name", embedder_name(e));
    json_put_key(out, "fingerprint"), put_fingerprint(out, embedder_fingerprint(e));
    member_int(out, "dimension", embedder_dimension(e));
    member_int(out, "max_tokens", embedder_max_tokens(e));
    member_text(out, "dtype", embedder_dtype(e));
    json_close(out, '}');
    json_close(out, ']');
    reply_end(rq);
}

static void put_adapter(struct json_out *out, const struct embedder_adapter *a)
{
    member_text(out, "name", a->name);
    json_put_key(out, "fingerprint"), put_fingerprint(out, a->fingerprint);
    member_int(out, "rank", a->rank);
    member_double(out, "alpha", a->alpha);
    member_open(out, "targets", '[');
    for (const char *t = a->targets; *t; t += strlen(t) + 1) json_put_text(out, t);
    json_close(out, ']');
}

static void on_adapters(struct request *rq)
{
    const struct embedder *e = rq->ep->embedder;
    struct embedder_adapter a;
    struct json_out *out = reply_begin(rq);
    member_open(out, "adapters", '[');
    for (int i = -1; embedder_adapter_next(e, &i, &a);) {
        json_open(out, '{');
        put_adapter(out, &a);
        json_close(out, '}');
    }
    json_close(out, ']');
    reply_end(rq);
}

static void reply_adapter(struct request *rq, const struct embedder_adapter *a)
{
    put_adapter(reply_begin(rq), a);
    reply_end(rq);
}

struct load { struct slice name, path; };

static const struct param load_params[] = {
    { "name", PARAM_TEXT, .at = offsetof(struct load, name), .required = true },
    { "path", PARAM_TEXT, .at = offsetof(struct load, path), .required = true },
    { 0 }
};
static const struct param unload_params[] = {
    { "name", PARAM_TEXT, .at = offsetof(struct load, name), .required = true },
    { 0 }
};

static void bad_adapter(struct request *rq, const char *why)
{
    reply_error(rq, REPLY_BAD_ADAPTER, "Cannot load adapter: %s", why);
}

static void loaded(struct embed_load *l, int index, const struct fault *f)
{
    struct request *rq = l->user;
    struct inference_service *is = rq->ep->app;
    struct embedder_adapter a;
    is->loads--;
    if (index >= 0 && embedder_adapter_get(rq->ep->embedder, index, &a)) reply_adapter(rq, &a);
    else bad_adapter(rq, f->why);
    free(l);
}

/* Is the open directory below base, wherever links led? Goes up until it is met; closes fd. */
static bool below(int fd, const struct stat *base)
{
    struct stat at, last = {0};
    bool met = false;
    for (int depth = 0; fd >= 0 && !met && depth < PATH_MAX; depth++, last = at) {
        if (fstat(fd, &at)) break;
        if (depth && at.st_dev == last.st_dev && at.st_ino == last.st_ino) break;   /* the root */
        met = at.st_dev == base->st_dev && at.st_ino == base->st_ino;
        int up = met ? -1 : openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(fd);
        fd = up;
    }
    if (fd >= 0) close(fd);
    return met;
}

/* The directory of path under dir, in out[PATH_MAX]; NULL, or why there is none. What lies
 * outside is not told from what does not exist. */
static const char *resolve(const char *dir, struct slice path, char *out)
{
    struct stat base;
    if (!dir) return "no --adapter-dir was given";
    int n = snprintf(out, PATH_MAX, "%s/", dir);
    if (n < 0 || (size_t)n + path.len >= PATH_MAX) return "the path is too long";
    if (memchr(path.p, 0, path.len)) return "the path holds a NUL";
    memcpy(out + n, path.p, path.len);
    out[(size_t)n + path.len] = 0;
    if (stat(dir, &base)) return "--adapter-dir cannot be read";
    return below(open(out, O_PATH | O_DIRECTORY | O_CLOEXEC), &base)
           ? NULL : "there is no such directory inside --adapter-dir";
}

static void on_load_adapter(struct request *rq)
{
    struct inference_service *is = rq->ep->app;
    struct load p = {0};
    char dir[PATH_MAX];
    struct fault f = {0};
    if (!params_read(rq, load_params, &p)) return;
    if (!p.name.len || p.name.len > EMBED_NAME || memchr(p.name.p, 0, p.name.len)) {
        reply_error(rq, REPLY_INVALID_PARAMETER,
                    "Invalid parameter: name (1 to %d bytes, none of them NUL)", EMBED_NAME);
        return;
    }
    if (is->loads == EMBED_ADAPTERS) {      /* each has a file open, its client or not */
        reply_busy(rq, 1000);
        return;
    }
    const char *why = resolve(rq->ep->options->adapter_dir, p.path, dir);
    if (why) {
        bad_adapter(rq, why);
        return;
    }
    struct embed_load *l = calloc(1, sizeof *l);
    if (!l) {
        reply_error(rq, REPLY_INTERNAL, "Internal error");
        return;
    }
    l->user = rq;
    l->done = loaded;
    memcpy(l->name, p.name.p, p.name.len);
    if (embedder_begin_load(rq->ep->embedder, l, dir, &f)) {
        bad_adapter(rq, f.why);
        free(l);
    } else is->loads++;
}

static void on_unload_adapter(struct request *rq)
{
    struct load p = {0};
    struct embedder_adapter a;
    int index;
    if (!params_read(rq, unload_params, &p) || !work_adapter(rq, p.name, &index)) return;
    if (index < 0 || !embedder_adapter_get(rq->ep->embedder, index, &a)) return;
    put_adapter(reply_begin(rq), &a);
    embedder_unload_adapter(rq->ep->embedder, index);
    reply_end(rq);                  /* rq is gone, and those behind it may have been carried out */
}

/* ---- the endpoint */

static const struct command commands[] = {
    { "embeddings",     on_embeddings,     CMD_LATER },
    { "process",        process_run,       CMD_LATER },
    { "similarity",     on_similarity,     CMD_LATER },
    { "models",         on_models,         0 },
    { "adapters",       on_adapters,       0 },
    { "load_adapter",   on_load_adapter,   CMD_LATER },
    { "unload_adapter", on_unload_adapter, 0 },
    { NULL, NULL, 0 }
};

static void put_stats(struct endpoint *ep, struct json_out *out)
{
    struct embedder_adapter a;
    struct embedder_stats s;
    embedder_stats(ep->embedder, &s);
    member_count(out, "embeddings_total", s.texts);
    member_count(out, "tokens_total", s.tokens);
    member_count(out, "queue", s.queue);
    member_double(out, "avg_embedding_ms", s.avg_ms);
    member_open(out, "adapters", '[');
    for (int i = -1; embedder_adapter_next(ep->embedder, &i, &a);) json_put_text(out, a.name);
    json_close(out, ']');
}

static int64_t wall(struct endpoint *ep)
{
    (void)ep;
    return time_now();
}

void inference_open(struct inference_service *is)
{
    is->ep.app = is;
    is->ep.wall = wall;
    is->ep.commands = commands;
    is->ep.stats = put_stats;
    is->ep.events = EVENT_STATS;
}
