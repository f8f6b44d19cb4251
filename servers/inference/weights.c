#include "weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../log.h"
#include "config_file.h"

#define TOKENIZER_MAX (64u << 20)

const char *const weights_part_name[PARTS] = {
    "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "intermediate.dense", "output.dense",
};
const char *const weights_norm_name[2] = { "attention.output.LayerNorm", "output.LayerNorm" };

bool weights_skip(struct slice *name, const char *head)
{
    size_t n = strlen(head);
    if (name->len < n || memcmp(name->p, head, n) != 0) return false;
    name->p += n;
    name->len -= n;
    return true;
}

uint32_t weights_in(const struct model *m, enum part part)
{
    return part == DOWN ? m->intermediate : m->hidden;
}

uint32_t weights_out(const struct model *m, enum part part)
{
    return part == UP ? m->intermediate : m->hidden;
}

/* Reading: errors are sticky, the first one is kept; nothing is found or read after it. */
struct reader {
    struct weights *w;
    struct fault *f;
    const char *prefix;
    bool failed;
    size_t used;            /* bytes of the arena given out; before it is there, wanted */
    size_t seen;            /* tensors taken from encoder. and embeddings. */
    struct fingerprint fingerprint; /* of what was read so far */
    float *rows;            /* [width][ld] one panel of a float matrix */
    int8_t *bytes;          /* [width][ld] the same as int8 */
};

/* The tensor of a name (second name: what older files call it), of a checked shape. */
static const struct tensor *find(struct reader *r, const char *name, const char *old,
                                 uint64_t rows, uint64_t cols)
{
    char full[160];
    if (r->failed) return NULL;
    snprintf(full, sizeof full, "%s%s", r->prefix, name);
    const struct tensor *t = safetensors_find(&r->w->file, full);
    if (!t && old) {
        snprintf(full, sizeof full, "%s%s", r->prefix, old);
        t = safetensors_find(&r->w->file, full);
    }
    if (!t) {
        fault_set(r->f, 65, "%s: tensor %s%s is missing", r->w->file.path, r->prefix, name);
        r->failed = true;
        return NULL;
    }
    r->seen++;
    r->failed = tensor_check(&r->w->file, t, rows, cols, r->f) != 0;
    return r->failed ? NULL : t;
}

/* Room in the arena for n floats (or whatever takes as much), 64-byte aligned; in the
 * first pass, which only counts, NULL. */
static void *room(struct reader *r, uint64_t bytes)
{
    size_t at = r->used;
    if (r->failed) return NULL;
    if (bytes > SIZE_MAX / 2 - at - 64) {
        fault_set(r->f, 71, "%s: too large for this machine", r->w->file.path);
        r->failed = true;
        return NULL;
    }
    r->used += ((size_t)bytes + 63) / 64 * 64;
    return r->w->arena ? r->w->arena + at : NULL;
}

/* Elements of a tensor, once each and in one order: hashed and checked while they are in
 * the cache. out NULL: only that. */
static bool take(struct reader *r, const struct tensor *t, uint64_t first, size_t n, float *out)
{
    if (r->failed) return false;
    fingerprint_bytes(&r->fingerprint, t->data + first * t->element_bytes, n * t->element_bytes);
    if (out ? tensor_floats(t, first, n, out) : tensor_finite(t, first, n)) return true;
    tensor_bad(&r->w->file, t, "holds a number that is not finite", r->f);
    r->failed = true;
    return false;
}

/* A vector of n elements, padded with zeros. */
static void read_vector(struct reader *r, const char *name, const char *old, uint32_t n,
                        float **out)
{
    const struct tensor *t = find(r, name, old, n, 0);
    *out = room(r, weights_padded(n) * sizeof **out);
    if (*out) take(r, t, 0, n, *out);
}

/* A table stays in the file: what is read later is looked at now. */
static const struct tensor *read_table(struct reader *r, const char *name, uint32_t rows)
{
    uint32_t cols = r->w->model.hidden;
    const struct tensor *t = find(r, name, NULL, rows, cols);
    for (uint32_t i = 0; r->w->arena && t && i < rows; i++)
        if (!take(r, t, (uint64_t)i * cols, cols, NULL)) return NULL;
    return t;
}

void weights_pack(const float *from, size_t ld, uint32_t rows, uint32_t in, uint32_t width,
                  float *to)
{
    for (uint32_t k = 0; k < in; k++, to += width) {
        for (uint32_t i = 0; i < rows; i++) to[i] = from[i * ld + k];
        for (uint32_t i = rows; i < width; i++) to[i] = 0;
    }
}

/* Rows [rows][ld] of int8, zeros behind their end, as one panel [in / group][width][group]. */
static void pack_int8(const int8_t *from, size_t ld, uint32_t rows, uint32_t in,
                      const struct kernels *k, int8_t *to)
{
    memset(to, 0, (size_t)k->width * ((in + k->group - 1) / k->group * k->group));
    for (uint32_t i = 0; i < in; i += k->group, to += k->width * k->group)
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t g = 0; g < k->group; g++) to[r * k->group + g] = from[r * ld + i + g];
}

/* Row length while a panel is packed: not a power of two, for the sake of the cache. */
static size_t panel_ld(uint32_t in)
{
    return weights_padded(in) + 16;
}

static void read_linear(struct reader *r, const char *name, enum part part, struct linear *l)
{
    struct weights *w = r->w;
    uint32_t width = w->kernels->width, group = w->kernels->group;
    l->in = weights_in(&w->model, part);
    l->out = weights_out(&w->model, part);
    const struct tensor *t = find(r, name, NULL, l->out, l->in);
    size_t panels = (l->out + width - 1) / width, ld = panel_ld(l->in);
    size_t depth = (l->in + group - 1) / group * group;
    l->weight = room(r, panels * width * (uint64_t)(w->int8 ? depth : 4ull * l->in));
    if (w->int8) {
        l->scale = room(r, panels * width * sizeof *l->scale);
        l->sum = room(r, panels * width * sizeof *l->sum);
    }
    for (uint32_t p = 0; l->weight && p < panels; p++) {
        uint32_t first = p * width, rows = l->out - first < width ? l->out - first : width;
        for (uint32_t i = 0; i < rows; i++) {
            float *row = r->rows + i * ld;
            if (!take(r, t, (uint64_t)(first + i) * l->in, l->in, row)) return;
            memset(row + l->in, 0, (ld - l->in) * sizeof *row);
            if (w->int8)
                w->kernels->quantize_weights(row, l->in, r->bytes + i * ld, &l->scale[first + i],
                                             &l->sum[first + i]);
        }
        if (w->int8)
            pack_int8(r->bytes, ld, rows, l->in, w->kernels, (int8_t *)l->weight + first * depth);
        else
            weights_pack(r->rows, ld, rows, l->in, width,
                         (float *)l->weight + (size_t)first * l->in);
    }
}

static void read_layer(struct reader *r, uint32_t i)
{
    struct layer *l = &r->w->layer[i];
    char name[100], old[100];
    for (enum part part = 0; part < PARTS; part++) {
        snprintf(name, sizeof name, "encoder.layer.%u.%s.weight", i, weights_part_name[part]);
        read_linear(r, name, part, &l->part[part]);
        snprintf(name, sizeof name, "encoder.layer.%u.%s.bias", i, weights_part_name[part]);
        read_vector(r, name, NULL, l->part[part].out, &l->part[part].bias);
    }
    for (int k = 0; k < 2; k++) {
        snprintf(name, sizeof name, "encoder.layer.%u.%s.weight", i, weights_norm_name[k]);
        snprintf(old, sizeof old, "encoder.layer.%u.%s.gamma", i, weights_norm_name[k]);
        read_vector(r, name, old, r->w->model.hidden, &l->gamma[k]);
        snprintf(name, sizeof name, "encoder.layer.%u.%s.bias", i, weights_norm_name[k]);
        snprintf(old, sizeof old, "encoder.layer.%u.%s.beta", i, weights_norm_name[k]);
        read_vector(r, name, old, r->w->model.hidden, &l->beta[k]);
    }
}

/* All tensors once: first (without an arena) to check shapes and count, then to pack. */
static int read_all(struct reader *r)
{
    struct weights *w = r->w;
    const struct model *m = &w->model;
    r->used = 0;
    r->seen = 0;
    w->words = read_table(r, "embeddings.word_embeddings.weight", m->vocabulary);
    w->positions = read_table(r, "embeddings.position_embeddings.weight", m->positions);
    const struct tensor *t = find(r, "embeddings.token_type_embeddings.weight", NULL, m->types,
                                  m->hidden);
    float *types = room(r, (uint64_t)m->types * m->hidden * sizeof *types);
    w->type = room(r, weights_padded(m->hidden) * sizeof *types);
    if (w->type && take(r, t, 0, (size_t)m->types * m->hidden, types))
        memcpy(w->type, types, m->hidden * sizeof *types);
    read_vector(r, "embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma", m->hidden,
                &w->gamma);
    read_vector(r, "embeddings.LayerNorm.bias", "embeddings.LayerNorm.beta", m->hidden, &w->beta);
    for (uint32_t i = 0; i < m->layers && !r->failed; i++) read_layer(r, i);
    return r->failed ? -1 : 0;
}

/* Tensors of the encoder that the configuration does not know mean that the two do not
 * belong together; heads of other tasks beside it do no harm. */
static int check_unknown(struct reader *r)
{
    const struct safetensors *s = &r->w->file;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        struct slice name = s->tensor[i].name;
        if (!weights_skip(&name, r->prefix) || slice_is(name, "embeddings.position_ids")) continue;
        n += weights_skip(&name, "encoder.") || weights_skip(&name, "embeddings.");
    }
    if (n == r->seen) return 0;
    return fault_set(r->f, 65,
                     "%s: %zu tensors that config.json does not call for (more than %u layers?)",
                     s->path, n - r->seen, r->w->model.layers);
}

/* Configuration and tokenizer; the tensors follow as they are read. */
static int begin_fingerprint(struct reader *r, const char *dir)
{
    static const char *const files[] = { "vocab.txt", "tokenizer_config.json", "tokenizer.json" };
    const struct model *m = &r->w->model;
    uint32_t eps;
    memcpy(&eps, &m->eps, sizeof eps);
    fingerprint_init(&r->fingerprint);
    const uint64_t numbers[] = { m->hidden,    m->layers,  m->heads,      m->intermediate,
                                 m->positions, m->types,   m->vocabulary, eps,
                                 m->act,       m->pooling, m->max_tokens };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        fingerprint_number(&r->fingerprint, "config", numbers[i]);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t len = 0;
        char *text = config_read(dir, files[i], TOKENIZER_MAX, &len);
        if (!text && errno != ENOENT)
            return fault_set(r->f, 65, "%s/%s: %s", dir, files[i], strerror(errno));
        if (text) fingerprint_add(&r->fingerprint, files[i], text, len);
        free(text);
    }
    return 0;
}

static int allocate(struct reader *r)
{
    struct weights *w = r->w;
    uint32_t deepest = w->model.intermediate > w->model.hidden ? w->model.intermediate
                                                               : w->model.hidden;
    size_t huge = (size_t)2 << 20, bytes = (r->used + huge - 1) / huge * huge;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    r->rows = malloc(w->kernels->width * panel_ld(deepest) * sizeof *r->rows);
    r->bytes = malloc(w->kernels->width * panel_ld(deepest));
    if (p == MAP_FAILED || !r->rows || !r->bytes) {
        if (p != MAP_FAILED) munmap(p, bytes);
        return fault_set(r->f, 71, "%s: no memory for %zu MB of weights", w->file.path,
                         bytes >> 20);
    }
#ifdef MADV_HUGEPAGE
    madvise(p, bytes, MADV_HUGEPAGE);
#endif
    w->arena = p;
    w->arena_bytes = bytes;
    return 0;
}

static int read_weights(struct weights *w, const char *dir, struct fault *f)
{
    struct reader r = { .w = w, .f = f, .prefix = "" };
    if (safetensors_find(&w->file, "bert.embeddings.word_embeddings.weight")) r.prefix = "bert.";
    int bad = read_all(&r) || check_unknown(&r) || allocate(&r) || begin_fingerprint(&r, dir) ||
        read_all(&r);
    fingerprint_end(&r.fingerprint, w->fingerprint);
    free(r.rows);
    free(r.bytes);
    return bad ? -1 : 0;
}

int weights_open(struct weights *w, const char *dir, bool int8, struct fault *f)
{
    char path[1024];
    memset(w, 0, sizeof *w);
    w->kernels = kernels_best();
    w->int8 = int8;
    if (model_read(&w->model, dir, f)) return -1;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    if (safetensors_map(&w->file, path, f)) return -1;
    if (!(w->layer = calloc(w->model.layers, sizeof *w->layer)))
        return fault_set(f, 71, "%s: out of memory", path);
    if (read_weights(w, dir, f)) return -1;
    /* What was packed need not be resident twice; the tables come back from the page cache. */
    madvise((void *)(uintptr_t)w->file.file, w->file.size, MADV_DONTNEED);
    return 0;
}

void weights_close(struct weights *w)
{
    if (w->arena) munmap(w->arena, w->arena_bytes);
    free(w->layer);
    safetensors_close(&w->file);
    w->arena = NULL;
    w->layer = NULL;
}
