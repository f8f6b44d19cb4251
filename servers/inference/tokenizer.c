#include "tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../json.h"
#include "../log.h"
#include "config_file.h"

#define FILE_MAX (64u << 20)

/* One JSON file while it is read. */
struct source {
    struct config_file c;
    struct tokenizer *t;
    bool accents_said;      /* strip_accents was given, null not counting */
};

static void read_bool(struct source *s, const char *key, bool *out)
{
    if (s->c.in.type == JSON_NULL) return;
    if (s->c.in.type != JSON_TRUE && s->c.in.type != JSON_FALSE)
        config_wrong(&s->c, key, "must be true or false");
    else *out = json_bool(&s->c.in);
}

static void read_accents(struct source *s)
{
    s->accents_said |= s->c.in.type == JSON_TRUE || s->c.in.type == JSON_FALSE;
    read_bool(s, "strip_accents", &s->t->wordpiece.strip_accents);
}

/* A name, as a string or as {"content": name}; at most WORDPIECE_NAME - 1 bytes. */
static size_t read_name(struct source *s, const char *key, char out[WORDPIECE_NAME])
{
    struct slice name = {0};
    if (s->c.in.type == JSON_OBJECT) {
        json_enter(&s->c.in);
        while (config_next(&s->c))
            if (json_key(&s->c.in, "content")) name = json_slice(&s->c.in);
    } else name = json_slice(&s->c.in);
    if (!name.len || name.len >= WORDPIECE_NAME || memchr(name.p, 0, name.len)) {
        config_wrong(&s->c, key, "must be a text of 1 to %d bytes", WORDPIECE_NAME - 1);
        return 0;
    }
    memcpy(out, name.p, name.len);
    out[name.len] = 0;
    return name.len;
}

static void read_special(struct source *s)
{
    static const char *const keys[WP_SPECIALS] = {
        [WP_CLS] = "cls_token", [WP_SEP] = "sep_token", [WP_UNK] = "unk_token",
        [WP_PAD] = "pad_token", [WP_MASK] = "mask_token",
    };
    struct wordpiece *w = &s->t->wordpiece;
    for (size_t i = 0; i < WP_SPECIALS; i++)
        if (json_key(&s->c.in, keys[i]) && s->c.in.type != JSON_NULL)
            w->special[i].len = read_name(s, keys[i], w->special[i].name);
}

/* The member of tokenizer_config.json that stands next. */
static void read_config(struct source *s)
{
    struct wordpiece *w = &s->t->wordpiece;
    if      (json_key(&s->c.in, "do_lower_case"))          read_bool(s, "do_lower_case", &w->lower);
    else if (json_key(&s->c.in, "strip_accents"))          read_accents(s);
    else if (json_key(&s->c.in, "tokenize_chinese_chars"))
        read_bool(s, "tokenize_chinese_chars", &w->ideographs);
    else read_special(s);
}

static void read_normalizer(struct source *s)
{
    struct wordpiece *w = &s->t->wordpiece;
    bool clean = true;
    if (!config_enter(&s->c, "normalizer")) return;
    while (config_next(&s->c)) {
        if (json_key(&s->c.in, "lowercase")) read_bool(s, "normalizer.lowercase", &w->lower);
        else if (json_key(&s->c.in, "strip_accents")) read_accents(s);
        else if (json_key(&s->c.in, "handle_chinese_chars"))
            read_bool(s, "normalizer.handle_chinese_chars", &w->ideographs);
        else if (json_key(&s->c.in, "clean_text")) read_bool(s, "normalizer.clean_text", &clean);
        else if (json_key(&s->c.in, "type") && !slice_is(json_slice(&s->c.in), "BertNormalizer"))
            config_wrong(&s->c, "normalizer.type", "must be BertNormalizer");
    }
    if (!clean) config_wrong(&s->c, "normalizer.clean_text", "false is not supported");
}

static void read_pre_tokenizer(struct source *s)
{
    bool bert = false;
    if (!config_enter(&s->c, "pre_tokenizer")) return;
    while (config_next(&s->c))
        if (json_key(&s->c.in, "type")) bert = slice_is(json_slice(&s->c.in), "BertPreTokenizer");
    if (!bert) config_wrong(&s->c, "pre_tokenizer.type", "must be BertPreTokenizer");
}

static void read_model(struct source *s)
{
    struct tokenizer *t = s->t;
    if (!config_enter(&s->c, "model")) return;
    while (config_next(&s->c)) {
        if (json_key(&s->c.in, "type")) {
            if (!slice_is(json_slice(&s->c.in), "WordPiece"))
                config_wrong(&s->c, "model.type", "must be WordPiece");
        } else if (json_key(&s->c.in, "continuing_subword_prefix")) {
            size_t len = read_name(s, "model.continuing_subword_prefix", t->prefix);
            t->wordpiece.prefix = (struct slice){ t->prefix, len };
        } else if (json_key(&s->c.in, "max_input_chars_per_word")) {
            int64_t n;
            if (!json_int(&s->c.in, &n) || n != WORDPIECE_CHARS)
                config_wrong(&s->c, "model.max_input_chars_per_word", "must be %d",
                             WORDPIECE_CHARS);
        }
    }
}

/* One file: its members by the readers above; it may be absent. */
static int read_json(struct source *s, struct tokenizer_text text, const char *name,
                     struct fault *f)
{
    bool is_config = !strcmp(name, "tokenizer_config.json");
    if (!text.p) return 0;
    snprintf(s->c.path, sizeof s->c.path, "%s", name);
    config_text(&s->c, text.p, text.len, JSON_OBJECT);
    while (config_next(&s->c)) {
        if (is_config) read_config(s);
        else if (json_key(&s->c.in, "normalizer")) read_normalizer(s);
        else if (json_key(&s->c.in, "pre_tokenizer")) read_pre_tokenizer(s);
        else if (json_key(&s->c.in, "model")) read_model(s);
    }
    return config_close(&s->c, f);
}

int tokenizer_read(struct tokenizer *t, struct tokenizer_text vocab, struct tokenizer_text config,
                   struct tokenizer_text json, struct fault *f)
{
    struct source s = { .t = t };
    struct fault inner;
    wordpiece_defaults(&t->wordpiece);
    if (read_json(&s, json, "tokenizer.json", f)
        || read_json(&s, config, "tokenizer_config.json", f)) return -1;
    if (!s.accents_said) t->wordpiece.strip_accents = t->wordpiece.lower;
    if (vocab_lines(&t->wordpiece.vocab, vocab.p, vocab.len, &inner))
        return fault_set(f, inner.exit, "vocab.txt: %s", inner.why);
    return wordpiece_ready(&t->wordpiece, f);
}

/* A file that may be absent unless it must be there: 0, or -1 with f filled. */
static int load(const char *dir, const char *name, bool must, struct tokenizer_text *out,
                struct fault *f)
{
    out->p = config_read(dir, name, FILE_MAX, &out->len);
    if (out->p || (errno == ENOENT && !must)) return 0;
    return fault_set(f, 65, "%s: %s", name, strerror(errno));
}

/* The reference lower-cases each text before it is cut where sentence_bert_config.json says
 * so. That makes a difference only to a tokenizer that keeps the case. */
static int check_case(const struct tokenizer *t, const char *dir, struct fault *f)
{
    struct config_file c;
    bool lower = false;
    int r = config_open(&c, dir, "sentence_bert_config.json", JSON_OBJECT, f);
    if (r <= 0) return r;
    while (config_next(&c))
        if (json_key(&c.in, "do_lower_case")) lower = json_bool(&c.in);
    if (lower && !t->wordpiece.lower)
        config_wrong(&c, "do_lower_case",
                     "is not supported beside a tokenizer that keeps the case");
    return config_close(&c, f);
}

int tokenizer_open(struct tokenizer *t, const char *dir, struct fault *f)
{
    struct tokenizer_text vocab = {0}, config = {0}, json = {0};
    struct fault inner = { .exit = 65 };
    *t = (struct tokenizer){0};
    int r = load(dir, "vocab.txt", true, &vocab, &inner)
            || load(dir, "tokenizer_config.json", false, &config, &inner)
            || load(dir, "tokenizer.json", false, &json, &inner);
    if (!r) r = tokenizer_read(t, vocab, config, json, &inner);
    t->text = vocab.p;
    free(config.p);
    free(json.p);
    return r ? fault_set(f, inner.exit, "%s: %s", dir, inner.why) : check_case(t, dir, f);
}

void tokenizer_close(struct tokenizer *t)
{
    vocab_free(&t->wordpiece.vocab);
    free(t->text);
    *t = (struct tokenizer){0};
}
