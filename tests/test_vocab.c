// uses: servers/inference/vocab.c servers/log.c servers/values.c utf8.c json.c number.c base64.c
#include "servers/inference/vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "servers/log.h"
#include "test.h"

#define COUNT(a) (sizeof (a) / sizeof *(a))

static struct slice text_of(const char *s)
{
    return (struct slice){ s, strlen(s) };
}

static struct vocab vocab_of(const char *lines, struct fault *f, int *r)
{
    struct vocab v;
    *r = vocab_lines(&v, lines, strlen(lines), f);
    return v;
}

static const struct { const char *lines, *token; uint32_t id; } found[] = {
    { "a\nb\nc\n", "a", 0 }, { "a\nb\nc\n", "c", 2 }, { "a\nb\nc", "c", 2 },
    { "a\nb\nc\n", "d", VOCAB_NONE }, { "a\r\nb\r\n", "b", 1 }, { " a \nb\n", " a ", 0 },
    { "a\n\nb\n", "b", 2 }, { "a\n\n\n", "a", 0 }, { "a\nb\na\n", "a", 2 },
    { "a\xe2\x80\xa8z\nb\n", "b", 1 },      /* U+2028 ends no line here */
    { "x\x0b\n\x0c\n\x85", "", VOCAB_NONE }, { "\xc2\x85\nb", "b", 1 }, { "##a\na", "##a", 0 },
};

Test(vocab_lines, line_number_is_the_id_and_only_the_line_end_is_stripped)
{
    for (size_t i = 0; i < COUNT(found); i++) {
        struct fault f = {0};
        int r;
        struct vocab v = vocab_of(found[i].lines, &f, &r);
        if (r) cr_assert_str_eq(f.why, "line 3 is not UTF-8", "row %zu: %s", i, f.why);
        else cr_assert_eq(vocab_id(&v, text_of(found[i].token)), found[i].id, "row %zu: %u", i,
                          vocab_id(&v, text_of(found[i].token)));
        cr_assert_eq(r, found[i].lines[0] == 'x' ? -1 : 0, "row %zu", i);
        vocab_free(&v);
    }
}

Test(vocab_lines, every_one_of_many_tokens_is_found)
{
    enum { N = 70000 };
    char *text = malloc(N * 8);
    size_t len = 0;
    for (unsigned i = 0; i < N; i++) len += (size_t)sprintf(text + len, "t%u\n", i);
    struct vocab v;
    struct fault f;
    cr_assert_eq(vocab_lines(&v, text, len, &f), 0);
    cr_assert_eq(v.n, N);
    cr_assert_eq(v.longest, 6);
    for (unsigned i = 0; i < N; i++) {
        char token[16];
        snprintf(token, sizeof token, "t%u", i);
        cr_assert_eq(vocab_id(&v, text_of(token)), i, "%s", token);
        snprintf(token, sizeof token, "u%u", i);
        cr_assert_eq(vocab_id(&v, text_of(token)), VOCAB_NONE, "%s", token);
    }
    vocab_free(&v);
    free(text);
}

Test(vocab_lines, one_token_on_every_line_costs_no_more_than_many)
{
    enum { N = 400000 };
    char *text = malloc(2 * N);
    for (size_t i = 0; i < 2 * N; i++) text[i] = "a\n"[i % 2];
    struct vocab v;
    struct fault f;
    clock_t begin = clock();
    cr_assert_eq(vocab_lines(&v, text, 2 * N, &f), 0);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    cr_assert_eq(vocab_id(&v, text_of("a")), N - 1);
    cr_assert(seconds < 5, "%.1f s", seconds);
    vocab_free(&v);
    free(text);
}
