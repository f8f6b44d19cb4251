#include "lora_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../log.h"
#include "../values.h"
#include "config_file.h"

/* Things that change what an adapter computes and that we do not do. */
static const char *const refused[] = {
    "use_dora", "modules_to_save", "fan_in_fan_out", "use_qalora", "loftq_config",
    "layer_replication", "trainable_token_indices", "target_parameters", "lora_bias",
    "arrow_config", "use_bdlora", "alora_invocation_tokens",
};

/* Ways to begin the training that take B times A away from the model's own weights; PEFT
 * does so again when it loads the adapter. What it converts to plain LoRA no longer says so. */
static const char *const rebased[] = { "pissa", "olora", "corda", "loftq", "lora_ga" };

/* Does the value that stands next say nothing: null, false, 0, "", [], {}? */
static bool get_nothing(struct json *in)
{
    if (in->type == JSON_NUMBER) return json_number(in) == 0;
    struct slice s = json_compact(json_raw(in));
    return word_index("null|false|\"\"|[]|{}", s.p, s.len) >= 0;
}

/* A finite number above 0. */
static double get_positive(struct config_file *c, const char *key)
{
    double v = c->in.type == JSON_NUMBER ? json_number(&c->in) : 0;
    if (!(v > 0 && v < 1e9)) config_wrong(c, key, "must be a number above 0 and below 1e9");
    return v;
}

static bool plain(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!s.p[i] || strchr("^$*+?()[]{}|\\", s.p[i])) return false;
    return s.len > 0;
}

static void get_patterns(struct config_file *c, const char *key, struct lora_patterns *p)
{
    if (c->in.type == JSON_NULL) return;
    if (!config_enter(c, key)) return;
    while (config_next(c)) {
        struct slice name = c->in.key;
        if (!plain(name)) {
            config_refuse(c, key, name, "plain names");
            return;
        }
        struct lora_pattern *more = realloc(p->item, (p->n + 1) * sizeof *more);
        if (more) p->item = more;
        char *copy = more ? malloc(name.len + 1) : NULL;
        if (!copy) {
            config_wrong(c, key, "does not fit in memory");
            return;
        }
        memcpy(copy, name.p, name.len);
        copy[name.len] = 0;
        p->item[p->n].name = copy;
        p->item[p->n++].value = get_positive(c, key);
    }
}

static void check_ranks(struct config_file *c, const struct lora_patterns *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->item[i].value > LORA_RANK_MAX || floor(p->item[i].value) < p->item[i].value)
            config_wrong(c, "rank_pattern", "must hold whole numbers from 1 to 4096");
}

static void get_bias(struct config_file *c, struct lora_config *out)
{
    long i = config_word(c, "bias", "none|lora_only|all", "none, all, lora_only");
    if (i >= 0) out->biases = (enum lora_biases)i;
}

static void get_start(struct config_file *c)
{
    struct slice s = json_slice(&c->in);
    for (size_t i = 0; i < sizeof rebased / sizeof *rebased; i++) {
        size_t n = strlen(rebased[i]);  /* "pissa_niter_16" is one too */
        if (s.len >= n && !strncasecmp(s.p, rebased[i], n))
            config_wrong(c, "init_lora_weights",
                         "\"%.*s\" is not supported: it changes the model's own weights",
                         (int)(s.len < 40 ? s.len : 40), s.p);
    }
}

static void read_member(struct config_file *c, struct lora_config *out, bool *lora)
{
    struct json *in = &c->in;
    if (json_key(in, "r")) config_count(c, "r", LORA_RANK_MAX, &out->rank);
    else if (json_key(in, "lora_alpha")) out->alpha = get_positive(c, "lora_alpha");
    else if (json_key(in, "use_rslora")) out->root = json_bool(in);
    else if (json_key(in, "rank_pattern")) get_patterns(c, "rank_pattern", &out->ranks);
    else if (json_key(in, "alpha_pattern")) get_patterns(c, "alpha_pattern", &out->alphas);
    else if (json_key(in, "bias")) get_bias(c, out);
    else if (json_key(in, "init_lora_weights")) get_start(c);
    else if (json_key(in, "peft_type")) *lora = !config_word(c, "peft_type", "LORA", "LORA");
    else {
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
            if (json_key(in, refused[i])) {
                if (!get_nothing(in)) config_wrong(c, refused[i], "is not supported");
                return;
            }
    }
}

int lora_config_read(struct lora_config *c, const char *dir, struct fault *f)
{
    struct config_file file;
    bool lora = false;
    memset(c, 0, sizeof *c);
    if (config_open(&file, dir, "adapter_config.json", JSON_OBJECT, f) <= 0) return -1;
    while (config_next(&file)) read_member(&file, c, &lora);
    if (!lora) config_wrong(&file, "peft_type", "is missing, must be LORA");
    if (!c->rank) config_wrong(&file, "r", "is missing");
    if (!(c->alpha > 0)) config_wrong(&file, "lora_alpha", "is missing");
    check_ranks(&file, &c->ranks);
    return config_close(&file, f);
}

void lora_config_free(struct lora_config *c)
{
    struct lora_patterns *both[2] = { &c->ranks, &c->alphas };
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < both[i]->n; k++) free(both[i]->item[k].name);
        free(both[i]->item);
    }
    memset(c, 0, sizeof *c);
}

/* The value of the first pattern that fits, as PEFT does. */
static double lookup(const struct lora_patterns *p, const char *module, double otherwise)
{
    size_t len = strlen(module);
    for (size_t i = 0; i < p->n; i++) {
        const char *name = p->item[i].name;
        if (!strncmp(name, "bert.", 5)) name += 5;
        size_t n = strlen(name);
        if (n > len || memcmp(module + len - n, name, n) != 0) continue;
        if (n == len || module[len - n - 1] == '.') return p->item[i].value;
    }
    return otherwise;
}

uint32_t lora_config_rank(const struct lora_config *c, const char *module)
{
    return (uint32_t)lookup(&c->ranks, module, c->rank);
}

double lora_config_scale(const struct lora_config *c, const char *module)
{
    double rank = lora_config_rank(c, module);
    return lookup(&c->alphas, module, c->alpha) / (c->root ? sqrt(rank) : rank);
}
