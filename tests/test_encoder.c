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

/* Greatest difference of a component, for vectors scaled to unit length. */
static double worst_difference(const float *a, const double *b, size_t n)
{
    double worst = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - b[i]));
        squares += b[i] * b[i];
    }
    return worst / sqrt(squares);
}

/* The greatest difference of all cases of a model, with these kernels. */
static double worst_of(const char *dir, bool int8)
{
    struct fault f = { 0 };
    struct encoder *e = open_model(dir, int8);
    uint32_t h = encoder_dimension(e);
    struct goldens g = read_goldens(dir, h);
    float *v = malloc(h * sizeof *v);
    double worst = 0;
    for (size_t i = 0; i < g.n; i++) {
        struct golden *c = &g.item[i];
        struct lora *l = NULL;
        if (strcmp(c->adapter, "-") != 0) {
            char path[600];
            snprintf(path, sizeof path, "%s/adapters/%s", dir, c->adapter);
            l = lora_load(e, path, &f);
            cr_assert(l != NULL, "%s", f.why);
        }
        struct encoder_text t = { c->ids, c->n, c->normalize, l, v };
        cr_assert_eq(encoder_begin(e, &t, 1), 0);
        while (encoder_step(e)) { }
        double d = worst_difference(v, c->vector, h);
        if (getenv("VERBOSE"))
            printf("%s %s T=%u norm=%d: %.3g\n", dir, c->adapter, c->n, c->normalize, d);
        worst = fmax(worst, d);
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

Test(encoder, vectors_are_those_of_the_reference)
{
    static const char *const names[] = { "tiny", "odd", "f16", "bf16", "bert", "pooler", "cls", "max", "tanh",
                                         "pytorch_tanh", "relu", "eps", "minilm" };
    for (const struct kernels *const *k = kernels_all(); *k; k++) {
        cr_assert(kernels_choose((*k)->name));
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            char path[600];
            snprintf(path, sizeof path, MADE "/%s", names[i]);
            if (!made(names[i])) continue;
            double worst = worst_of(path, false);
            cr_assert(worst <= 2e-6, "%s with %s: %g", names[i], (*k)->name, worst);
        }
    }
    kernels_choose(NULL);
}
