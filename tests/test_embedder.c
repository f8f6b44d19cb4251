// uses: servers/inference/embedder.c servers/inference/embedder_queue.c servers/inference/embedder_adapters.c servers/inference/builtin.c servers/inference/tokenizer.c servers/inference/wordpiece.c servers/inference/vocab.c servers/inference/unicode.c servers/inference/encoder.c servers/inference/weights.c servers/inference/kernels.c servers/inference/processor.c servers/inference/lora.c servers/inference/lora_config.c servers/inference/model.c servers/inference/config_file.c servers/inference/safetensors.c servers/inference/fingerprint.c servers/crc32c.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
#include "servers/inference/embedder.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "servers/inference/encoder.h"
#include "test.h"
#include "asks.h"
#include "model_dir.h"

static const char *const files[] = { "config.json", "modules.json", "1_Pooling/config.json",
                                     "sentence_bert_config.json", "vocab.txt",
                                     "model.safetensors", NULL };

/* ---- builtin */

Test(embedder_builtin, answers_at_once_and_says_what_it_is)
{
    struct embedder *e = open_with("builtin", 1, 0);
    const char *texts[] = { "red apple", "", "green  apple pie" };
    struct ask *a = ask(1, 3, texts);
    cr_assert_eq(embedder_submit(e, &a->rq, 0), EMBED_DONE);
    cr_assert_eq(a->done, 0);
    cr_assert(a->tokens[0] == 2 && a->tokens[1] == 0 && a->tokens[2] == 3);
    for (size_t i = 0; i < 3; i++) {
        float v[BUILTIN_DIMENSION];
        builtin_embed(a->text[i], true, v);
        cr_assert_arr_eq(v, a->vector + i * BUILTIN_DIMENSION, sizeof v, "text %zu", i);
        cr_assert(!a->truncated[i]);
    }
    cr_assert_eq(embedder_dimension(e), BUILTIN_DIMENSION);
    cr_assert_str_eq(embedder_name(e), "builtin-hash-384");
    cr_assert_str_eq(embedder_dtype(e), "F32");
    cr_assert_eq(embedder_max_tokens(e), 32768);
    cr_assert_float_eq(embedder_min_similarity(e), BUILTIN_MIN_SIMILARITY, 0);
    cr_assert(!memcmp(embedder_fingerprint(e), builtin_fingerprint, 32));
    cr_assert(!embedder_step(e, 0));
    cr_assert_eq(embedder_retry_ms(e), 1);
    struct embedder_stats s;
    embedder_stats(e, &s);
    cr_assert(s.texts == 3 && s.tokens == 5 && s.queue == 0 && s.avg_ms >= 0);
    embedder_close(e);
    free(a);
}

Test(embedder_builtin, plain_vectors_and_no_texts_at_all)
{
    struct embedder *e = open_with("builtin", 1, 0);
    struct ask *a = ask_one(1, "red apple");
    float v[BUILTIN_DIMENSION];
    a->rq.normalize = false;
    cr_assert_eq(embedder_run(e, &a->rq), EMBED_DONE);
    builtin_embed(a->text[0], false, v);
    cr_assert_arr_eq(v, a->vector, sizeof v);
    a->rq.n = 0;
    cr_assert_eq(embedder_submit(e, &a->rq, 0), EMBED_DONE);
    a->rq.n = 1;
    a->rq.adapter = 0;
    cr_assert_eq(embedder_submit(e, &a->rq, 0), EMBED_NO_ADAPTER);
    embedder_close(e);
    free(a);
}

Test(embedder_builtin, takes_no_adapters)
{
    struct embedder *e = open_with("builtin", 1, 0);
    struct fault f;
    struct embed_load l = { .name = "x" };
    cr_assert_eq(embedder_load_adapter(e, "x", TINY "/adapters/qv", &f), -1);
    cr_assert_str_eq(f.why, "the builtin embedder takes no adapters");
    cr_assert_eq(embedder_begin_load(e, &l, TINY "/adapters/qv", &f), -1);
    cr_assert_eq(embedder_adapter(e, (struct slice){ "x", 1 }), -1);
    struct embedder_adapter info;
    cr_assert(!embedder_adapter_next(e, &(int){ -1 }, &info));
    cr_assert(!embedder_unload_adapter(e, 0) && !embedder_unload_adapter(e, -1));
    embedder_close(e);
}

/* ---- parts of texts */

static const struct {
    const char *model, *text;
    uint32_t length, stride;
    const char *parts;
} cuts[] = {
    {"builtin", "", 8, 8, "0+0:0-0"},
    {"builtin", "...", 8, 8, "0+0:0-0"},
    {"builtin", "one two, three", 8, 8, "0+3:0-14"},
    {"builtin", "one two, three", 2, 2, "0+2:0-7 2+1:9-14"},
    {"builtin", "one two, three!", 2, 1, "0+2:0-7 1+2:4-14"},
    {"builtin", "a b c d e", 3, 2, "0+3:0-5 2+3:4-9"},
    {"builtin", "a b c d e f", 3, 9, "0+3:0-5 3+3:6-11"}, /* a greater stride leaves no gap */
    {"builtin", "a b c d", 1, 1, "0+1:0-1 1+1:2-3 2+1:4-5 3+1:6-7"},
    {TINY, "", 8, 8, "0+0:0-0"},
    {TINY, "a b c", 5, 3, "0+3:0-5"}, /* [CLS] and [SEP] take two */
    {TINY, "a b c", 4, 2, "0+2:0-3 2+1:4-5"},
    {TINY, "a b c", 4, 4, "0+2:0-3 2+1:4-5"},
    {TINY, "abc d", 4, 1, "0+2:0-2 1+2:1-3 2+2:2-5"}, /* pieces of a word part too */
    {TINY, " a  ", 8, 8, "0+1:1-2"},
    {TINY, "a\xc3\xa4", 3, 1, "0+1:0-1 1+1:1-3"},
};

Test(embedder_spans, parts_cover_the_text_in_windows)
{
    for (size_t i = 0; i < COUNT(cuts); i++) {
        struct embedder *e = open_with(cuts[i].model, 1, 0);
        struct embed_span part[8] = {{0}};
        char got[200] = "";
        size_t len = 0, n = embedder_spans(e, (struct slice){ cuts[i].text, strlen(cuts[i].text) },
                                           cuts[i].length, cuts[i].stride, part, 8);
        for (size_t k = 0; k < n && k < 8; k++)
            len += (size_t)sprintf(got + len, "%s%u+%u:%u-%u", k ? " " : "", part[k].first,
                                   part[k].count, part[k].start, part[k].end);
        cr_assert_str_eq(got, cuts[i].parts, "row %zu: %s", i, got);
        size_t one = embedder_spans(e, (struct slice){cuts[i].text, strlen(cuts[i].text)},
                                    cuts[i].length, cuts[i].stride, part, 1);
        cr_assert_eq(one, n, "row %zu counts %zu with room for one", i, one);
        embedder_close(e);
    }
}

Test(embedder_spans, a_part_covers_marks_that_were_put_in_order)
{
    /* U+1D16D, U+302E and U+1D165: canonical order turns them round. */
    const char *text = "a\xf0\x9d\x85\xad\xe3\x80\xae\xf0\x9d\x85\xa5";
    char *dir = dir_copy(TINY, files);
    dir_edit(dir, "vocab.txt", "w0\nw1\nw2\n",
             "##\xf0\x9d\x85\xad\n##\xe3\x80\xae\n##\xf0\x9d\x85\xa5\n");
    struct embedder *e = open_with(dir, 1, 0);
    struct embed_span part[4] = {{0}};
    cr_assert_eq(embedder_spans(e, (struct slice){ text, strlen(text) }, 5, 1, part, 4), 2);
    cr_assert(part[0].start == 0 && part[0].end == 12, "%u-%u", part[0].start, part[0].end);
    cr_assert(part[1].start == 1 && part[1].end == 12, "%u-%u", part[1].start, part[1].end);
    embedder_close(e);
    dir_remove(dir);
}

Test(embedder_spans, a_part_has_the_vector_of_its_tokens)
{
    const char *models[] = { "builtin", TINY };
    for (size_t m = 0; m < 2; m++) {
        struct embedder *e = open_with(models[m], 100, 0);
        const char *texts[] = { "w0 w1", "one two three four", "one two", "three four" };
        struct ask *whole = ask(1, 4, texts), *part = ask(1, 2, texts);
        cr_assert_eq(embedder_run(e, &whole->rq), EMBED_DONE);
        size_t dim = embedder_dimension(e),
               words = embedder_spans(e, whole->text[1], 8000, 8000, part->span, 1);
        cr_assert_eq(words, 1);
        /* The first half, all of text 0, all of text 1 as one part, the second half. */
        uint32_t all = part->span[0].count, half = m ? 6 : 2;
        part->rq.span = part->span;
        part->rq.n = 4;
        part->span[0] = (struct embed_span){ 0, 0, EMBED_WHOLE, 0, 0 };
        part->span[1] = (struct embed_span){ 1, 0, half, 0, 7 };
        part->span[2] = (struct embed_span){ 1, half, all - half, 8, 18 };
        part->span[3] = (struct embed_span){ 1, 0, all, 0, 18 };
        cr_assert_eq(embedder_run(e, &part->rq), EMBED_DONE);
        static const int same[] = { 0, 2, 3, 1 };
        for (size_t i = 0; i < 4; i++) {
            cr_assert_arr_eq(part->vector + i * dim, whole->vector + (size_t)same[i] * dim,
                             dim * sizeof(float), "model %zu, part %zu", m, i);
            cr_assert_eq(part->tokens[i], whole->tokens[same[i]], "model %zu, part %zu has %u", m,
                         i, part->tokens[i]);
        }
        free(whole);
        free(part);
        embedder_close(e);
    }
}

/* ---- an encoder */

/* Ids that these texts must have in the tiny model; see its vocab.txt. */
static const struct { const char *text; uint32_t n, ids[MAX]; } tokens_of[] = {
    { "", 2, { 2, 3 } },
    { "a", 3, { 2, 5, 3 } },
    { "Abc", 5, { 2, 5, 32, 33, 3 } },
    { "b a", 4, { 2, 6, 5, 3 } },
    { "w0", 3, { 2, 57, 3 } },
    { "!", 3, { 2, 1, 3 } },
    { "a!c", 5, { 2, 5, 1, 7, 3 } },
    { "[MASK]", 3, { 2, 4, 3 } },
};

Test(embedder_encoder, embeds_the_pieces_between_cls_and_sep)
{
    struct embedder *e = open_with(TINY, 100, 0);
    struct fault f;
    struct encoder *direct = encoder_open(TINY, false, 0, &f);
    cr_assert_not_null(direct, "%s", f.why);
    for (size_t i = 0; i < COUNT(tokens_of); i++) {
        float v[DIM];
        struct ask *a = ask_one(1, tokens_of[i].text);
        struct encoder_text t = {
            .ids = tokens_of[i].ids, .n = tokens_of[i].n, .normalize = true, .vector = v};
        cr_assert_eq(embedder_submit(e, &a->rq, 0), EMBED_QUEUED);
        cr_assert_eq(a->done, 0);
        run_all(e);
        cr_assert(a->done == 1 && a->rq.status == EMBED_DONE);
        cr_assert_eq(encoder_begin(direct, &t, 1), 0);
        while (encoder_step(direct)) {}
        cr_assert_arr_eq(a->vector, v, sizeof v, "\"%s\"", tokens_of[i].text);
        cr_assert_eq(a->tokens[0], tokens_of[i].n, "\"%s\" has %u", tokens_of[i].text,
                     a->tokens[0]);
        cr_assert(!a->truncated[0]);
        free(a);
    }
    cr_assert(embedder_dimension(e) == DIM && embedder_max_tokens(e) == MAX);
    cr_assert_str_eq(embedder_name(e), "tiny");
    cr_assert_str_eq(embedder_dtype(e), "F32");
    cr_assert_float_eq(embedder_min_similarity(e), 0.30, 0);
    cr_assert(!memcmp(embedder_fingerprint(e), encoder_fingerprint(direct), 32));
    encoder_close(direct);
    embedder_close(e);
}

Test(embedder_encoder, plain_vectors_are_multiples_of_unit_ones)
{
    struct embedder *e = open_with(TINY, 100, 0);
    struct ask *unit = ask_one(1, "hello"), *plain = ask_one(1, "hello");
    plain->rq.normalize = false;
    cr_assert_eq(embedder_run(e, &unit->rq), EMBED_DONE);
    cr_assert_eq(embedder_run(e, &plain->rq), EMBED_DONE);
    double length = 0, one = 0;
    for (size_t i = 0; i < DIM; i++) length += (double)plain->vector[i] * (double)plain->vector[i];
    for (size_t i = 0; i < DIM; i++) one += (double)unit->vector[i] * (double)unit->vector[i];
    cr_assert_float_eq(one, 1, 1e-6);
    cr_assert(fabs(length - 1) > 1e-3);
    for (size_t i = 0; i < DIM; i++)
        cr_assert_float_eq(plain->vector[i] / sqrt(length), unit->vector[i], 1e-6, "component %zu",
                           i);
    free(unit);
    free(plain);
    embedder_close(e);
}

static const struct {
    size_t words;
    bool truncate;
    int status;
    uint32_t tokens;
    bool truncated;
} lengths[] = {
    {37, true, EMBED_DONE, 39, false},  {38, true, EMBED_DONE, 40, false},
    {39, true, EMBED_DONE, 40, true},   {500, true, EMBED_DONE, 40, true},
    {38, false, EMBED_DONE, 40, false}, {39, false, EMBED_TOO_LONG, 0, false},
};

Test(embedder_encoder, a_text_over_the_length_is_cut_or_refused)
{
    struct embedder *e = open_with(TINY, 100, 0);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        char text[1001];
        for (size_t k = 0; k < lengths[i].words; k++) memcpy(text + 2 * k, k % 2 ? "a " : "b ", 2);
        text[2 * lengths[i].words] = 0;
        struct ask *a = ask_one(1, text), *cut;
        a->rq.truncate = lengths[i].truncate;
        cr_assert_eq(embedder_run(e, &a->rq), lengths[i].status, "row %zu", i);
        if (lengths[i].status == EMBED_DONE) {
            text[2 * 38] = 0;
            cut = ask_one(1, text);
            cr_assert_eq(embedder_run(e, &cut->rq), EMBED_DONE);
            cr_assert_eq(a->tokens[0], lengths[i].tokens, "row %zu", i);
            cr_assert_eq(a->truncated[0], lengths[i].truncated, "row %zu", i);
            cr_assert_arr_eq(a->vector, cut->vector, DIM * sizeof(float), "row %zu", i);
            free(cut);
        }
        free(a);
    }
    struct embedder_stats s;
    embedder_stats(e, &s);
    cr_assert_eq(s.queue, 0, "what was refused waits nowhere");
    embedder_close(e);
}

static uint64_t seed = 1;
static uint32_t rnd(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % below);
}

static const char *random_text(char *out)
{
    size_t len = 0, words = rnd(12);
    for (size_t w = 0; w < words; w++) {
        for (size_t i = 1 + rnd(3); i > 0; i--) out[len++] = (char)('a' + rnd(26));
        out[len++] = " !"[!rnd(9)];
    }
    out[len] = 0;
    return out;
}

Test(embedder_encoder, a_vector_does_not_depend_on_what_it_was_computed_beside)
{
    enum { ASKS = 40 };
    static char text[ASKS][N][60];
    struct embedder *alone = open_with(TINY, 10, 0), *busy = open_with(TINY, 100000, 100);
    struct fault f;
    for (int k = 0; k < 2; k++) {
        struct embedder *e = k ? busy : alone;
        cr_assert_eq(embedder_load_adapter(e, "qv", TINY "/adapters/qv", &f), 0, "%s", f.why);
        cr_assert_eq(embedder_load_adapter(e, "all", TINY "/adapters/all", &f), 1, "%s", f.why);
    }
    struct ask *a[ASKS];
    for (size_t i = 0; i < ASKS; i++) {
        const char *texts[N];
        size_t n = 1 + rnd(20);
        for (size_t k = 0; k < n; k++) texts[k] = random_text(text[i][k]);
        a[i] = ask(rnd(7), n, texts);
        a[i]->rq.adapter = (int)rnd(3) - 1;
        a[i]->rq.normalize = rnd(4);
        cr_assert_eq(embedder_submit(busy, &a[i]->rq, 0), EMBED_QUEUED);
        for (uint32_t k = rnd(5); k > 0; k--) embedder_step(busy, 0);
    }
    run_all(busy);
    for (size_t i = 0; i < ASKS; i++) {
        cr_assert_eq(a[i]->done, 1, "request %zu was answered %d times", i, a[i]->done);
        for (size_t k = 0; k < a[i]->rq.n; k++) {
            struct ask *one = ask_one(1, text[i][k]);
            one->rq.adapter = a[i]->rq.adapter;
            one->rq.normalize = a[i]->rq.normalize;
            cr_assert_eq(embedder_run(alone, &one->rq), EMBED_DONE);
            cr_assert_arr_eq(a[i]->vector + k * DIM, one->vector, DIM * sizeof(float),
                             "request %zu, text %zu", i, k);
            cr_assert_eq(a[i]->tokens[k], one->tokens[0]);
            free(one);
        }
        free(a[i]);
    }
    embedder_close(alone);
    embedder_close(busy);
}

/* ---- what cannot be opened */

#define ODD "build/models/odd" /* 70 rows; made by tests/models/make.py, skipped where it is not   \
                                */
static const struct { const char *model; int tokens; const char *why;
} vocabs[] = {
    {TINY, 0, "the vocabulary has no [CLS]"},
    {TINY, 64, NULL},
    {TINY, 63, NULL},
    {TINY, 5, NULL},
    {TINY, 65, "the vocabulary has 65 tokens, the embedding table 64 rows"},
    {TINY, 1000, "the vocabulary has 1000 tokens, the embedding table 64 rows"},
    {ODD, 7, NULL},
    {ODD, 6, "the vocabulary has 6 tokens, the embedding table 70 rows"},
};

Test(embedder_open, a_vocabulary_that_does_not_fit_the_table_is_refused)
{
    for (size_t i = 0; i < COUNT(vocabs); i++) {
        char text[12000] = "x\n";
        if (access(vocabs[i].model, R_OK)) continue;
        char *dir = dir_copy(vocabs[i].model, files);
        size_t len =
            vocabs[i].tokens ? (size_t)sprintf(text, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n") : 2;
        for (int k = 5; k < vocabs[i].tokens; k++) len += (size_t)sprintf(text + len, "t%d\n", k);
        dir_put(dir, "vocab.txt", text, len);
        struct fault f = {0};
        struct embedder_options o = { .model = dir, .max_queue = 1 };
        struct embedder *e = embedder_open(&o, &f);
        cr_assert_eq(e != NULL, vocabs[i].why == NULL, "row %zu: %s", i, f.why);
        if (!e)
            cr_assert(strstr(f.why, vocabs[i].why) && !strncmp(f.why, dir, strlen(dir)) &&
                          f.exit == 65,
                      "row %zu: %s", i, f.why);
        if (e) embedder_close(e);
        dir_remove(dir);
    }
}

Test(embedder_open, no_directory_is_a_clear_error)
{
    struct fault f = {0};
    struct embedder_options o = { .model = "/nonexistent/model", .max_queue = 1 };
    cr_assert_null(embedder_open(&o, &f));
    cr_assert_eq(f.exit, 65);
    cr_assert(strstr(f.why, "/nonexistent/model"), "%s", f.why);
}
