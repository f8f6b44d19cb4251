#include "servers/offsets.h"
#include "lora.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../http.h"
#include "../log.h"
#include "encoder_parts.h"
#include "lora_config.h"

#define FILE_MAX ((uint64_t)256 << 20)
#define PIECE    ((size_t)256 << 10)
#define TWICE    "is there twice, under another prefix"

struct lora {
    struct encoder *encoder;
    const struct weights *base;
    struct lora_config config;
    int fd;
    char path[256];             /* for messages; cut when longer */
    uint8_t *file;              /* [size] while it is read, up to at, and packed; NULL: ready */
    size_t size, at;
    struct safetensors tensors;
    size_t next;                /* tensor to be packed, */
    uint32_t panel;             /* and panel of it */
    struct lora_part *part;     /* [layers][PARTS] */
    float **beta;               /* [norms] of lora_beta() */
    uint32_t greatest;
    char targets[128];
    struct fingerprint hash;    /* of what was read so far */
    uint8_t fingerprint[FINGERPRINT_BYTES];
};

static uint32_t norms(const struct lora *l)
{
    return 1 + 2 * l->base->model.layers;
}

static int open_tensors(struct lora *l, const char *dir, struct fault *f)
{
    char path[PATH_MAX], pickle[PATH_MAX];
    struct stat st;
    snprintf(l->path, sizeof l->path, "%s/adapter_model.safetensors", dir);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    snprintf(pickle, sizeof pickle, "%s/adapter_model.bin", dir);
    if ((l->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0) {
        if (errno == ENOENT && !stat(pickle, &st))
            return fault_set(f, 65, "%s: is a pickle, which can run code; convert it with PEFT: "
                             "save_pretrained(dir, safe_serialization=True)", pickle);
        return fault_set(f, 65, "%s: %s", l->path, strerror(errno));
    }
    if (fstat(l->fd, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size > FILE_MAX)
        return fault_set(f, 65, "%s: is no file of at most 256 MB", l->path);
    l->size = (size_t)st.st_size;
    if (!(l->file = malloc(l->size + 1))) return fault_set(f, 71, "%s: out of memory", l->path);
    return 0;
}

struct lora *lora_open(struct encoder *e, const char *dir, struct fault *f)
{
    struct lora *l = calloc(1, sizeof *l);
    if (!l) {
        fault_set(f, 71, "%s: out of memory", dir);
        return NULL;
    }
    l->fd = -1;
    l->encoder = e;
    l->base = encoder_weights(e);
    l->part = calloc((size_t)l->base->model.layers * PARTS, sizeof *l->part);
    l->beta = calloc(norms(l), sizeof *l->beta);
    if (!l->part || !l->beta) fault_set(f, 71, "%s: out of memory", dir);
    else if (!lora_config_read(&l->config, dir, f) && !open_tensors(l, dir, f)) return l;
    lora_free(l);
    return NULL;
}

static void drop_file(struct lora *l)
{
    safetensors_close(&l->tensors);
    free(l->file);
    l->file = NULL;
    if (l->fd >= 0) close(l->fd);
    l->fd = -1;
}

void lora_free(struct lora *l)
{
    if (!l) return;
    drop_file(l);
    for (size_t i = 0; l->part && i < (size_t)l->base->model.layers * PARTS; i++) {
        free(l->part[i].a.weight);
        free(l->part[i].a.bias);
        free(l->part[i].b.weight);
        free(l->part[i].b.bias);
        free(l->part[i].bias);
    }
    free(l->part);
    for (uint32_t i = 0; l->beta && i < norms(l); i++) free(l->beta[i]);
    free(l->beta);
    lora_config_free(&l->config);
    free(l);
}

static void begin_fingerprint(struct lora *l)
{
    const struct lora_patterns *both[2] = { &l->config.ranks, &l->config.alphas };
    struct fingerprint *fp = &l->hash;
    fingerprint_init(fp);
    fingerprint_number(fp, "rank", l->config.rank);
    fingerprint_number(fp, "alpha", (uint64_t)(l->config.alpha * 65536));
    fingerprint_number(fp, "root", l->config.root);
    for (int i = 0; i < 2; i++) {
        if (both[i]->n) fingerprint_number(fp, i ? "alphas" : "ranks", both[i]->n);
        for (size_t k = 0; k < both[i]->n; k++)
            fingerprint_number(fp, both[i]->item[k].name,
                               (uint64_t)(both[i]->item[k].value * 65536));
    }
}

/* Always whole pieces, so that the fingerprint does not depend on how read() falls short. */
static int read_piece(struct lora *l, struct fault *f)
{
    size_t want = l->size - l->at < PIECE ? l->size - l->at : PIECE;
    if (!l->at) begin_fingerprint(l);
    for (size_t n = 0; n < want;) {
        ssize_t got = read(l->fd, l->file + l->at + n, want - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fault_set(f, 65, "%s: %s", l->path, strerror(errno));
        if (!got) return fault_set(f, 65, "%s: was cut off while it was read", l->path);
        n += (size_t)got;
    }
    fingerprint_bytes(&l->hash, l->file + l->at, want);
    l->at += want;
    return 1;
}

static int read_table(struct lora *l, struct fault *f)
{
    if (safetensors_read(&l->tensors, l->file, l->size, l->path, f)) return -1;
    if (!l->tensors.n) return fault_set(f, 65, "%s: holds no tensors", l->path);
    fingerprint_end(&l->hash, l->fingerprint);
    return 1;
}

/* What a tensor's name says. */
struct name {
    char module[96];        /* encoder.layer.N.PART */
    uint32_t layer, norm;
    enum part part;
    enum { LORA_A, LORA_B, BIAS, BETA, UNUSED } kind;
};

static bool ends(struct slice *s, const char *tail)
{
    size_t n = strlen(tail);
    if (s->len < n || memcmp(s->p + s->len - n, tail, n) != 0) return false;
    s->len -= n;
    return true;
}

/* The bias of a norm. */
static bool parse_beta(const struct lora *l, struct slice s, struct name *out)
{
    out->kind = BETA;
    out->norm = 0;
    if (slice_is(s, "embeddings.LayerNorm.bias")) return true;
    while (++out->norm < norms(l)) {
        char name[96];
        snprintf(name, sizeof name, "encoder.layer.%u.%s.bias", (out->norm - 1) / 2,
                 weights_norm_name[(out->norm - 1) % 2]);
        if (slice_is(s, name)) return true;
    }
    return false;
}

/* The path of a linear layer. */
static bool parse_part(const struct lora *l, struct slice s, struct name *out)
{
    for (out->part = 0; out->part < PARTS; out->part++) {
        for (out->layer = 0; out->layer < l->base->model.layers; out->layer++) {
            snprintf(out->module, sizeof out->module, "encoder.layer.%u.%s", out->layer,
                     weights_part_name[out->part]);
            if (slice_is(s, out->module)) return true;
        }
    }
    return false;
}

/* Take a tensor's name apart; false: it is none that we have a place for. PEFT writes what
 * is the pooler's as well, which plays no part: its LoRA where "dense" or all linear layers
 * are meant, its bias where `bias` is "all". */
static bool parse(const struct lora *l, struct slice s, struct name *out)
{
    bool all = l->config.biases == BIASES_ALL;
    weights_skip(&s, "base_model.model.");
    weights_skip(&s, "bert.");
    if (all && parse_beta(l, s, out)) return true;
    if (ends(&s, ".lora_A.weight")) out->kind = LORA_A;
    else if (ends(&s, ".lora_B.weight")) out->kind = LORA_B;
    else if (l->config.biases && (ends(&s, ".base_layer.bias") || ends(&s, ".bias")))
        out->kind = all && weights_skip(&s, "pooler.") ? UNUSED : BIAS;
    else return false;
    if (out->kind < BIAS && slice_is(s, "pooler.dense")) out->kind = UNUSED;
    return out->kind == UNUSED || parse_part(l, s, out);
}

/* Keep the last word of a module's path once. */
static void add_target(struct lora *l, const char *module)
{
    const char *word = strrchr(module, '.') + 1;
    char *p = l->targets;
    for (; *p; p += strlen(p) + 1)
        if (!strcmp(p, word)) return;
    size_t n = strlen(word) + 1;
    if ((size_t)(p - l->targets) + n < sizeof l->targets) memcpy(p, word, n);
}

/* Keep a vector that stands in for one of the base's. */
static int keep_vector(struct lora *l, const struct tensor *t, uint32_t n, float **to,
                       struct fault *f)
{
    if (*to) return tensor_bad(&l->tensors, t, TWICE, f);
    if (tensor_check(&l->tensors, t, n, 0, f)) return -1;
    if (!(*to = calloc(weights_padded(n), sizeof **to)))
        return fault_set(f, 71, "%s: out of memory", l->path);
    return tensor_read(&l->tensors, t, 0, n, *to, f);
}

/* Check the tensor of a matrix and make room for its panels. */
static int begin_matrix(struct lora *l, const struct tensor *t, const struct name *n,
                        struct linear *to, struct fault *f)
{
    const struct model *m = &l->base->model;
    uint32_t rank = lora_config_rank(&l->config, n->module), width = l->base->kernels->width;
    uint32_t rows = n->kind == LORA_A ? rank : weights_out(m, n->part);
    uint32_t cols = n->kind == LORA_A ? weights_in(m, n->part) : rank;
    size_t padded = (rows + width - 1) / width * width;
    if (to->weight) return tensor_bad(&l->tensors, t, TWICE, f);
    if (tensor_check(&l->tensors, t, rows, cols, f)) return -1;
    add_target(l, n->module);
    *to = (struct linear){ .in = cols, .out = rows, .weight = calloc(padded, cols * sizeof(float)),
                           .bias = calloc(padded, sizeof(float)) };
    l->greatest = rank > l->greatest ? rank : l->greatest;
    return to->weight && to->bias ? 0 : fault_set(f, 71, "%s: out of memory", l->path);
}

/* false: one of n numbers overflows. */
static bool scale_all(float *v, size_t n, float scale)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        v[i] *= scale;
        finite &= isfinite(v[i]) != 0;
    }
    return finite;
}

/* The next panel of a matrix; behind the last one l->panel is 0 again. */
static int pack_panel(struct lora *l, const struct tensor *t, const struct name *n,
                      struct fault *f)
{
    struct lora_part *p = &l->part[n->layer * PARTS + n->part];
    struct linear *to = n->kind == LORA_A ? &p->a : &p->b;
    if (!l->panel && begin_matrix(l, t, n, to, f)) return -1;
    uint32_t width = l->base->kernels->width, first = l->panel * width;
    uint32_t rows = to->out - first < width ? to->out - first : width;
    size_t at = (size_t)first * to->in, floats = (size_t)rows * to->in;
    float scale = n->kind == LORA_A ? 1 : (float)lora_config_scale(&l->config, n->module);
    float *from = malloc(floats * sizeof *from);
    int r = from ? tensor_read(&l->tensors, t, at, floats, from, f)
                 : fault_set(f, 71, "%s: out of memory", l->path);
    if (!r && !scale_all(from, floats, scale))
        r = tensor_bad(&l->tensors, t, "overflows times alpha / rank", f);
    if (!r) weights_pack(from, to->in, rows, to->in, width, (float *)to->weight + at);
    l->panel = first + width < to->out ? l->panel + 1 : 0;
    free(from);
    return r;
}

static int pack_tensor(struct lora *l, const struct tensor *t, const struct name *n,
                       struct fault *f)
{
    const struct model *m = &l->base->model;
    if (n->kind == UNUSED) return 0;
    if (n->kind == BETA) return keep_vector(l, t, m->hidden, &l->beta[n->norm], f);
    if (n->kind == BIAS)
        return keep_vector(l, t, weights_out(m, n->part),
                           &l->part[n->layer * PARTS + n->part].bias, f);
    return pack_panel(l, t, n, f);
}

/* Every A has its B. */
static int check_pairs(struct lora *l, struct fault *f)
{
    bool any = false;
    for (size_t i = 0; i < (size_t)l->base->model.layers * PARTS; i++) {
        if (!l->part[i].a.weight != !l->part[i].b.weight)
            return fault_set(f, 65, "%s: encoder.layer.%zu.%s has only one of lora_A and lora_B",
                             l->path, i / PARTS, weights_part_name[i % PARTS]);
        any |= l->part[i].b.weight != NULL;
    }
    return any ? 0 : fault_set(f, 65, "%s: holds no lora_A and lora_B", l->path);
}

static int pack_next(struct lora *l, struct fault *f)
{
    struct name name;
    if (l->next == l->tensors.n) {
        if (check_pairs(l, f)) return -1;
        if (!encoder_reserve(l->encoder, l->greatest))
            return fault_set(f, 71, "%s: out of memory", l->path);
        drop_file(l);
        return 0;
    }
    const struct tensor *t = &l->tensors.tensor[l->next];
    if (!parse(l, t->name, &name))
        return tensor_bad(&l->tensors, t, "is no LoRA of a linear layer of this model", f);
    if (pack_tensor(l, t, &name, f)) return -1;
    if (!l->panel) l->next++;
    return 1;
}

/* The file is read in pieces, its table checked, each tensor packed panel by panel. */
int lora_step(struct lora *l, struct fault *f)
{
    if (!l->file) return 0;
    if (l->at < l->size) return read_piece(l, f);
    return l->tensors.n ? pack_next(l, f) : read_table(l, f);
}

struct lora *lora_load(struct encoder *e, const char *dir, struct fault *f)
{
    struct lora *l = lora_open(e, dir, f);
    int r = l ? 1 : -1;
    while (r > 0) r = lora_step(l, f);
    if (!r) return l;
    lora_free(l);
    return NULL;
}

const struct lora_part *lora_part(const struct lora *l, uint32_t layer, enum part part)
{
    const struct lora_part *p = &l->part[layer * PARTS + part];
    return p->b.weight || p->bias ? p : NULL;
}

const float *lora_beta(const struct lora *l, uint32_t norm) { return l->beta[norm]; }
uint32_t lora_greatest_rank(const struct lora *l) { return l->greatest; }
uint32_t lora_rank(const struct lora *l) { return l->config.rank; }
double lora_alpha(const struct lora *l) { return l->config.alpha; }
const char *lora_targets(const struct lora *l) { return l->targets; }
const uint8_t *lora_fingerprint(const struct lora *l) { return l->fingerprint; }
