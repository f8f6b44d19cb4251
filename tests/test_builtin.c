// uses: servers/inference/builtin.c
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "servers/inference/builtin.h"
#include "test.h"

enum { DIM = BUILTIN_DIMENSION };

static struct slice text(const char *s)
{
    return (struct slice){ s, strlen(s) };
}

static double cosine(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < DIM; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static double similarity(const char *a, const char *b)
{
    float va[DIM], vb[DIM];
    builtin_embed(text(a), true, va);
    builtin_embed(text(b), true, vb);
    return cosine(va, vb);
}

/* FNV-1a over the bits of a vector, the same whatever the byte order. */
static uint64_t bits_of(const float *v)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < DIM; i++) {
        uint32_t u;
        memcpy(&u, v + i, sizeof u);
        for (int k = 0; k < 32; k += 8) h = (h ^ (u >> k & 255)) * 0x100000001b3u;
    }
    return h;
}

static const struct { const char *text, *words; } cut[] = {
    { "", "" },
    { " .,;!?", "" },
    { "one", "one|" },
    { "Don't forget: Rex's 3rd birthday!", "Don|t|forget|Rex|s|3rd|birthday|" },
    { "a_b-c/d\\e", "a|b|c|d|e|" },
    { "[@`{", "" },
    { "AZaz09", "AZaz09|" },
    { "na\xc3\xafve caf\xc3\xa9", "na\xc3\xafve|caf\xc3\xa9|" },
    { "\xe6\x97\xa5\xe6\x9c\xac, \xf0\x9f\x98\x80.", "\xe6\x97\xa5\xe6\x9c\xac|\xf0\x9f\x98\x80|" },
    { "tab\tline\nend", "tab|line|end|" },
};

Test(builtin_word, a_word_is_a_run_of_letters_digits_and_high_bytes)
{
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        char got[100] = "";
        size_t at = 0, n = 0;
        for (struct slice w; (w = builtin_word(text(cut[i].text), &at)).len;) {
            memcpy(got + n, w.p, w.len);
            n += w.len;
            got[n++] = '|';
        }
        cr_assert_str_eq(got, cut[i].words, "\"%s\" gave %s", cut[i].text, got);
        cr_assert_eq(at, strlen(cut[i].text), "\"%s\" was not read to its end", cut[i].text);
    }
}

Test(builtin_word, a_nul_parts_words_and_ends_nothing)
{
    struct slice t = { "ab\0cd", 5 };
    size_t at = 0;
    cr_assert_eq(builtin_word(t, &at).len, 2);
    struct slice w = builtin_word(t, &at);
    cr_assert(w.len == 2 && !memcmp(w.p, "cd", 2));
}

/* The bits of the vectors are a promise: a store made on one board is read on another. */
static const struct { const char *text; uint32_t words; uint64_t unit, plain; } golden[] = {
    { "", 0, 0x2e22c2719731dec8, 0x2e22c2719731dec8 },
    { "!?", 0, 0xa2f2be518e844868, 0xa2f2be518e844868 },
    { "a", 1, 0x1ad13e257fa08fc1, 0xe66db78d371b0cc1 },
    { "red apple", 2, 0xa3fb60408e87a911, 0x34741b23ff92cc18 },
    { "The train to Hamburg leaves at seven every morning.", 9,
      0x0265d6a85d5ef745, 0xde713e7b23933c3c },
    { "na\xc3\xafve caf\xc3\xa9", 2, 0xc97c4f961e577b0c, 0xb978e2a70ce0929d },
    { "\xe6\x9d\xb1\xe4\xba\xac\xe3\x81\xae\xe5\xa4\xa9\xe6\xb0\x97", 1,
      0xe429bb09cf753069, 0x40c1ce3cfb3c22b8 },
    { "\xff broken \xe2", 3, 0xae5c0b469b990f45, 0x444f2ddbbd5178cc },
};

Test(builtin_embed, same_bits_on_every_platform)
{
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        float v[DIM], plain[DIM];
        uint32_t words = builtin_embed(text(golden[i].text), true, v);
        builtin_embed(text(golden[i].text), false, plain);
        cr_assert_eq(words, golden[i].words, "\"%s\" has %u words", golden[i].text, words);
        cr_assert_eq(bits_of(v), golden[i].unit, "\"%s\" unit 0x%016llx", golden[i].text,
                     (unsigned long long)bits_of(v));
        cr_assert_eq(bits_of(plain), golden[i].plain, "\"%s\" plain 0x%016llx", golden[i].text,
                     (unsigned long long)bits_of(plain));
    }
}

Test(builtin_embed, every_text_has_a_vector_of_unit_length)
{
    static char long_text[65536];
    memset(long_text, 'x', sizeof long_text);
    for (size_t i = 0; i < sizeof long_text; i += 7)
        long_text[i] = (char)(i % 13 ? ' ' : 'A' + i % 26);
    struct slice t[300];
    size_t n = 0;
    t[n++] = (struct slice){ long_text, sizeof long_text };
    for (size_t len = 0; len < 256; len++) t[n++] = (struct slice){ long_text + len, len % 17 };
    t[n++] = text("!?!");
    t[n++] = text("\xff\xfe\x80 broken \xe2");
    for (size_t i = 0; i < n; i++) {
        float v[DIM];
        builtin_embed(t[i], true, v);
        cr_assert_float_eq(cosine(v, v), 1, 1e-6, "row %zu has length %g", i, sqrt(cosine(v, v)));
    }
}

Test(builtin_embed, pooled_vector_is_a_multiple_of_the_unit_one_with_whole_squares)
{
    float v[DIM], plain[DIM];
    builtin_embed(text("The train to Hamburg leaves at seven every morning."), true, v);
    builtin_embed(text("The train to Hamburg leaves at seven every morning."), false, plain);
    double length = sqrt(cosine(plain, plain));
    cr_assert(length > 2);
    for (int i = 0; i < DIM; i++) {
        double square = (double)plain[i] * (double)plain[i];
        cr_assert_float_eq(square, round(square), 1e-5, "component %d squared is %g", i, square);
        cr_assert_float_eq((double)v[i] * length, plain[i], 1e-5, "component %d", i);
    }
}

static const struct { const char *a, *b; double least, most; } pairs[] = {
    { "red apple", "red apple", 0.9999, 1.0001 },
    { "Red APPLE!", "red apple", 0.9999, 1.0001 },
    { "red  apple", "red, apple", 0.9999, 1.0001 },
    { "red apple", "apple red", 0.5, 0.999 },       /* pairs tell the order apart */
    { "red apple", "red apples", 0.4, 0.99 },       /* n-grams join the forms of a word */
    { "What is my dog called?", "My dog is called Rex.", 0.4, 0.95 },
    { "What is my dog called?", "The tax return is due in July.", -1, 0.2 },
    { "\xe6\x9d\xb1\xe4\xba\xac\xe3\x81\xae\xe5\xa4\xa9\xe6\xb0\x97",
      "\xe6\x9d\xb1\xe4\xba\xac\xe3\x81\xae\xe9\xa7\x85", 0.3, 0.95 },
    { "gr\xc3\xbc\xc3\x9f" "e", "gr\xc3\xbc\xc3\x9f" "en", 0.3, 0.95 },
    { "colour", "bicycle", -0.3, 0.3 },
    { "!", "?", -0.01, 0.99 },
};

Test(builtin_embed, shared_wording_is_what_makes_texts_similar)
{
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        double s = similarity(pairs[i].a, pairs[i].b);
        cr_assert(s >= pairs[i].least && s <= pairs[i].most, "\"%s\" and \"%s\": %.4f",
                  pairs[i].a, pairs[i].b, s);
    }
}

/* The sentences of tests/data/sentences.txt and their vectors; returns how many. */
enum { MOST = 200 };
static char line[MOST][400];
static float vector[MOST][DIM];

static size_t sentences(void)
{
    FILE *f = fopen("tests/data/sentences.txt", "r");
    cr_assert(f != NULL, "run from the top of the tree");
    size_t n = 0;
    for (; n < MOST && fgets(line[n], sizeof line[n], f); n++) {
        line[n][strcspn(line[n], "\n")] = 0;
        builtin_embed(text(line[n]), true, vector[n]);
    }
    fclose(f);
    return n;
}

Test(builtin_calibration, four_of_five_random_pairs_fall_below_the_default)
{
    size_t n = sentences(), below = 0, pairs_seen = 0;
    cr_assert(n >= 100);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++, pairs_seen++)
            below += cosine(vector[i], vector[k]) < BUILTIN_MIN_SIMILARITY;
    double share = (double)below / (double)pairs_seen;
    cr_log_info("%.4f of %zu pairs lie below %g", share, pairs_seen, BUILTIN_MIN_SIMILARITY);
    cr_assert(share >= 0.80 && share < 0.83, "%.4f of %zu pairs", share, pairs_seen);
}

static const struct { const char *query, *found; } asked[] = {
    { "What is my dog called?", "My dog is called Rex" },
    { "When does the train to Hamburg leave?", "The train to Hamburg leaves" },
    { "Where is the key of the server room?", "Remember: the server room key" },
    { "How do I like my coffee?", "I like my coffee black" },
    { "What am I allergic to?", "I am allergic to peanuts" },
    { "When is the dentist appointment?", "The dentist appointment is" },
    { "what is the password of the guest network", "The password of the guest network" },
    { "where does my sister live", "My sister lives in Toronto" },
    { "flat tyre", "The bicycle has a flat tyre" },
    { "who plays violin", "She plays the violin" },
    { "smoke detector battery", "We should replace the battery" },
};

Test(builtin_calibration, a_question_finds_its_sentence_above_the_default)
{
    size_t n = sentences();
    for (size_t q = 0; q < sizeof asked / sizeof *asked; q++) {
        float x[DIM];
        builtin_embed(text(asked[q].query), true, x);
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (cosine(x, vector[i]) > cosine(x, vector[best])) best = i;
        cr_assert(!strncmp(line[best], asked[q].found, strlen(asked[q].found)),
                  "\"%s\" found %s", asked[q].query, line[best]);
        cr_assert(cosine(x, vector[best]) >= BUILTIN_MIN_SIMILARITY);
    }
}

Test(builtin_fingerprint, is_not_all_zero_and_names_the_version)
{
    cr_assert(!memcmp(builtin_fingerprint, BUILTIN_NAME, strlen(BUILTIN_NAME)));
    cr_assert_eq(builtin_fingerprint[31], 0);
}
