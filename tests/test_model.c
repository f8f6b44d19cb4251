// uses: servers/inference/model.c servers/inference/config_file.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
#include "test.h"

#include <math.h>

#include "../servers/inference/model.h"
#include "../servers/log.h"
#include "model_dir.h"

static const char *const files[] = { "config.json", "modules.json", "1_Pooling/config.json",
                                     "sentence_bert_config.json", "tokenizer_config.json", NULL };
#define TINY "tests/models/tiny"
#define C "config.json"
#define M "modules.json"
#define P "1_Pooling/config.json"
#define S "sentence_bert_config.json"
#define T "tokenizer_config.json"

Test(model, reads_what_the_files_say)
{
    struct model m;
    struct fault f;
    cr_assert_eq(model_read(&m, TINY, &f), 0, "%s", f.why);
    cr_assert_eq(m.hidden, 24u);
    cr_assert_eq(m.layers, 2u);
    cr_assert_eq(m.heads, 3u);
    cr_assert_eq(m.intermediate, 40u);
    cr_assert_eq(m.positions, 40u);
    cr_assert_eq(m.types, 2u);
    cr_assert_eq(m.vocabulary, 64u);
    cr_assert(fabsf(m.eps - 1e-12f) < 1e-15f);
    cr_assert_eq(m.act, ACT_GELU);
    cr_assert_eq(m.pooling, POOL_MEAN);
    cr_assert_eq(m.max_tokens, 40u);
}

/* One edit of one file, and what it must change; why NULL: it is taken, and `field` is it. */
enum field { ACT, POOL, MAX_TOKENS, TYPES, ANY };
static const struct {
    const char *file, *from, *to, *why;
    enum field field;
    uint32_t value;
} edits[] = {
    { C, "\"gelu\"", "\"gelu_new\"", NULL, ACT, ACT_GELU_TANH },
    { C, "\"gelu\"", "\"gelu_pytorch_tanh\"", NULL, ACT, ACT_GELU_TANH },
    { C, "\"gelu\"", "\"relu\"", NULL, ACT, ACT_RELU },
    { C, "\"hidden_act\": \"gelu\",", "", NULL, ACT, ACT_GELU },
    { C, "\"position_embedding_type\": \"absolute\"", "\"more\": [1,{}]", NULL, ANY, 0 },
    { C, "\"type_vocab_size\": 2,", "", NULL, TYPES, 2 },
    { C, "\"type_vocab_size\": 2", "\"type_vocab_size\": 7", NULL, TYPES, 7 },
    { C, "24", "24.0", NULL, ANY, 0 },
    { C, "1e-12", "0", NULL, ANY, 0 },
    { M, NULL, NULL, NULL, POOL, POOL_MEAN },
    { P, "\"pooling_mode_cls_token\": false", "\"pooling_mode_cls_token\": true", "several pooling modes", ANY, 0 },
    { P, "\"pooling_mode_mean_tokens\": true", "\"pooling_mode_mean_tokens\": false", "names no pooling mode", ANY, 0 },
    { P, NULL, "{\"pooling_mode\":\"mean\"}", NULL, POOL, POOL_MEAN },
    { P, NULL, "{\"pooling_mode\":\"cls\"}", NULL, POOL, POOL_CLS },
    { P, NULL, "{\"pooling_mode\":[\"max\"],\"include_prompt\":true}", NULL, POOL, POOL_MAX },
    { P, NULL, "{\"pooling_mode\":[\"max\",\"mean\"]}", "several pooling modes", ANY, 0 },
    { P, NULL, "{\"pooling_mode\":[]}", "names no pooling mode", ANY, 0 },
    { P, NULL, "{\"pooling_mode\":\"lasttoken\"}", "pooling_mode \"lasttoken\" is not supported", ANY, 0 },
    { P, NULL, "{\"pooling_mode\":3}", "is not supported", ANY, 0 },
    { P, NULL, "{\"pooling_mode_cls_token\":true}", NULL, POOL, POOL_CLS },
    { P, NULL, "{\"pooling_mode_max_tokens\":true}", NULL, POOL, POOL_MAX },
    { P, "sqrt_len_tokens\": false", "sqrt_len_tokens\": true", "pooling_mode_mean_sqrt_len_tokens is not supported", ANY, 0 },
    { P, "24", "25", "word_embedding_dimension is not hidden_size", ANY, 0 },
    { P, NULL, NULL, "no such file", ANY, 0 },
    { P, NULL, "{", "no JSON", ANY, 0 },
    { S, "40", "17", NULL, MAX_TOKENS, 17 },
    { S, "40", "4000", NULL, MAX_TOKENS, 40 },
    { S, "40", "null", NULL, MAX_TOKENS, 40 },
    { S, "40", "1", "max_seq_length must be", ANY, 0 },
    { S, "40", "-5", "max_seq_length must be", ANY, 0 },
    { S, "40", "5.5", "max_seq_length must be", ANY, 0 },
    { S, "40", "\"40\"", "max_seq_length must be", ANY, 0 },
    { S, NULL, NULL, NULL, MAX_TOKENS, 40 },
    { S, NULL, "[]", "is no JSON object", ANY, 0 },
    { T, NULL, "{\"model_max_length\":1000000000000000019884624838656}", NULL, MAX_TOKENS, 40 },
    { T, NULL, "{\"model_max_length\":0}", "model_max_length must be", ANY, 0 },

    { C, NULL, NULL, "config.json: no such file", ANY, 0 },
    { C, NULL, "", "no JSON", ANY, 0 },
    { C, NULL, "[]", "is no JSON object", ANY, 0 },
    { C, NULL, "{}", "model_type is missing", ANY, 0 },
    { C, "\"bert\"", "\"roberta\"", "model_type \"roberta\" is not supported, only bert", ANY, 0 },
    { C, "\"bert\"", "7", "model_type", ANY, 0 },
    { C, "\"model_type\": \"bert\",", "", "model_type is missing", ANY, 0 },
    { C, "\"absolute\"", "\"relative_key\"", "position_embedding_type \"relative_key\" is not supported", ANY, 0 },
    { C, "\"gelu\"", "\"swish\"", "hidden_act \"swish\" is not supported", ANY, 0 },
    { C, "\"gelu\"", "\"a\\u0007b\\n\"", "hidden_act \"a?b?\" is not supported", ANY, 0 },
    { C, "\"hidden_size\": 24", "\"hidden_size\": 0", "hidden_size must be", ANY, 0 },
    { C, "\"hidden_size\": 24", "\"hidden_size\": -24", "hidden_size must be", ANY, 0 },
    { C, "\"hidden_size\": 24", "\"hidden_size\": 24.5", "hidden_size must be", ANY, 0 },
    { C, "\"hidden_size\": 24", "\"hidden_size\": \"24\"", "hidden_size must be", ANY, 0 },
    { C, "\"hidden_size\": 24", "\"hidden_size\": 1e15", "hidden_size must be", ANY, 0 },
    { C, "\"hidden_size\": 24", "\"hidden_size\": 25", "hidden_size is no multiple", ANY, 0 },
    { C, "\"hidden_size\": 24,", "", "hidden_size is missing", ANY, 0 },
    { C, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", "num_hidden_layers must be", ANY, 0 },
    { C, "\"num_hidden_layers\": 2,", "", "num_hidden_layers is missing", ANY, 0 },
    { C, "\"num_attention_heads\": 3", "\"num_attention_heads\": 0", "num_attention_heads must be", ANY, 0 },
    { C, "\"num_attention_heads\": 3,", "", "num_attention_heads is missing", ANY, 0 },
    { C, "\"intermediate_size\": 40,", "", "intermediate_size is missing", ANY, 0 },
    { C, "\"vocab_size\": 64", "\"vocab_size\": 0", "vocab_size must be", ANY, 0 },
    { C, "\"max_position_embeddings\": 40", "\"max_position_embeddings\": 1", "below 2", ANY, 0 },
    { C, "\"type_vocab_size\": 2", "\"type_vocab_size\": 0", "type_vocab_size must be", ANY, 0 },
    { C, "1e-12", "-1e-12", "layer_norm_eps must be", ANY, 0 },
    { C, "1e-12", "\"x\"", "layer_norm_eps must be", ANY, 0 },
    { C, "1e-12", "1e999", "no JSON", ANY, 0 },
    { C, "\"vocab_size\": 64", "\"is_decoder\": true, \"vocab_size\": 64", "is_decoder is not supported", ANY, 0 },
    { M, NULL, "{}", "is no JSON list", ANY, 0 },
    { M, NULL, "[]", "needs a Transformer and a Pooling", ANY, 0 },
    { M, NULL, "[1]", "no object", ANY, 0 },
    { M, "models.Normalize", "models.Dense", "module Dense is not supported", ANY, 0 },
    { M, "models.Normalize", "models.Pooling", "Pooling twice", ANY, 0 },
    { M, "\"sentence_transformers.models.Normalize\"", "7", "module without type", ANY, 0 },
    { M, "\"2_Normalize\"", "[7]", NULL, ANY, 0 },
    { M, "sentence_transformers.models.Normalize", "Normalize", NULL, ANY, 0 },
    { M, "sentence_transformers.models.Normalize", "Normalize.", "module without type", ANY, 0 },
    { M, "\"path\": \"\"", "\"path\": \"0_Transformer\"", "directory of its own", ANY, 0 },
    { M, "1_Pooling", "../1_Pooling", "bad path", ANY, 0 },
    { M, "1_Pooling", "/1_Pooling", "bad path", ANY, 0 },
    { M, "1_Pooling", "", "bad path", ANY, 0 },
    { M, "1_Pooling", "2_Pooling", "no such file", ANY, 0 },
};

Test(model, each_setting_is_read_or_refused_by_name)
{
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        struct model m;
        struct fault f = { 0, "" };
        char *dir = dir_copy(TINY, files);
        dir_edit(dir, edits[i].file, edits[i].from, edits[i].to);
        int r = model_read(&m, dir, &f);
        const char *to = edits[i].to ? edits[i].to : "(no file)";
        if (edits[i].why) {
            cr_assert_eq(r, -1, "row %zu: %s was taken", i, to);
            cr_assert(strstr(f.why, edits[i].why) != NULL, "row %zu: %s: says %s", i, to, f.why);
            cr_assert(strstr(f.why, edits[i].file) != NULL || strstr(f.why, "config.json") != NULL,
                      "row %zu names no file: %s", i, f.why);
            cr_assert(f.exit == 65 && !strchr(f.why, '\n'), "row %zu: %s", i, f.why);
        } else {
            cr_assert_eq(r, 0, "row %zu: %s: %s", i, to, f.why);
            uint32_t got[] = { (uint32_t)m.act, (uint32_t)m.pooling, m.max_tokens, m.types, 0 };
            cr_assert_eq(got[edits[i].field], edits[i].value, "row %zu: %s: %u", i, to, got[edits[i].field]);
        }
        dir_remove(dir);
    }
}

Test(model, every_cut_of_a_configuration_is_refused)
{
    for (size_t i = 0; files[i]; i++) {
        size_t len = 0;
        char *text = dir_read(TINY, files[i], &len);
        char *dir = dir_copy(TINY, files);
        for (size_t n = 0; n + 1 < len; n++) {
            struct model m;
            struct fault f;
            if (text[n] == '\n' && n + 2 > len) break;
            dir_put(dir, files[i], text, n);
            cr_assert_eq(model_read(&m, dir, &f), -1, "%s cut at %zu", files[i], n);
            cr_assert_eq(f.exit, 65);
        }
        dir_remove(dir);
        free(text);
    }
}

Test(model, large_and_odd_files_are_refused)
{
    struct model m;
    struct fault f;
    char *dir = dir_copy(TINY, files), path[100];
    char *much = malloc(2 << 20);
    memset(much, ' ', 2 << 20);
    dir_put(dir, C, much, 2 << 20);
    cr_assert_eq(model_read(&m, dir, &f), -1);
    cr_assert(strstr(f.why, "config.json: ") != NULL && strstr(f.why, "large") != NULL, "%s", f.why);
    snprintf(path, sizeof path, "%s/%s", dir, C);
    unlink(path);
    mkdir(path, 0700);
    cr_assert_eq(model_read(&m, dir, &f), -1);
    cr_assert(strstr(f.why, "directory") != NULL, "%s", f.why);
    rmdir(path);
    dir_remove(dir);
    free(much);
}
