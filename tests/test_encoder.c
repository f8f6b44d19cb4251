// uses: servers/inference/encoder.c servers/inference/weights.c servers/inference/kernels.c servers/inference/processor.c servers/inference/lora.c servers/inference/lora_config.c servers/inference/model.c servers/inference/config_file.c servers/inference/safetensors.c servers/inference/fingerprint.c servers/crc32c.c servers/log.c json.c number.c utf8.c base64.c
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../servers/inference/encoder.h"
#include "../servers/inference/kernels.h"
#include "../servers/inference/lora.h"
#include "../servers/log.h"

#define TINY "tests/models/tiny"
#define MADE "build/models"

/* One line of a golden.txt: see tests/models/make.py. */
struct golden {
    char adapter[32];
    int normalize;
    uint32_t n, *ids;
    double *vector; /* [H] */
};

struct goldens {
    struct golden *item;
    size_t n;
};

static struct goldens read_goldens(const char *dir, uint32_t dimension)
{
    char path[600];
    struct goldens g = { 0 };
    snprintf(path, sizeof path, "%s/golden.txt", dir);
    FILE *f = fopen(path, "r");
    cr_assert(f != NULL, "%s", path);
    struct golden c;
    while (fscanf(f, "%31s %d %u", c.adapter, &c.normalize, &c.n) == 3) {
        c.ids = malloc(c.n * sizeof *c.ids);
        c.vector = malloc(dimension * sizeof *c.vector);
        for (uint32_t i = 0; i < c.n; i++) cr_assert_eq(fscanf(f, "%u", &c.ids[i]), 1);
        for (uint32_t i = 0; i < dimension; i++) cr_assert_eq(fscanf(f, "%lf", &c.vector[i]), 1);
        g.item = realloc(g.item, (g.n + 1) * sizeof *g.item);
        g.item[g.n++] = c;
    }
    fclose(f);
    return g;
}

static void free_goldens(struct goldens *g)
{
    for (size_t i = 0; i < g->n; i++) {
        free(g->item[i].ids);
        free(g->item[i].vector);
    }
    free(g->item);
}

static struct encoder *open_model(const char *dir, bool int8)
{
    struct fault f = { 0 };
    struct encoder *e = encoder_open(dir, int8, 1024, &f);
    cr_assert(e != NULL, "%s", f.why);
    return e;
}

/* How far a vector is from the reference: the greatest difference of a component, for
 * vectors scaled to unit length; and 1 - cosine. */
struct distance {
    double component, angle;
};

static struct distance distance(const float *a, const double *b, size_t n)
{
    double worst = 0, aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - b[i]));
        aa += (double)a[i] * (double)a[i];
        bb += b[i] * b[i];
        ab += (double)a[i] * b[i];
    }
    return (struct distance){ worst / sqrt(bb), 1 - ab / sqrt(aa * bb) };
}

static void run(struct encoder *e, const struct encoder_text *texts, size_t n)
{
    cr_assert_eq(encoder_begin(e, texts, n), 0);
    while (encoder_step(e)) { }
}

static struct lora *load_adapter(const struct encoder *e, const char *dir, const char *name)
{
    struct fault f = { 0 };
    char path[600];
    if (!strcmp(name, "-")) return NULL;
    snprintf(path, sizeof path, "%s/adapters/%s", dir, name);
    struct lora *l = lora_load(e, path, &f);
    cr_assert(l != NULL, "%s", f.why);
    return l;
}

/* The worst of all cases of a model, computed as `how` does it. */
static struct distance worst_of(const char *dir, const char *golden, bool int8)
{
    struct encoder *e = open_model(dir, int8);
    uint32_t h = encoder_dimension(e);
    struct goldens g = read_goldens(golden, h);
    float *v = malloc(h * sizeof *v);
    struct distance worst = { 0, 0 };
    for (size_t i = 0; i < g.n; i++) {
        struct golden *c = &g.item[i];
        if (strcmp(dir, golden) != 0 && strcmp(c->adapter, "-") != 0) continue;
        struct lora *l = load_adapter(e, dir, c->adapter);
        run(e, &(struct encoder_text){ c->ids, c->n, c->normalize, l, v }, 1);
        struct distance d = distance(v, c->vector, h);
        if (getenv("VERBOSE"))
            printf("%s %s T=%u: %.3g, 1 - cosine %.3g\n", dir, c->adapter, c->n, d.component, d.angle);
        worst.component = fmax(worst.component, d.component);
        worst.angle = fmax(worst.angle, d.angle);
        lora_free(l);
    }
    cr_assert(g.n > 0);
    free(v);
    free_goldens(&g);
    encoder_close(e);
    return worst;
}

static bool made(const char *name)
{
    char path[600];
    snprintf(path, sizeof path, MADE "/%s/golden.txt", name);
    return access(path, R_OK) == 0;
}

static const char *model_path(const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, MADE "/%s", name);
    return path;
}

Test(encoder, tiny_model_in_the_tree_gives_the_vectors_of_the_reference)
{
    for (const struct kernels *const *k = kernels_all(); *k; k++) {
        cr_assert(kernels_choose((*k)->name));
        struct distance d = worst_of(TINY, TINY, false);
        cr_assert(d.component <= 1e-6, "%s: %g", (*k)->name, d.component);
    }
    kernels_choose(NULL);
}

Test(encoder, vectors_are_those_of_the_reference)
{
    static const char *const names[] = { "odd", "f16", "bf16", "bert", "pooler", "cls", "max", "tanh",
                                         "pytorch_tanh", "relu", "eps", "minilm" };
    for (const struct kernels *const *k = kernels_all(); *k; k++) {
        cr_assert(kernels_choose((*k)->name));
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            if (!made(names[i])) continue;
            struct distance d = worst_of(model_path(names[i]), model_path(names[i]), false);
            cr_assert(d.component <= 2e-6, "%s with %s: %g", names[i], (*k)->name, d.component);
        }
    }
    kernels_choose(NULL);
}

Test(encoder, int8_keeps_the_direction)
{
    for (const struct kernels *const *k = kernels_all(); *k; k++) {
        cr_assert(kernels_choose((*k)->name));
        struct distance d = worst_of(TINY, TINY, true);
        cr_assert(d.angle <= 2e-3, "tiny with %s: cosine is %f", (*k)->name, 1 - d.angle);
        if (!made("minilm")) continue;
        d = worst_of(model_path("minilm"), MADE "/minilm", true);
        cr_assert(d.angle <= 1e-3, "minilm with %s: cosine is %f", (*k)->name, 1 - d.angle);
    }
    kernels_choose(NULL);
}

Test(encoder, bfloat16_weights_keep_the_direction)
{
    if (!made("minilm-bf16")) return;
    struct distance d = worst_of(MADE "/minilm-bf16", MADE "/minilm", false);
    cr_assert(d.angle <= 5e-4, "cosine is %f", 1 - d.angle);
}
