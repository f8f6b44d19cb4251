// uses: servers/inference/encoder.c servers/inference/weights.c servers/inference/kernels.c servers/inference/processor.c servers/inference/lora.c servers/inference/lora_config.c servers/inference/model.c servers/inference/config_file.c servers/inference/safetensors.c servers/inference/fingerprint.c servers/crc32c.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
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
#include "model_dir.h"

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

static struct lora *load_adapter(struct encoder *e, const char *dir, const char *name)
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
            printf("%s %s T=%u: %.3g, 1 - cosine %.3g\n", dir, c->adapter, c->n, d.component,
                   d.angle);
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

/* Models that tests/models made. SLOW: an emulated machine, where large ones take too long. */
static bool made(const char *name)
{
    char path[600];
    if (getenv("SLOW") && strstr(name, "minilm")) return false;
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
    static const char *const names[] = {
        "odd", "f16",  "bf16",         "bert", "pooler", "cls",
        "max", "tanh", "pytorch_tanh", "relu", "eps",    "minilm"
    };
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

/* Texts of a batch: every length, with and without adapters, from a fixed sequence. */
struct batch {
    struct encoder_text texts[40];
    uint32_t ids[40][48];
    float *vectors; /* [n][H] */
    size_t n;
};

static struct batch *make_batch(const struct encoder *e, struct lora *const *adapters, size_t n)
{
    struct batch *b = calloc(1, sizeof *b);
    uint32_t x = 1, h = encoder_dimension(e);
    b->n = n;
    b->vectors = calloc(n * h, sizeof *b->vectors);
    for (size_t i = 0; i < n; i++) {
        uint32_t len = 1 + (uint32_t)(i * 17 % encoder_max_tokens(e));
        for (uint32_t t = 0; t < len; t++) {
            x = x * 1103515245u + 12345u;
            b->ids[i][t] = (x >> 16) % encoder_vocabulary(e);
        }
        b->texts[i] = (struct encoder_text){ b->ids[i], len, i % 5 != 0,
                                             adapters ? adapters[i % 4] : NULL,
                                             b->vectors + i * h };
    }
    return b;
}

static void free_batch(struct batch *b)
{
    free(b->vectors);
    free(b);
}

Test(encoder, a_vector_is_the_same_bit_for_bit_in_any_slice_and_any_company)
{
    static const size_t granules[] = { 1, 1000, 100000, 10000000, SIZE_MAX };
    for (const struct kernels *const *k = kernels_all(); *k; k++) {
        for (int int8 = 0; int8 < 2; int8++) {
            cr_assert(kernels_choose((*k)->name));
            struct encoder *e = open_model(TINY, int8);
            struct lora *adapters[4] = { NULL, load_adapter(e, TINY, "qv"),
                                         load_adapter(e, TINY, "all"),
                                         load_adapter(e, TINY, "pattern") };
            struct batch *b = make_batch(e, adapters, 40);
            size_t size = b->n * encoder_dimension(e) * sizeof(float);
            float *alone = malloc(size);
            for (size_t i = 0; i < b->n; i++) run(e, &b->texts[i], 1);
            memcpy(alone, b->vectors, size);
            for (size_t g = 0; g < sizeof granules / sizeof *granules; g++) {
                encoder_set_granule(e, granules[g]);
                memset(b->vectors, 0, size);
                run(e, b->texts, b->n);
                cr_assert_eq(memcmp(alone, b->vectors, size), 0, "%s, int8 %d, granule %zu",
                             (*k)->name, int8, granules[g]);
            }
            for (int i = 1; i < 4; i++) lora_free(adapters[i]);
            free(alone);
            free_batch(b);
            encoder_close(e);
        }
    }
    kernels_choose(NULL);
}

Test(encoder, every_text_of_a_mixed_batch_is_right)
{
    struct encoder *e = open_model(TINY, false);
    uint32_t h = encoder_dimension(e);
    struct goldens g = read_goldens(TINY, h);
    struct encoder_text texts[32];
    struct lora *l[32];
    float v[32][64];
    cr_assert(g.n > 10 && g.n <= 32);
    for (size_t i = 0; i < g.n; i++) {
        l[i] = load_adapter(e, TINY, g.item[i].adapter);
        texts[i] = (struct encoder_text){ g.item[i].ids, g.item[i].n, g.item[i].normalize, l[i],
                                          v[i] };
    }
    run(e, texts, g.n);
    for (size_t i = 0; i < g.n; i++) {
        struct distance d = distance(v[i], g.item[i].vector, h);
        cr_assert(d.component <= 1e-6, "case %zu: %g", i, d.component);
        lora_free(l[i]);
    }
    free_goldens(&g);
    encoder_close(e);
}

Test(encoder, an_adapter_changes_the_vector_and_only_of_its_own_text)
{
    struct encoder *e = open_model(TINY, false);
    struct lora *l = load_adapter(e, TINY, "qv");
    uint32_t ids[] = { 2, 9, 10, 3 };
    float plain[24], with[2][24];
    run(e, &(struct encoder_text){ ids, 4, true, NULL, plain }, 1);
    run(e, (struct encoder_text[]){ { ids, 4, true, l, with[0] }, { ids, 4, true, NULL, with[1] } },
        2);
    cr_assert_eq(memcmp(plain, with[1], sizeof plain), 0);
    cr_assert(memcmp(plain, with[0], sizeof plain) != 0);
    lora_free(l);
    encoder_close(e);
}

Test(encoder, what_it_cannot_take_is_refused_and_changes_nothing)
{
    struct encoder *e = open_model(TINY, false);
    uint32_t ids[64] = { 2 }, bad[2] = { 2, 64 };
    float v[24] = { 0 }, w[24];
    struct encoder_text good = { ids, 3, true, NULL, v }, many[30];
    const struct encoder_text refused[] = {
        { ids, 0, true, NULL, w }, { ids, 41, true, NULL, w }, { bad, 2, true, NULL, w },
        { (uint32_t[]){ UINT32_MAX }, 1, true, NULL, w },
    };
    cr_assert_eq(encoder_begin(e, &good, 1), 0);
    for (size_t i = 0; i < 4; i++) cr_assert_eq(encoder_begin(e, &refused[i], 1), -1, "row %zu", i);
    cr_assert_eq(encoder_begin(e, &good, 0), -1);
    for (size_t i = 0; i < 30; i++) many[i] = (struct encoder_text){ ids, 40, true, NULL, w };
    cr_assert_eq(encoder_begin(e, many, 26), -1);   /* 1,040 tokens of at most 1,024 */
    while (encoder_step(e)) { }
    cr_assert(v[0] != 0);
    cr_assert_eq(encoder_step(e), false);
    cr_assert_eq(encoder_begin(e, many, 25), 0);
    encoder_close(e);
}

Test(encoder, a_batch_that_is_begun_anew_forgets_the_old)
{
    struct encoder *e = open_model(TINY, false);
    uint32_t ids[3] = { 2, 7, 3 };
    float never[24] = { 0 }, v[24], again[24];
    run(e, &(struct encoder_text){ ids, 3, true, NULL, v }, 1);
    encoder_set_granule(e, 1);
    encoder_begin(e, &(struct encoder_text){ ids, 2, true, NULL, never }, 1);
    for (int i = 0; i < 20; i++) cr_assert(encoder_step(e));
    run(e, &(struct encoder_text){ ids, 3, true, NULL, again }, 1);
    cr_assert_arr_eq(v, again, sizeof v);
    for (int i = 0; i < 24; i++) cr_assert_eq(never[i], 0.0f);
    encoder_close(e);
}

Test(encoder, says_what_it_is)
{
    struct encoder *e = open_model(TINY, false), *q = open_model(TINY, true);
    cr_assert_eq(encoder_dimension(e), 24u);
    cr_assert_eq(encoder_max_tokens(e), 40u);
    cr_assert_eq(encoder_vocabulary(e), 64u);
    cr_assert_eq(encoder_max_batch(e), (size_t)1024);
    cr_assert_str_eq(encoder_dtype(e), "F32");
    cr_assert_str_eq(encoder_dtype(q), "I8");
    cr_assert_str_eq(encoder_kernels(e), kernels_best()->name);
    cr_assert_arr_eq(encoder_fingerprint(e), encoder_fingerprint(q), ENCODER_FINGERPRINT);
    encoder_close(e);
    encoder_close(q);
    encoder_close(NULL);
}

static const char *const files[] = { "config.json", "modules.json", "1_Pooling/config.json",
                                     "vocab.txt", "sentence_bert_config.json",
                                     "tokenizer_config.json", "model.safetensors", NULL };

/* The fingerprint of a copy of the small model with one thing changed. */
static void edited_fingerprint(const char *file, const char *from, const char *to, uint8_t out[32])
{
    char *dir = dir_copy(TINY, files);
    dir_edit(dir, file, from, to);
    struct encoder *e = open_model(dir, false);
    memcpy(out, encoder_fingerprint(e), 32);
    encoder_close(e);
    dir_remove(dir);
}

Test(encoder, fingerprint_tells_models_apart)
{
    static const struct { const char *file, *from, *to; bool same; } rows[] = {
        { "config.json", "64", "64 ", true },
        { "config.json", "\"gelu\"", "\"relu\"", false },
        { "config.json", "1e-12", "1e-6", false },
        { "1_Pooling/config.json", NULL, "{\"pooling_mode\":\"cls\"}", false },
        { "sentence_bert_config.json", "40", "39", false },
        { "vocab.txt", "##a", "##A", false },
        { "tokenizer_config.json", "true", "false", false },
        { "tokenizer.json", NULL, "{}", false },
    };
    uint8_t plain[32], other[32];
    edited_fingerprint("config.json", "64", "64", plain);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        edited_fingerprint(rows[i].file, rows[i].from, rows[i].to, other);
        cr_assert_eq(memcmp(plain, other, 32) == 0, rows[i].same, "%s: %s", rows[i].file,
                     rows[i].to);
    }
}

Test(encoder, fingerprint_sees_every_tensor)
{
    size_t len = 0;
    uint8_t plain[32], other[32];
    edited_fingerprint("config.json", "64", "64", plain);
    char *text = dir_read(TINY, "model.safetensors", &len), *dir = dir_copy(TINY, files);
    for (size_t at = 4; at < len - 5000; at += 996) {
        struct fault f;
        text[len - at] ^= 1;    /* the last bit of some float */
        dir_put(dir, "model.safetensors", text, len);
        struct encoder *e = encoder_open(dir, false, 10, &f);
        text[len - at] ^= 1;
        cr_assert(e != NULL, "%s", f.why);
        memcpy(other, encoder_fingerprint(e), 32);
        encoder_close(e);
        cr_assert(memcmp(plain, other, 32) != 0, "%zu bytes from the end", at);
    }
    dir_remove(dir);
    free(text);
}

/* Every way to break the weights. */
static const struct { const char *file, *from, *to, *why; } damages[] = {
    { "model.safetensors", NULL, NULL, "No such file" },
    { "model.safetensors", NULL, "", "is empty" },
    { "model.safetensors", NULL, "x", "too short" },
    { "model.safetensors", "\"F32\"", "\"I32\"", "dtype is I32; weights must be" },
    { "model.safetensors", "\"F32\"", "\"F33\"", "unknown dtype" },
    { "model.safetensors", "[64,24]", "[24,64]", "shape is [24,64], not [64,24]" },
    { "model.safetensors", "[24]", "[12]", "does not fit its data_offsets" },
    { "model.safetensors", "[64,24]", "[64,25]", "does not fit its data_offsets" },
    { "model.safetensors", "embeddings.word_embeddings", "embeddings.ward_embeddings", "word_embeddings.weight is missing" },
    { "model.safetensors", "embeddings.LayerNorm.bias", "embeddings.LayerNorm.bios", "embeddings.LayerNorm.bias is missing" },
    { "model.safetensors", "layer.1.output.dense.bias", "layer.1.output.dense.boas", "layer.1.output.dense.bias is missing" },
    { "model.safetensors", "layer.1.intermediate", "layer.0.intermediate", "is there twice" },
    { "model.safetensors", "\"format\":\"pt\"", "\"format\":1234", "no string" },
    { "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "does not call for" },
    { "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "encoder.layer.2.attention.self.query.weight is missing" },
    { "config.json", "\"vocab_size\": 64", "\"vocab_size\": 65", "shape is [64,24], not [65,24]" },
    { "config.json", "\"intermediate_size\": 40", "\"intermediate_size\": 48", "shape is [40,24], not [48,24]" },
    { "config.json", "\"max_position_embeddings\": 40", "\"max_position_embeddings\": 64", "position_embeddings.weight: shape" },
    { "config.json", "\"type_vocab_size\": 2", "\"type_vocab_size\": 1", "token_type_embeddings.weight: shape" },
};

Test(encoder, broken_models_are_refused_with_one_line)
{
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        struct fault f = { 0, "" };
        char *dir = dir_copy(TINY, files);
        dir_edit(dir, damages[i].file, damages[i].from, damages[i].to);
        struct encoder *e = encoder_open(dir, i % 2, 10, &f);
        cr_assert(e == NULL, "row %zu was taken", i);
        cr_assert(strstr(f.why, damages[i].why) && strstr(f.why, dir), "row %zu: %s", i, f.why);
        cr_assert(f.exit == 65 && !strchr(f.why, '\n'), "row %zu: %s", i, f.why);
        dir_remove(dir);
    }
}

Test(encoder, no_weight_may_be_other_than_finite)
{
    size_t len = 0;
    char *text = dir_read(TINY, "model.safetensors", &len), *dir = dir_copy(TINY, files);
    size_t data = 8 + ((size_t)(uint8_t)text[0] | (size_t)(uint8_t)text[1] << 8);
    for (size_t at = data; at < len; at += 4 * 61) {
        struct fault f = { 0, "" };
        char saved[4];
        memcpy(saved, text + at, 4);
        memcpy(text + at, at % 8 ? "\0\0\x80\x7f" : "\1\0\xc0\xff", 4);
        dir_put(dir, "model.safetensors", text, len);
        memcpy(text + at, saved, 4);
        struct encoder *e = encoder_open(dir, false, 10, &f);
        cr_assert(e == NULL && strstr(f.why, "not finite") && strstr(f.why, "tensor e"),
                  "at %zu: %s", at, f.why);
    }
    dir_remove(dir);
    free(text);
}

Test(encoder, a_file_cut_anywhere_is_refused)
{
    size_t len = 0;
    char *text = dir_read(TINY, "model.safetensors", &len), *dir = dir_copy(TINY, files);
    for (size_t n = 0; n < len; n += 1 + n / 9) {
        struct fault f = { 0, "" };
        dir_put(dir, "model.safetensors", text, n);
        cr_assert_null(encoder_open(dir, false, 10, &f));
        cr_assert(f.exit == 65 && strstr(f.why, "model.safetensors"), "%s", f.why);
    }
    dir_remove(dir);
    free(text);
}
