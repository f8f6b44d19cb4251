// uses: servers/memory/significance.c servers/memory/hash.c
#include "servers/memory/significance.h"

#include "memories.h"
#include "test.h"

/* SPEC 5, check values: one store a day. */
static const struct {
    const char *text;
    float x[3];
    double s, d, q, sigma, c[3], w;
} days[] = {
    { "red apple", { 1, 0, 0 }, 0.5, 1, 0.117503, 0.535251, { 0.1, 0, 0 }, 0.1 },
    { "green apple", { 0.8f, 0.6f, 0 }, 0.2, 0.2, 0.096910, 0.169073, { 0.17, 0.06, 0 }, 0.19 },
    { "my bicycle is broken", { 0, 0, 1 }, 1, 1, 0.221199, 0.766360, { 0.1564, 0.0552, 0.08 }, 0.2548 },
    { "red apple pie", { 0.96f, 0.28f, 0 }, 0.350078, 0.04, 0.128959, 0.190719, { 0.23676, 0.07768, 0.072 }, 0.32932 },
};

Test(significance, check_values_hold_to_six_digits)
{
    struct vocabulary v = { .key = { 1, 2 } };
    struct stream *stream = stream_new(3);
    for (size_t i = 0; i < 4; i++) {
        struct slice text = { days[i].text, strlen(days[i].text) };
        double s = stream_surprise(stream, days[i].x, 3), q = vocabulary_information(&v, text);
        cr_assert_float_eq(s, days[i].s, 5e-7, "s on day %zu: %.7f", i, s);
        cr_assert_float_eq(q, days[i].q, 5e-7, "q on day %zu: %.7f", i, q);
        cr_assert_float_eq(significance_of(s, q, days[i].d, 0), days[i].sigma, 5e-7, "sigma on day %zu", i);
        stream_push(stream, days[i].x, 3, s);
        for (int j = 0; j < 3; j++) cr_assert_float_eq(stream->c[j], days[i].c[j], 5e-7, "c on day %zu", i);
        cr_assert_float_eq(stream->w, days[i].w, 5e-7, "w on day %zu", i);
        cr_assert_eq(vocabulary_add(&v, text), 0);
    }
    free(stream);
    vocabulary_free(&v);
}

Test(significance, surprise_stays_within_zero_and_one)
{
    static const float x[2] = { 1, 0 }, away[2] = { -1, 0 };
    struct stream *stream = stream_new(2);
    cr_assert_float_eq(stream_surprise(NULL, x, 2), 0.5, 0);
    stream_push(stream, x, 2, 0.5);
    cr_assert_float_eq(stream_surprise(stream, x, 2), 0, 0);
    cr_assert_float_eq(stream_surprise(stream, away, 2), 1, 0);
    free(stream);
}

static const struct { const char *text; double importance, floor; } floors[] = {
    { "remember: milk", -1, 0.75 }, { "Important: milk", -1, 0.75 }, { "NOTE:", -1, 0.75 },
    { "fact: water is wet", -1, 0.75 }, { "please don't forget it", -1, 0.75 },
    { "Don't Forget", -1, 0.75 }, { "don't forge", -1, 0 }, { "dont forget", -1, 0 },
    { "I remember: milk", -1, 0 }, { "remember milk", -1, 0 }, { "note", -1, 0 }, { "", -1, 0 },
    { "plain", 0.3, 0.3 }, { "note: x", 0.3, 0.75 }, { "note: x", 0.9, 0.9 }, { "plain", 1, 1 },
};

Test(significance, floor_comes_from_the_text_or_its_importance)
{
    for (size_t i = 0; i < sizeof floors / sizeof *floors; i++) {
        struct slice text = { floors[i].text, strlen(floors[i].text) };
        cr_assert_float_eq(significance_floor(text, floors[i].importance), floors[i].floor, 0, "%s", floors[i].text);
    }
    cr_assert_float_eq(significance_of(0, 0, 0, 0.75), 0.75, 0);
    cr_assert_float_eq(significance_of(1, 1, 1, 0.75), 1, 1e-15);
}

Test(significance, strength_fades_slower_for_what_matters)
{
    const int64_t day = 86400000;
    cr_assert_float_eq(significance_strength(0.535251, 5 * day), 0.279047, 5e-6);
    cr_assert_float_eq(significance_strength(0.5, 0), 0.5, 0);
    cr_assert_float_eq(significance_strength(0.5, -day), 0.5, 0, "a clock that jumps back");
    cr_assert_float_eq(significance_strength(1, 10 * day), exp(-1), 1e-15);
    cr_assert(significance_strength(1, 10 * day) > 10 * significance_strength(0.2, 10 * day) / 2);
    cr_assert(significance_strength(1, INT64_MAX) >= 0, "fifty years and more");
    cr_assert_float_eq(significance_reinforced(0.5), 0.55, 1e-15);
    cr_assert_float_eq(significance_reinforced(1), 1, 0);
}

/* Distinct words, and how often each text of a row holds them, by another way:
 * with a single text the information is that of n words of df 0. */
static const struct { struct slice text; int words; } word_rows[] = {
    { { "", 0 }, 0 }, { { " .,;", 4 }, 0 }, { { "a", 1 }, 1 }, { { "a A a", 5 }, 1 },
    { { "a-b_c", 5 }, 3 }, { { "don't", 5 }, 2 }, { { "x1 1x", 5 }, 2 },
    { { "\xc3\xa4pfel \xc3\x84pfel", 13 }, 2 }, { { "w\0w w", 5 }, 1 },
    { { "Zz zZ @ [ ` { / :", 17 }, 1 },
};

Test(significance, words_are_runs_of_letters_digits_and_high_bytes)
{
    struct vocabulary v = { .key = { 3, 4 } };
    for (size_t i = 0; i < sizeof word_rows / sizeof *word_rows; i++) {
        double q = vocabulary_information(&v, word_rows[i].text);
        cr_assert_float_eq(q, 1 - exp(-word_rows[i].words / 16.0), 1e-12, "row %zu", i);
    }
    vocabulary_free(&v);
}

static size_t long_text(char *p, size_t cap, uint64_t *seed)
{
    size_t len = 0, want = random_next(seed) % cap;
    while (len + 12 < want) {
        len += (size_t)snprintf(p + len, 12, random_next(seed) % 3 ? "w%u " : "%u", random_next(seed) % 400);
    }
    return len;
}

Test(significance, document_frequencies_stay_exact_over_adding_and_removing)
{
    enum { TEXTS = 300 };
    static char texts[TEXTS][1500];
    static size_t len[TEXTS];
    bool in[TEXTS] = { false };
    uint64_t seed = 5;
    struct vocabulary v = { .key = { 5, 6 } };
    for (int i = 0; i < TEXTS; i++) len[i] = long_text(texts[i], sizeof *texts, &seed);
    for (int round = 0; round < 3000; round++) {
        size_t i = random_next(&seed) % TEXTS;
        struct slice text = { texts[i], len[i] };
        if (in[i]) vocabulary_remove(&v, text);
        else cr_assert_eq(vocabulary_add(&v, text), 0);
        in[i] = !in[i];
    }
    struct vocabulary fresh = { .key = { 5, 6 } };
    for (size_t i = 0; i < TEXTS; i++) {
        if (in[i]) vocabulary_add(&fresh, (struct slice){ texts[i], len[i] });
    }
    cr_assert_eq(v.texts, fresh.texts);
    cr_assert_eq(v.used, fresh.used);
    for (size_t i = 0; i < TEXTS; i++) {
        struct slice text = { texts[i], len[i] };
        cr_assert_eq(vocabulary_information(&v, text), vocabulary_information(&fresh, text), "text %zu", i);
    }
    for (size_t i = 0; i < TEXTS; i++) {
        if (in[i]) vocabulary_remove(&v, (struct slice){ texts[i], len[i] });
    }
    cr_assert_eq(v.used, 0, "nothing is left of the words");
    vocabulary_free(&v);
    vocabulary_free(&fresh);
}

Test(significance, words_of_any_length_are_told_apart)
{
    static char a[400], b[400];
    struct vocabulary v = { .key = { 7, 8 } };
    for (size_t n = 1; n < sizeof a; n++) {
        memset(a, 'x', n);
        memcpy(b, a, n);
        b[n - 1] = 'y';
        cr_assert_eq(vocabulary_add(&v, (struct slice){ a, n }), 0);
        cr_assert_eq(vocabulary_add(&v, (struct slice){ b, n }), 0);
        cr_assert_eq(v.used, 2 * n, "%zu letters", n);
    }
    vocabulary_free(&v);
}

Test(significance, the_longest_text_of_the_inference_endpoint_is_taken)
{
    static char text[65536];
    struct vocabulary v = { .key = { 9, 10 } };
    for (size_t i = 0; i < sizeof text; i++) text[i] = i % 2 ? ' ' : (char)('a' + i / 2 % 26);
    cr_assert_eq(vocabulary_add(&v, (struct slice){ text, sizeof text }), 0);
    cr_assert_eq(v.used, 26);
    vocabulary_free(&v);
}

Test(significance, the_session_unused_for_longest_goes_first)
{
    static struct streams ss;
    struct stream *gone;
    for (uint64_t key = 1; key <= STREAMS_MAX; key++) {
        cr_assert_not_null(streams_take(&ss, key, 2, &gone));
        cr_assert_null(gone);
    }
    streams_take(&ss, 1, 2, &gone);                       /* used again */
    struct stream *newest = streams_take(&ss, 5000, 2, &gone);
    cr_assert_eq(ss.n, STREAMS_MAX);
    cr_assert_eq(gone->key, 2);
    cr_assert_null(streams_find(&ss, 2));
    cr_assert_not_null(streams_find(&ss, 1));
    streams_drop(&ss, newest);                            /* undone */
    streams_restore(&ss, gone);
    cr_assert_eq(streams_find(&ss, 2), gone);
    cr_assert_null(streams_find(&ss, 5000));
    streams_clear(&ss);
    cr_assert_eq(ss.n, 0);
}
