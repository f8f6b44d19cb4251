// uses: servers/inference/lora.c servers/inference/lora_config.c servers/inference/encoder.c servers/inference/weights.c servers/inference/kernels.c servers/inference/processor.c servers/inference/model.c servers/inference/config_file.c servers/inference/safetensors.c servers/inference/fingerprint.c servers/crc32c.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
#include "test.h"

#include <math.h>
#include <stdint.h>

#include "../servers/inference/encoder.h"
#include "../servers/inference/encoder_parts.h"
#include "../servers/inference/lora.h"
#include "../servers/inference/lora_config.h"
#include "../servers/log.h"
#include "model_dir.h"

#define TINY     "tests/models/tiny"
#define ADAPTERS TINY "/adapters"
#define CONFIG   "adapter_config.json"
#define TENSORS  "adapter_model.safetensors"

static const char *const files[] = { CONFIG, TENSORS, NULL };

static struct encoder *open_tiny(void)
{
    struct fault f = { 0 };
    struct encoder *e = encoder_open(TINY, false, 200, &f);
    cr_assert(e != NULL, "%s", f.why);
    return e;
}

static bool has_target(const struct lora *l, const char *word)
{
    for (const char *p = lora_targets(l); *p; p += strlen(p) + 1)
        if (!strcmp(p, word)) return true;
    return false;
}

Test(lora, adapters_say_what_they_are)
{
    struct encoder *e = open_tiny();
    struct fault f;
    struct lora *qv = lora_load(e, ADAPTERS "/qv", &f), *all = lora_load(e, ADAPTERS "/all", &f);
    cr_assert(qv && all, "%s", f.why);
    cr_assert_eq(lora_rank(qv), 4u);
    cr_assert_float_eq(lora_alpha(qv), 8, 1e-9);
    cr_assert(has_target(qv, "query") && has_target(qv, "value") && !has_target(qv, "key") &&
              !has_target(qv, "dense"));
    cr_assert(has_target(all, "query") && !has_target(all, "key") && has_target(all, "value") &&
              has_target(all, "dense") && !has_target(all, "LayerNorm"));
    cr_assert(memcmp(lora_fingerprint(qv), lora_fingerprint(all), ENCODER_FINGERPRINT) != 0);
    lora_free(qv);
    lora_free(all);
    lora_free(NULL);
    encoder_close(e);
}

Test(lora, is_read_in_steps_and_fails_in_any_of_them_without_a_leak)
{
    struct encoder *e = open_tiny();
    struct fault f;
    int steps = 0, r;
    struct lora *l = lora_open(e, ADAPTERS "/pattern", &f);
    while ((r = lora_step(l, &f)) == 1) steps++;
    cr_assert_eq(r, 0);
    cr_assert(steps > 10);
    cr_assert_eq(lora_step(l, &f), 0);
    lora_free(l);
    for (int stop = 0; stop < steps; stop++) {
        l = lora_open(e, ADAPTERS "/pattern", &f);
        for (int i = 0; i < stop; i++) lora_step(l, &f);
        lora_free(l);
    }
    encoder_close(e);
}

/* Every way to break an adapter; why NULL: it is taken. */
static const struct { const char *adapter, *file, *from, *to, *why; } rows[] = {
    { "qv", CONFIG, "0.1", "0.5", NULL },
    { "qv", CONFIG, "\"use_dora\": false", "\"use_dora\": null", NULL },
    { "qv", CONFIG, "\"modules_to_save\": null", "\"modules_to_save\": [], \"loftq_config\": {}, \"x\": {\"y\": [1]}", NULL },
    { "qv", CONFIG, "\"modules_to_save\": null", "\"modules_to_save\": [ ], \"loftq_config\": {\n}, \"lora_bias\": -0.0, \"arrow_config\": \"\"", NULL },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"arrow_config\": \" \"", "arrow_config is not supported" },
    { "qv", CONFIG, "\"target_modules\": [\"query\", \"value\"]", "\"target_modules\": \".*(query|value)\"", NULL },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 9, \"rank_pattern\": {\"query\": 4, \"value\": 4}", NULL },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 9, \"rank_pattern\": {\"self.query\": 4, \"attention.self.value\": 4}", NULL },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"rank_pattern\": null, \"alpha_pattern\": {}", NULL },

    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"init_lora_weights\": true, \"alora_invocation_tokens\": null", NULL },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"init_lora_weights\": \"gaussian\"", NULL },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"init_lora_weights\": \"eva\", \"eva_config\": {\"rho\": 2.0}", NULL },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"init_lora_weights\": true, \"corda_config\": {\"corda_method\": \"ipm\"}", NULL },

    { "qv", CONFIG, NULL, NULL, "adapter_config.json: no such file" },
    { "qv", CONFIG, NULL, "", "no JSON" },
    { "qv", CONFIG, NULL, "[]", "is no JSON object" },
    { "qv", CONFIG, NULL, "{}", "peft_type is missing" },
    { "qv", CONFIG, "LORA", "IA3", "peft_type \"IA3\" is not supported, only LORA" },
    { "qv", CONFIG, "\"LORA\"", "1", "peft_type" },
    { "qv", CONFIG, "\"use_dora\": false", "\"use_dora\": true", "use_dora is not supported" },
    { "qv", CONFIG, "\"modules_to_save\": null", "\"modules_to_save\": [\"pooler\"]", "modules_to_save is not supported" },
    { "qv", CONFIG, "\"fan_in_fan_out\": false", "\"fan_in_fan_out\": true", "fan_in_fan_out is not supported" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"loftq_config\": {\"bits\": 4}", "loftq_config is not supported" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"use_qalora\": true", "use_qalora is not supported" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"lora_bias\": true", "lora_bias is not supported" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"layer_replication\": [[0,1]]", "layer_replication is not supported" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"alora_invocation_tokens\": [5]", "alora_invocation_tokens is not supported" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"use_bdlora\": {\"nblocks\": 2}", "use_bdlora is not supported" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"init_lora_weights\": \"pissa_niter_16\"",
      "init_lora_weights \"pissa_niter_16\" is not supported" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"init_lora_weights\": \"OLoRA\"", "init_lora_weights \"OLoRA\" is" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"init_lora_weights\": \"corda\"", "init_lora_weights \"corda\" is" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"init_lora_weights\": \"loftq\"", "init_lora_weights \"loftq\" is" },
    { "qv", CONFIG, "\"bias\": \"none\"", "\"bias\": \"some\"", "bias \"some\" is not supported" },
    { "qv", CONFIG, "\"lora_alpha\": 8,", "", "lora_alpha is missing" },
    { "qv", CONFIG, "\"lora_alpha\": 8", "\"lora_alpha\": 0", "lora_alpha must be" },
    { "qv", CONFIG, "\"lora_alpha\": 8", "\"lora_alpha\": \"8\"", "lora_alpha must be" },
    { "qv", CONFIG, "\"r\": 4,", "", "r is missing" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 0", "r must be" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4097", "r must be" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 5", "shape is [4,24], not [5,24]" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"rank_pattern\": {\"value\": 3}", "value.lora_A.weight: shape is [4,24], not [3,24]" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"rank_pattern\": {\".*value\": 4}", "rank_pattern \".*value\" is not supported, only plain names" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"alpha_pattern\": {\"^value\": 4}", "alpha_pattern \"^value\" is not supported" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"alpha_pattern\": {\"\": 4}", "alpha_pattern" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"alpha_pattern\": {\"value\": -1}", "alpha_pattern must be" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"alpha_pattern\": [1]", "alpha_pattern must be" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"rank_pattern\": {\"value\": 1.5}", "rank_pattern must hold" },
    { "qv", CONFIG, "\"r\": 4", "\"r\": 4, \"rank_pattern\": {\"value\": 5000}", "rank_pattern must hold" },

    { "qv", TENSORS, NULL, NULL, "No such file" },
    { "qv", TENSORS, NULL, "", "too short" },
    { "qv", TENSORS, NULL, "\x02\0\0\0\0\0\0\0{}", "too short" },
    { "qv", TENSORS, "lora_A", "lora_C", "is no LoRA of a linear layer" },
    { "qv", TENSORS, "self.query", "self.queri", "is no LoRA of a linear layer" },
    { "qv", TENSORS, "layer.1", "layer.2", "is no LoRA of a linear layer" },
    { "qv", TENSORS, "layer.1", "layer.\\", "no JSON" },
    { "qv", TENSORS, "[4,24]", "[24,4]", "shape is [24,4], not [4,24]" },
    { "qv", TENSORS, "[4,24]", "[96]  ", "shape is [96], not [4,24]" },
    { "qv", TENSORS, "[4,24]", "[4,25]", "does not fit its data_offsets" },
    { "qv", TENSORS, "\"F32\"", "\"I32\"", "dtype is I32" },
    { "qv", TENSORS, "base_model.model.encoder.layer.0.attention.self.query.lora_A.weight",
      "base_model.model.embeddings.word_embeddings.lora_embedding_A.weight", "lora_embedding_A" },
    { "qv", TENSORS, "base_model.model.encoder.layer.0.attention.self.query.lora_A",
      "base_model.model.encoder.layer.0.attention.self.value.lora_A", "is there twice" },
    { "all", CONFIG, "\"all\"", "\"none\"", "is no LoRA of a linear layer" },
    { "all", CONFIG, "\"all\"", "\"lora_only\"", "embeddings.LayerNorm.bias: is no LoRA" },
    { "pattern", CONFIG, "\"lora_only\"", "\"all\"", NULL },
    { "pattern", CONFIG, "\"lora_only\"", "\"none\"", "is no LoRA of a linear layer" },
    { "pattern", TENSORS, "encoder.layer.0.attention.self.query.bias\"",
      "pooler.dense.bias\"                        ", "pooler.dense.bias: is no LoRA" },
    { "all", TENSORS, "base_layer.bias", "base_layer.bios", "is no LoRA" },
    { "all", TENSORS, "pooler.dense.bias", "pooler.tense.bias", NULL },
    { "all", TENSORS, "pooler.dense.bias", "poller.dense.bias", "poller.dense.bias: is no LoRA" },
    { "all", TENSORS, "pooler.dense.bias", "pooler.dense.bios", "pooler.dense.bios: is no LoRA" },
    { "all", TENSORS, "embeddings.LayerNorm.bias", "embeddings.LayerNorm.beta", "is no LoRA" },
    { "all", TENSORS, "embeddings.LayerNorm.bias", "embedding5.LayerNorm.bias", "is no LoRA" },
    { "all", TENSORS, "layer.1.output.LayerNorm", "layer.2.output.LayerNorm", "is no LoRA" },
    { "all", TENSORS, "1.attention.output.LayerNorm.bias", "1.attention.output.LayerNorm.bia5", "is no LoRA" },
    { "all", TENSORS, "bert.embeddings.LayerNorm.bias\":{\"dtype\":\"F32\",\"shape\":[24]",
      "embeddings.LayerNorm.bias\":{\"dtype\":\"F32\",\"shape\":[2,12]   ", "shape is [2,12], not [24]" },
    { "all", TENSORS, "bert.encoder.layer.1.output.LayerNorm.bias\"",
      "encoder.layer.0.output.LayerNorm.bias\"     ", "LayerNorm.bias: is there twice" },
};

Test(lora, broken_adapters_are_refused_by_name)
{
    struct encoder *e = open_tiny();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fault f = { 0, "" };
        char from[100];
        snprintf(from, sizeof from, ADAPTERS "/%s", rows[i].adapter);
        char *dir = dir_copy(from, files);
        dir_edit(dir, rows[i].file, rows[i].from, rows[i].to);
        struct lora *l = lora_load(e, dir, &f);
        const char *to = rows[i].to ? rows[i].to : "(no file)";
        if (!rows[i].why) cr_assert(l != NULL, "row %zu, %s: %s", i, to, f.why);
        else {
            cr_assert(l == NULL, "row %zu, %s was taken", i, to);
            cr_assert(strstr(f.why, rows[i].why) != NULL, "row %zu, %s: says %s", i, to, f.why);
            cr_assert(strstr(f.why, "/adapter_") != NULL, "row %zu, %s: names no file: %s", i, to,
                      f.why);
            cr_assert(f.exit == 65 && !strchr(f.why, '\n'), "row %zu: %s", i, f.why);
        }
        lora_free(l);
        dir_remove(dir);
    }
    encoder_close(e);
}

Test(lora, a_pickle_is_refused_with_a_word_on_how_to_convert)
{
    struct encoder *e = open_tiny();
    struct fault f;
    char *dir = dir_copy(ADAPTERS "/qv", files);
    dir_edit(dir, TENSORS, NULL, NULL);
    dir_put(dir, "adapter_model.bin", "PK", 2);
    cr_assert_null(lora_load(e, dir, &f));
    cr_assert(strstr(f.why, "adapter_model.bin") && strstr(f.why, "pickle") &&
                  strstr(f.why, "safe_serialization"),
              "%s", f.why);
    dir_remove(dir);
    encoder_close(e);
}

/* Change four bytes at the k-th float of a file's end. */
static void poke(const char *dir, size_t from_end, uint32_t bits)
{
    size_t len = 0;
    char *text = dir_read(dir, TENSORS, &len);
    for (size_t i = 0; i < 4; i++) text[len - 4 * from_end + i] = (char)(bits >> 8 * i);
    dir_put(dir, TENSORS, text, len);
    free(text);
}

Test(lora, numbers_must_be_finite_and_files_whole)
{
    struct encoder *e = open_tiny();
    struct fault f;
    for (size_t at = 1; at < 700; at += 50) {
        char *dir = dir_copy(ADAPTERS "/qv", files);
        poke(dir, at, at % 2 ? 0x7f800000 : 0x7fc00000);
        cr_assert_null(lora_load(e, dir, &f));
        cr_assert(strstr(f.why, "not finite") != NULL && strstr(f.why, "lora_") != NULL, "%s",
                  f.why);
        dir_remove(dir);
    }
    char *dir = dir_copy(ADAPTERS "/all", files);
    poke(dir, 1, 0x7f800000);
    cr_assert_null(lora_load(e, dir, &f));
    cr_assert(strstr(f.why, "LayerNorm.bias") && strstr(f.why, "not finite"), "%s", f.why);
    dir_remove(dir);
    size_t len = 0;
    char *text = dir_read(ADAPTERS "/qv", TENSORS, &len);
    dir = dir_copy(ADAPTERS "/qv", files);
    for (size_t n = 0; n < len; n += 1 + n / 20) {
        dir_put(dir, TENSORS, text, n);
        cr_assert_null(lora_load(e, dir, &f));
        cr_assert_eq(f.exit, 65);
    }
    dir_remove(dir);
    free(text);
    encoder_close(e);
}

Test(lora, one_matrix_without_the_other_is_refused)
{
    static const char json[] = "{\"encoder.layer.0.output.dense.lora_A.weight\":{\"dtype\":\"F32\","
                               "\"shape\":[1,40],\"data_offsets\":[0,160]}}";
    struct encoder *e = open_tiny();
    struct fault f;
    char *dir = dir_copy(ADAPTERS "/qv", files),
         file[8 + sizeof json - 1 + 160] = { sizeof json - 1 };
    memcpy(file + 8, json, sizeof json - 1);
    dir_put(dir, TENSORS, file, sizeof file);
    dir_edit(dir, CONFIG, "\"r\": 4", "\"r\": 1");
    cr_assert_null(lora_load(e, dir, &f));
    cr_assert(strstr(f.why, "encoder.layer.0.output.dense has only one of") != NULL, "%s", f.why);
    dir_remove(dir);
    encoder_close(e);
}

Test(lora, a_large_matrix_takes_a_step_for_each_of_its_panels)
{
    enum { RANK = 4096, A = RANK * 40 * 4, B = 24 * RANK * 4 };
    static const char json[] =
        "{\"encoder.layer.0.output.dense.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[4096,40],"
        "\"data_offsets\":[0,655360]},\"encoder.layer.0.output.dense.lora_B.weight\":{\"dtype\":"
        "\"F32\",\"shape\":[24,4096],\"data_offsets\":[655360,1048576]}}";
    static char file[8 + sizeof json - 1 + A + B];
    struct encoder *e = open_tiny();
    struct fault f;
    int steps = 0, r;
    file[0] = (char)((sizeof json - 1) & 0xff);
    file[1] = (char)((sizeof json - 1) >> 8);
    memcpy(file + 8, json, sizeof json - 1);
    char *dir = dir_copy(ADAPTERS "/qv", files);
    dir_put(dir, TENSORS, file, sizeof file);
    dir_edit(dir, CONFIG, "\"r\": 4", "\"r\": 4096");
    struct lora *l = lora_open(e, dir, &f);
    while ((r = lora_step(l, &f)) == 1) steps++;
    cr_assert_eq(r, 0, "%s", f.why);
    cr_assert_geq(steps, RANK / (int)KERNELS_PAD, "%d steps", steps);
    lora_free(l);
    dir_remove(dir);
    encoder_close(e);
}

Test(lora, what_is_the_pooler_s_plays_no_part)
{
    struct encoder *e = open_tiny();
    struct fault f = { 0, "" };
    char *dir = dir_copy(ADAPTERS "/qv", files);
    for (const char *m = "AB"; *m; m++) {
        char from[100], name[100], to[100];
        snprintf(from, sizeof from,
                 "\"base_model.model.encoder.layer.1.attention.self.value.lora_%c.weight\":", *m);
        snprintf(name, sizeof name, "\"base_model.model.pooler.dense.lora_%c.weight\":", *m);
        snprintf(to, sizeof to, "%-*s", (int)strlen(from), name);
        dir_edit(dir, TENSORS, from, to);
    }
    struct lora *l = lora_load(e, dir, &f);
    cr_assert_not_null(l, "%s", f.why);
    cr_assert(lora_part(l, 1, QUERY) && !lora_part(l, 1, VALUE));
    lora_free(l);
    dir_remove(dir);
    encoder_close(e);
}

Test(lora, rank_and_scale_follow_the_first_pattern_that_fits)
{
    struct lora_config c;
    struct fault f;
    char *dir = dir_copy(ADAPTERS "/qv", files);
    dir_edit(dir, CONFIG, "\"r\": 4",
             "\"r\": 4, \"rank_pattern\": {\"self.key\": 2, \"key\": 3, "
             "\"bert.encoder.layer.1.output.dense\": 8},"
             " \"alpha_pattern\": {\"dense\": 16, \"layer.0.attention.self.key\": 1}");
    cr_assert_eq(lora_config_read(&c, dir, &f), 0, "%s", f.why);
    static const struct { const char *module; uint32_t rank; double scale; } want[] = {
        { "encoder.layer.0.attention.self.query", 4, 2 },
        { "encoder.layer.0.attention.self.key", 2, 0.5 },
        { "encoder.layer.1.attention.self.key", 2, 4 },
        { "encoder.layer.1.attention.other.key", 3, 8 / 3.0 },
        { "encoder.layer.1.attention.self.monkey", 4, 2 },
        { "encoder.layer.1.output.dense", 8, 2 },
        { "encoder.layer.0.output.dense", 4, 4 },
        { "key", 3, 8 / 3.0 },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        cr_assert_eq(lora_config_rank(&c, want[i].module), want[i].rank, "%s", want[i].module);
        cr_assert_float_eq(lora_config_scale(&c, want[i].module), want[i].scale, 1e-12, "%s",
                           want[i].module);
    }
    c.root = true;
    cr_assert_float_eq(lora_config_scale(&c, "encoder.layer.0.attention.self.query"), 4, 1e-12);
    lora_config_free(&c);
    dir_remove(dir);
}

Test(lora, fingerprint_depends_on_weights_and_on_scale)
{
    struct encoder *e = open_tiny();
    struct fault f;
    struct lora *base = lora_load(e, ADAPTERS "/qv", &f), *same = lora_load(e, ADAPTERS "/qv", &f);
    cr_assert_arr_eq(lora_fingerprint(base), lora_fingerprint(same), ENCODER_FINGERPRINT);
    char *dir = dir_copy(ADAPTERS "/qv", files);
    poke(dir, 9, 0x3f800000);
    struct lora *other = lora_load(e, dir, &f);
    cr_assert(memcmp(lora_fingerprint(base), lora_fingerprint(other), ENCODER_FINGERPRINT) != 0);
    lora_free(other);
    dir_remove(dir);
    dir = dir_copy(ADAPTERS "/qv", files);
    dir_edit(dir, CONFIG, "\"r\": 4", "\"r\": 4, \"alpha_pattern\": {\"query\": 5}");
    other = lora_load(e, dir, &f);
    cr_assert(memcmp(lora_fingerprint(base), lora_fingerprint(other), ENCODER_FINGERPRINT) != 0);
    lora_free(other);
    dir_remove(dir);
    lora_free(base);
    lora_free(same);
    encoder_close(e);
}

Test(lora, fingerprint_tells_a_pattern_of_ranks_from_one_of_alphas)
{
    static const char *const kinds[2] = { "rank", "alpha" };
    struct encoder *e = open_tiny();
    struct fault f;
    uint8_t found[2][ENCODER_FINGERPRINT];
    for (int i = 0; i < 2; i++) {
        char *dir = dir_copy(ADAPTERS "/qv", files), to[80];
        snprintf(to, sizeof to, "\"r\": 4, \"%s_pattern\": {\"query\": 4}", kinds[i]);
        dir_edit(dir, CONFIG, "\"r\": 4", to);
        struct lora *l = lora_load(e, dir, &f);
        cr_assert_not_null(l, "%s", f.why);
        memcpy(found[i], lora_fingerprint(l), sizeof found[i]);
        lora_free(l);
        dir_remove(dir);
    }
    cr_assert(memcmp(found[0], found[1], sizeof found[0]) != 0);
    encoder_close(e);
}
