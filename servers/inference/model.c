#include "model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../log.h"
#include "config_file.h"

static void get_activation(struct config_file *c, struct model *m)
{
    static const enum activation acts[] = { ACT_GELU, ACT_GELU_TANH, ACT_GELU_TANH, ACT_GELU_TANH,
                                            ACT_RELU };
    long i = config_word(c, "hidden_act", "gelu|gelu_new|gelu_pytorch_tanh|gelu_fast|relu",
                         "gelu, gelu_new, gelu_pytorch_tanh, relu");
    if (i >= 0) m->act = acts[i];
}

static void get_eps(struct config_file *c, struct model *m)
{
    double eps = c->in.type == JSON_NUMBER ? json_number(&c->in) : -1;
    if (!(eps >= 0 && eps < 1)) config_wrong(c, "layer_norm_eps", "must be a number from 0 to 1");
    m->eps = (float)eps;
}

static int read_config(struct model *m, const char *dir, struct fault *f)
{
    struct config_file c;
    bool bert = false;
    if (config_open(&c, dir, "config.json", JSON_OBJECT, f) <= 0) return -1;
    m->act = ACT_GELU;
    m->eps = 1e-12f;
    m->types = 2;
    const struct { const char *key; uint32_t max, *to; } counts[] = {
        { "hidden_size", 16384, &m->hidden },
        { "num_hidden_layers", 256, &m->layers },
        { "num_attention_heads", 1024, &m->heads },
        { "intermediate_size", 65536, &m->intermediate },
        { "vocab_size", 1u << 24, &m->vocabulary },
        { "max_position_embeddings", 65536, &m->positions },
        { "type_vocab_size", 1024, &m->types },
    };
    size_t n = sizeof counts / sizeof *counts;
    while (config_next(&c)) {
        struct json *in = &c.in;
        size_t i = 0;
        while (i < n && !json_key(in, counts[i].key)) i++;
        if (i < n) config_count(&c, counts[i].key, counts[i].max, counts[i].to);
        else if (json_key(in, "layer_norm_eps")) get_eps(&c, m);
        else if (json_key(in, "hidden_act")) get_activation(&c, m);
        else if (json_key(in, "model_type")) bert = !config_word(&c, "model_type", "bert", "bert");
        else if (json_key(in, "position_embedding_type"))
            config_word(&c, "position_embedding_type", "absolute", "absolute");
        else if (json_key(in, "is_decoder") && json_bool(in))
            config_wrong(&c, "is_decoder", "is not supported");
    }
    if (!bert) config_wrong(&c, "model_type", "is missing, must be bert");
    for (size_t i = 0; i < n; i++)
        if (!*counts[i].to) config_wrong(&c, counts[i].key, "is missing");
    if (m->heads && m->hidden % m->heads)
        config_wrong(&c, "hidden_size", "is no multiple of num_attention_heads");
    return config_close(&c, f);
}

/* The directory of the pooling module, from one entry {idx,name,path,type}. */
static void read_module(struct config_file *c, char *pooling, size_t cap, bool *transformer)
{
    char type[64] = "", path[128] = "";
    if (c->in.type != JSON_OBJECT) {
        config_wrong(c, "", "holds something that is no object");
        return;
    }
    json_enter(&c->in);
    while (config_next(c)) {
        bool is_path = json_key(&c->in, "path");
        if (!is_path && !json_key(&c->in, "type")) continue;
        struct slice s = json_slice(&c->in);
        size_t from = is_path ? 0 : s.len;  /* of the type its last word */
        while (from && s.p[from - 1] != '.') from--;
        snprintf(is_path ? path : type, is_path ? sizeof path : sizeof type, "%.*s",
                 (int)(s.len - from), s.len ? s.p + from : "");
    }
    if (!strcmp(type, "Transformer")) {
        *transformer = true;
        if (*path) config_wrong(c, "", "a Transformer in a directory of its own is not supported");
    } else if (!strcmp(type, "Pooling")) {
        if (*pooling) config_wrong(c, "", "has Pooling twice");
        if (!*path || *path == '/' || strstr(path, ".."))
            config_wrong(c, "", "Pooling has a bad path");
        snprintf(pooling, cap, "%s", path);
    } else if (strcmp(type, "Normalize") != 0) {
        config_wrong(c, "", "module %.60s is not supported", *type ? type : "without type");
    }
}

/* In the order of enum pooling. */
static const char *const pools[] = { "pooling_mode_mean_tokens", "pooling_mode_cls_token",
                                     "pooling_mode_max_tokens" };
#define POOLS (sizeof pools / sizeof *pools)

/* "mean", or a list of one. */
static int read_pooling_mode(struct config_file *c, struct model *m)
{
    int n = 0;
    bool list = c->in.type == JSON_ARRAY;
    if (list) json_enter(&c->in);
    while (!list || config_next(c)) {
        long i = config_word(c, "pooling_mode", "mean|cls|max", "mean, cls, max");
        if (i >= 0) m->pooling = (enum pooling)i;
        n++;
        if (!list) break;
    }
    return n;
}

static int read_pooling(struct model *m, const char *dir, const char *module, struct fault *f)
{
    struct config_file c;
    char name[160];
    int n = 0;
    snprintf(name, sizeof name, "%s/config.json", module);
    if (config_open(&c, dir, name, JSON_OBJECT, f) <= 0) return -1;
    while (config_next(&c)) {
        size_t i = 0;
        while (i < POOLS && !json_key(&c.in, pools[i])) i++;
        if (i < POOLS) {
            if (!json_bool(&c.in)) continue;
            m->pooling = (enum pooling)i;
            n++;
        } else if (json_key(&c.in, "pooling_mode")) n += read_pooling_mode(&c, m);
        else if (c.in.key.len > 13 && !memcmp(c.in.key.p, "pooling_mode_", 13) &&
                 c.in.type == JSON_TRUE) {
            char key[64];
            snprintf(key, sizeof key, "%.*s", (int)c.in.key.len, c.in.key.p);
            config_wrong(&c, key, "is not supported, only mean, cls and max");
        } else if (json_key(&c.in, "word_embedding_dimension")) {
            int64_t d;
            if (!json_int(&c.in, &d) || d != m->hidden)
                config_wrong(&c, "word_embedding_dimension", "is not hidden_size");
        }
    }
    if (!n) config_wrong(&c, "", "names no pooling mode");
    if (n > 1) config_wrong(&c, "", "several pooling modes at once are not supported");
    return config_close(&c, f);
}

static int read_modules(struct model *m, const char *dir, struct fault *f)
{
    struct config_file c;
    char pooling[128] = "";
    bool transformer = false;
    int r = config_open(&c, dir, "modules.json", JSON_ARRAY, f);
    m->pooling = POOL_MEAN;
    if (r <= 0) return r;
    while (config_next(&c)) read_module(&c, pooling, sizeof pooling, &transformer);
    if (!transformer || !*pooling) config_wrong(&c, "", "needs a Transformer and a Pooling");
    if (config_close(&c, f)) return -1;
    return read_pooling(m, dir, pooling, f);
}

/* A length from a file that may be missing; 0: it says nothing. */
static int read_length(const char *dir, const char *name, const char *key, double *out,
                       struct fault *f)
{
    struct config_file c;
    int r = config_open(&c, dir, name, JSON_OBJECT, f);
    *out = 0;
    if (r <= 0) return r;
    while (config_next(&c)) {
        if (!json_key(&c.in, key) || c.in.type == JSON_NULL) continue;
        double v = c.in.type == JSON_NUMBER ? json_number(&c.in) : 0;
        if (!(v >= 2) || (v < 1e9 && floor(v) < v))
            config_wrong(&c, key, "must be a whole number from 2 on");
        *out = v;
    }
    return config_close(&c, f);
}

int model_read(struct model *m, const char *dir, struct fault *f)
{
    double length, tokenizer;
    memset(m, 0, sizeof *m);
    if (read_config(m, dir, f) || read_modules(m, dir, f)) return -1;
    if (read_length(dir, "sentence_bert_config.json", "max_seq_length", &length, f) ||
        read_length(dir, "tokenizer_config.json", "model_max_length", &tokenizer, f)) return -1;
    if (length > m->positions)
        log_say(LOG_WARN, "inference",
                "%s: max_seq_length %.0f is cut to the %u positions of the model", dir, length,
                m->positions);
    if (length < 1) length = tokenizer < 1 ? m->positions : tokenizer;
    m->max_tokens = length < m->positions ? (uint32_t)length : m->positions;
    if (m->max_tokens >= 2) return 0;
    return fault_set(f, 65, "%s/config.json: max_position_embeddings is below 2", dir);
}
