// uses: json.c number.c utf8.c base64.c
/* JSON: what is accepted and what is not, each error at its byte, the cursor's
 * ways through a text, and the writer. */
#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

#define ROWS(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t seed;

static uint32_t chance(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

/* A copy without a byte of slack, so that a sanitizer sees a step too far. */
static char *copy(const char *text, size_t len)
{
    char *p = malloc(len + !len);
    cr_assert_not_null(p);
    memcpy(p, text, len);
    return p;
}

/* json_check() of a copy: its verdict, and that it changed nothing. */
static const char *check(const char *text, size_t len, size_t *at)
{
    char *p = copy(text, len);
    const char *err = json_check(p, len, at);
    cr_assert_arr_eq(p, text, len, "changed by json_check");
    free(p);
    return err;
}

/* Walk everything and take everything, decoding as it goes: same verdict? */
static const char *walk(const char *text, size_t len, size_t *at)
{
    char *p = copy(text, len);
    struct json in;
    int64_t i;
    json_init(&in, p, len);
    for (int level = 0;;) {
        enum json_type type = json_next(&in);
        if (type == JSON_ERROR || (type == JSON_END && !level--)) break;
        if (type == JSON_NUMBER && chance(2)) json_number(&in);
        else if (type == JSON_NUMBER) json_int(&in, &i);
        else if (type == JSON_STRING) json_slice(&in);
        else if (type == JSON_TRUE || type == JSON_FALSE) cr_assert_eq(json_bool(&in), type == JSON_TRUE);
        else if (type >= JSON_ARRAY) json_enter(&in), level++;
    }
    *at = in.err_at;
    free(p);
    return in.err;
}

static const char *const good[] = {
    "null", "true", "false", "0", "-0", "1", "-1.5e-3", "0E400", "\"\"", "[]", "{}", " [ ] ", "\t\n\r {\n}\r\n\t ",
    "[1]", "[1,2]", "[ 1 , 2 ]", "[[]]", "[[],[]]", "[{}]", "[null,true,false]", "[\"a\",1,{}]", "{\"a\":1}", "{ \"a\" : 1 , \"b\" : 2 }",
    "{\"\":0}", "{\"a\":{}}", "{\"a\":[]}", "{\"a\":{\"b\":{\"c\":[1,[2,[3]]]}}}", "{\"a\":1,\"a\":2}", "{\"a\\u0062\":1}",
    "\"a\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0000\"", "\"\\u00e9\\u20AC\\uFFFF\\ufffe\"", "\"\\ud83d\\ude00\"", "\"\\uD800\\uDC00\\uDBFF\\uDFFF\"",
    "\"\\ud7ff\\ue000\"", "\"\\u0022\\u005C\"", "\"\x7f\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\"\xe2\x80\xa8\xe2\x80\xa9\"", "\"\xef\xbf\xbe\xef\xbb\xbf\"", "\"/\"",
    "[1e308,-1e308,1e-400,123456789012345678901234567890]", "[0.1,0e1,0E+1,0e-1,1.5E+10]", "[1.7976931348623158e308]", "[\"\\\\\",\"\\\\\\\"\"]",
    "\"12345678\\n12345678\"", "\"1234567\\\"\"", "{\"k\":\"v\",\"n\":[1,2,3],\"o\":{\"t\":true,\"f\":false,\"z\":null}}", "[\"\\uFFFD\\uDBFF\\uDFFE\"]",
    "[0,-0,0.0,-0.0]", "[\"\\u000a\\u001f\"]", "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]", "\"asd \"", "[2] ", "  \"\"",
};

/* at: the byte that is wrong; -1: the end of the text */
static const struct { const char *text; int at; } bad[] = {
    { "", -1 }, { " ", -1 }, { "\n\t", -1 }, { "[", -1 }, { "{", -1 }, { "\"", -1 }, { "-", -1 }, { "n", -1 }, { "nul", -1 }, { "tru", -1 }, { "fals", -1 },
    { "[1", -1 }, { "[1,", -1 }, { "[1, ", -1 }, { "{\"a\"", -1 }, { "{\"a\":", -1 }, { "{\"a\":1", -1 }, { "{\"a\":1,", -1 }, { "{\"a", -1 }, { "[[]", -1 }, { "[{}", -1 }, { "[\"a\"", -1 },
    { "\"\\", -1 }, { "\"\\u", -1 }, { "\"\\u1", -1 }, { "\"\\u12", -1 }, { "\"\\u123", -1 }, { "\"\\u1234", -1 }, { "\"\\ud800", -1 }, { "\"\\ud800\\", -1 }, { "\"\\ud800\\u", -1 }, { "\"\\ud800\\ud", -1 },
    { "\"\\ud800\\udc0", -1 }, { "\"\\ud800\\udc00", -1 }, { "\"\xe2\x82", -1 }, { "1.", -1 }, { "1e", -1 }, { "1e+", -1 }, { "[1.", -1 }, { "[-", -1 },
    /* structure */
    { "]", 0 }, { "}", 0 }, { ",", 0 }, { ":", 0 }, { "[]]", 2 }, { "{}}", 2 }, { "[1]x", 3 }, { "1 2", 2 }, { "[] []", 3 }, { "{} 1", 3 }, { "\"\"\"", 2 }, { "[,]", 1 }, { "[1,]", 3 }, { "[1,,2]", 3 }, { "[,1]", 1 },
    { "[1 2]", 3 }, { "[1:2]", 2 }, { "[1}", 2 }, { "{]", 1 }, { "{1:2}", 1 }, { "{a:1}", 1 }, { "{'a':1}", 1 }, { "{\"a\"}", 4 }, { "{\"a\",1}", 4 }, { "{\"a\" 1}", 5 }, { "{\"a\"::1}", 5 }, { "{\"a\":}", 5 },
    { "{\"a\":1,}", 7 }, { "{\"a\":1 \"b\":2}", 7 }, { "{\"a\":1,,}", 7 }, { "{,}", 1 }, { "{null:1}", 1 }, { "{[]:1}", 1 }, { "{\"a\":1]", 6 }, { "[\"a\":1]", 4 }, { "{\"a\":[1}", 7 }, { "[{\"a\":1]", 7 }, { "{\"a\":\"b\"\"c\"}", 8 },
    { "[1],", 3 }, { "{},", 2 }, { "[][]", 2 }, { "nulll", 4 }, { "null null", 5 }, { "[true false]", 6 },
    /* white space and comments that are none */
    { "\xef\xbb\xbf[]", 0 }, { "[\f]", 1 }, { "[\v1]", 1 }, { "\xc2\xa0[]", 0 }, { "[]\xc2\xa0", 2 }, { "[1]/**/", 3 }, { "/**/1", 0 }, { "//\n1", 0 }, { "[1#]", 2 }, { "[\xe2\x80\xa8]", 1 },
    /* words */
    { "True", 0 }, { "NULL", 0 }, { "nUll", 1 }, { "nuLl", 2 }, { "nulL", 3 }, { "trux", 3 }, { "falze", 3 }, { "truefalse", 4 }, { "nil", 1 }, { "undefined", 0 }, { "NaN", 0 }, { "Infinity", 0 }, { "-Infinity", 1 }, { "[nul]", 4 }, { "inf", 0 },
    /* numbers */
    { "+1", 0 }, { ".5", 0 }, { "-.5", 1 }, { "01", 1 }, { "-01", 2 }, { "00", 1 }, { "1.e5", 2 }, { "1.x", 2 }, { "1e5.5", 3 }, { "0x10", 1 }, { "1e+-5", 3 }, { "1.2.3", 3 }, { "--1", 1 }, { "-a", 1 }, { "1a", 1 }, { "[1.]", 3 },
    { "[1e]", 3 }, { "[-]", 2 }, { "[+1]", 1 }, { "1_000", 1 }, { "[1,000]", 4 }, { "1e1e1", 3 }, { "\xef\xbc\x91", 0 }, { "1f", 1 }, { "[0123]", 2 }, { "[- 1]", 2 },
    { "1e309", 0 }, { "-1e309", 0 }, { "[1e999]", 1 }, { "[0,1e999]", 3 }, { "{\"a\":1e400}", 5 }, { "1.7976931348623159e308", 0 }, { "[1,[2,-1e99999]]", 6 }, { "999999999999999999999999999999e300", 0 },
    /* strings */
    { "'a'", 0 }, { "\"\n\"", 1 }, { "\"a\tb\"", 2 }, { "\"\x1f\"", 1 }, { "\"\\x41\"", 2 }, { "\"\\a\"", 2 }, { "\"\\'\"", 2 }, { "\"\\0\"", 2 }, { "\"\\U0041\"", 2 }, { "\"\\\n\"", 2 }, { "\"\\ \"", 2 },
    { "\"\\u00g0\"", 5 }, { "\"\\uG000\"", 3 }, { "\"\\u000\"", 6 }, { "\"\\u-123\"", 3 }, { "\"\\u 123\"", 3 }, { "\"\\u123\xc3\xa9\"", 6 }, { "\"\\u00:0\"", 5 }, { "\"\\u00/0\"", 5 }, { "\"\\u00@0\"", 5 }, { "\"\\u00`0\"", 5 }, { "\"\\u00[0\"", 5 },
    /* surrogates: at the first byte that leaves no way to a pair */
    { "\"\\udc00\"", 4 }, { "\"\\uDFFF\"", 4 }, { "\"\\udc00\\ud800\"", 4 }, { "\"\\ud800\"", 7 }, { "\"\\ud800x\"", 7 }, { "\"\\ud800\\n\"", 8 }, { "\"\\ud800\\\"", 8 }, { "\"\\ud800\\u0041\"", 9 }, { "\"\\ud800\\ue000\"", 9 },
    { "\"\\ud800\\ud800\"", 10 }, { "\"\\ud800\\udbff\"", 10 }, { "\"\\udbff\\udc0g\"", 12 }, { "\"\\ud83d\\ude00\\ude00\"", 16 }, { "{\"\\udead\":1}", 5 },
    /* UTF-8 */
    { "\"\x80\"", 1 }, { "\"\xff\"", 1 }, { "\"\xc3\"", 2 }, { "\"\xc0\x80\"", 1 }, { "\"\xed\xa0\x80\"", 2 }, { "\"\xe2\x82\"", 3 }, { "\"\xf4\x90\x80\x80\"", 2 }, { "\"\xf8\x88\x80\x80\x80\"", 1 }, { "\"a\xe9" "b\"", 3 },
    { "{\"\xff\":1}", 2 }, { "[\"\xe2\x82\xac\xe2\x82\"]", 7 }, { "\"\xc3\\n\"", 2 }, { "\"\xff\n\"", 1 }, { "\"\n\xff\"", 1 }, { "\"\xff\\q\"", 1 }, { "\"\\q\xff\"", 2 }, { "\"\\\xff\"", 2 }, { "\"\\\xc3\xa9\"", 2 }, { "\"\xe0\x9f\xbf\"", 2 },
    { "\"\xff", 1 }, { "\"\xf0\x9f\x98", -1 }, { "\xff", 0 }, { "[\xff]", 1 }, { "\"12345678\xff" "12345678\"", 9 }, { "\"\\ud800\xff\"", 7 },
};

Test(json_check, texts_of_the_grammar_are_accepted)
{
    for (size_t i = 0; i < ROWS(good); i++) {
        size_t at;
        cr_assert_null(check(good[i], strlen(good[i]), &at), "%s", good[i]);
        cr_assert_null(walk(good[i], strlen(good[i]), &at), "%s", good[i]);
    }
}

Test(json_check, other_texts_fail_at_the_byte_that_is_wrong)
{
    for (size_t i = 0; i < ROWS(bad); i++) {
        size_t len = strlen(bad[i].text), at = 999, want = bad[i].at < 0 ? len : (size_t)bad[i].at;
        cr_assert_not_null(check(bad[i].text, len, &at), "%s", bad[i].text);
        cr_assert_eq(at, want, "%s: %zu, not %zu", bad[i].text, at, want);
        cr_assert_not_null(walk(bad[i].text, len, &at), "%s", bad[i].text);
        cr_assert_eq(at, want, "%s walked: %zu, not %zu", bad[i].text, at, want);
    }
}

Test(json_check, nul_is_a_byte_like_others)
{
    static const struct { const char *text; size_t len, at; } rows[] = {
        { "\0", 1, 0 }, { "[\0]", 3, 1 }, { "\"\0\"", 3, 1 }, { "1\0", 2, 1 }, { "[]\0", 3, 2 }, { "nul\0", 4, 3 }, { "{\0", 2, 1 }, { "{\"a\"\0", 5, 4 }, { "[1\0", 3, 2 }, { "\"\\\0\"", 4, 2 }, { "\"\\u\0", 4, 3 },
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        size_t at = 999;
        cr_assert_not_null(check(rows[i].text, rows[i].len, &at), "row %zu", i);
        cr_assert_eq(at, rows[i].at, "row %zu: %zu", i, at);
    }
}

/* No error lies before err_at, and the byte at err_at is one whatever follows. */
static void error_is_exact(const char *text, size_t len)
{
    size_t at, before, there;
    const char *err = check(text, len, &at), *walked = walk(text, len, &before);
    cr_assert_eq(err == NULL, walked == NULL, "check %s, walk %s: %.*s", err, walked, (int)len, text);
    if (!err) return;
    cr_assert_eq(at, before, "check %zu (%s), walk %zu (%s): %.*s", at, err, before, walked, (int)len, text);
    cr_assert_leq(at, len);
    if (check(text, at, &before)) cr_assert_eq(before, at, "%.*s fails at %zu and, cut there, at %zu", (int)len, text, at, before);
    if (at == len || !strcmp(err, "number beyond double")) return;
    cr_assert_not_null(check(text, at + 1, &there), "%.*s", (int)at + 1, text);
    cr_assert_eq(there, at, "%.*s fails at %zu, not %zu", (int)at + 1, text, there, at);
}

static const char large[] =
    "{\"type\":\"store\",\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"id\":17,\"data\":{\"text\":\"na\xc3\xafve \\u00e9\\ud83d\\ude00 \xf0\x9f\x98\x80\\n\","
    "\"tags\":[\"a\",\"b\\\"c\"],\"embedding\":[0.125,-0.5,1e-3,3.4028235e38,-0,12345678901234567890],\"metadata\":{\"importance\":0.75,\"n\\u0061me\":null,"
    "\"deep\":[[[{\"x\":[true,false,null,{}]}],[]]]},\"pinned\":false}}";

Test(json_check, every_truncation_fails_at_its_end)
{
    size_t at;
    for (size_t n = 0; n < sizeof large - 1; n++) {
        cr_assert_not_null(check(large, n, &at));
        cr_assert_eq(at, n, "cut at %zu fails at %zu", n, at);
        error_is_exact(large, n);
    }
    cr_assert_null(check(large, sizeof large - 1, &at));
}

Test(json_check, every_changed_byte_is_judged_alike_and_exactly)
{
    static const char put[] = "\"\\{}[]:,01-.eEtfn \x00\x1f\x80\xbf\xc3\xe2\xed\xf0\xff" "ud/";
    char text[sizeof large];
    for (size_t i = 0; i < sizeof large - 1; i++)
        for (size_t k = 0; k < sizeof put - 1; k++) {
            memcpy(text, large, sizeof large);
            text[i] = put[k];
            error_is_exact(text, sizeof large - 1);
        }
}

Test(json_check, random_changes_are_judged_alike_and_exactly)
{
    seed = 11;
    for (int round = 0; round < 60000; round++) {
        char text[1200];
        const char *base = chance(3) ? good[chance(ROWS(good))] : chance(3) ? bad[chance(ROWS(bad))].text : large;
        size_t len = strlen(base);
        memcpy(text, base, len);
        for (uint32_t k = chance(4); k > 0 && len; k--) {
            size_t a = chance((uint32_t)len), n = chance(6) % (uint32_t)(len - a + 1);
            if (chance(3) == 0) text[a] = (char)chance(256);
            else if (chance(2)) memmove(text + a, text + a + n, len - a - n), len -= n;
            else if (len + n < 1100) memmove(text + a + n, text + a, len - a), len += n;
        }
        error_is_exact(text, len);
    }
}

Test(json_next, more_levels_are_read_where_it_is_asked_for)
{
    for (size_t depth = 60; depth <= 130; depth++) {
        char text[1000];
        struct json in;
        size_t n = 0, met = 0;
        for (size_t i = 0; i < depth; i++)
            n += (size_t)sprintf(text + n, "%s", i % 3 ? "[1," : "{\"a\":");
        text[n++] = '2';
        for (size_t i = depth; i-- > 0;) text[n++] = i % 3 ? ']' : '}';
        json_init(&in, text, n);
        in.most = 128;
        for (enum json_type t = json_next(&in); t > JSON_END; t = json_next(&in))
            if (t >= JSON_ARRAY) json_enter(&in), met++;
        while (in.depth && !in.err) json_next(&in);
        cr_assert_eq(json_next(&in), depth > 128 ? JSON_ERROR : JSON_END, "depth %zu", depth);
        cr_assert_eq(met, depth > 128 ? 128 : depth);
    }
}

Test(json_check, sixty_four_levels_are_the_limit)
{
    for (int object = 0; object < 2; object++)
        for (size_t depth = 62; depth <= 67; depth++) {
            char text[700];
            size_t n = 0, at = 0, sixty_fifth = 0;
            for (size_t i = 0; i < depth; i++) {
                if (i == 64) sixty_fifth = n;
                n += (size_t)sprintf(text + n, "%s", object && i + 1 < depth ? "{\"a\":" : "[");
            }
            for (size_t i = depth; i-- > 0;) text[n++] = object && i + 1 < depth ? '}' : ']';
            const char *err = check(text, n, &at);
            cr_assert_eq(err == NULL, depth <= 64, "depth %zu", depth);
            if (err) cr_assert_eq(at, sixty_fifth);
            error_is_exact(text, n);
        }
    static char many[200000];
    size_t at;
    memset(many, '[', sizeof many);
    cr_assert_not_null(json_check(many, sizeof many, &at));
    cr_assert_eq(at, 64u);
}

/* ---- the cursor */

static struct json in;
static char room[4096];

static void read_text(const char *text)
{
    strcpy(room, text);
    json_init(&in, room, strlen(text));
}

#define cr_slice(got, want)                                                                     \
    do {                                                                                        \
        struct slice s_ = (got);                                                                \
        cr_assert_eq(s_.len, sizeof(want) - 1, "%.*s", (int)s_.len, s_.p);                      \
        cr_assert_arr_eq(s_.p, want, sizeof(want) - 1, "%.*s", (int)s_.len, s_.p);              \
    } while (0)

Test(json_read, a_text_is_walked_once_in_order)
{
    int64_t i = 0;
    read_text(" {\"a\" : 1, \"b\":[true , null, \"x\"], \"c\":{}, \"d\":-2.5} ");
    cr_assert_eq(json_next(&in), JSON_OBJECT);
    json_enter(&in);
    cr_assert_eq(json_next(&in), JSON_NUMBER);
    cr_assert(json_key(&in, "a") && !json_key(&in, "b") && !json_key(&in, "") && !json_key(&in, "aa"));
    cr_assert(json_int(&in, &i) && i == 1);
    cr_assert_eq(json_next(&in), JSON_ARRAY);
    cr_assert(json_key(&in, "b"));
    json_enter(&in);
    cr_assert_eq(json_next(&in), JSON_TRUE);
    cr_assert_not(json_key(&in, "b"));
    cr_assert(json_bool(&in));
    cr_assert_eq(json_next(&in), JSON_NULL);
    cr_assert_eq(json_next(&in), JSON_STRING, "null is skipped");
    cr_slice(json_slice(&in), "x");
    cr_assert_eq(json_next(&in), JSON_END);
    cr_assert_eq(json_next(&in), JSON_OBJECT);
    cr_assert(json_key(&in, "c"));
    json_enter(&in);
    cr_assert_eq(json_next(&in), JSON_END);
    cr_assert_eq(json_next(&in), JSON_NUMBER);
    cr_assert_eq(json_number(&in), -2.5);
    cr_assert_eq(json_next(&in), JSON_END);
    cr_assert_eq(json_next(&in), JSON_END);
    cr_assert_eq(json_next(&in), JSON_END, "again");
    cr_assert_null(in.err);
}

Test(json_read, a_value_of_another_type_stays_where_it_is)
{
    int64_t i = 42;
    float f[2];
    read_text("[\"s\",1,[2],{\"k\":3},true,null]");
    json_next(&in);
    cr_assert_null(json_slice(&in).p);
    cr_assert_eq(json_number(&in), 0);
    json_enter(&in);
    json_next(&in);
    cr_assert(json_number(&in) == 0 && !json_bool(&in) && !json_int(&in, &i) && json_f32s(&in, f, 2) == -1);
    cr_slice(json_slice(&in), "s");
    json_next(&in);
    cr_assert(!json_slice(&in).p && !json_bool(&in) && json_f32s(&in, f, 2) == -1);
    cr_assert_eq(json_number(&in), 1);
    cr_assert(json_number(&in) == 0 && !json_slice(&in).p && !json_raw(&in).p, "taken is taken");
    json_next(&in);
    cr_assert(json_number(&in) == 0 && !json_slice(&in).p);
    cr_slice(json_raw(&in), "[2]");
    json_next(&in);
    cr_assert_eq(json_f32s(&in, f, 2), -1);
    cr_slice(json_raw(&in), "{\"k\":3}");
    json_next(&in);
    cr_assert(json_number(&in) == 0 && json_bool(&in));
    cr_assert_not(json_bool(&in), "taken is taken");
    cr_assert_eq(json_next(&in), JSON_NULL);
    cr_assert_not(json_bool(&in));
    cr_assert_eq(json_next(&in), JSON_END);
    cr_assert_eq(i, 42);
    cr_assert_null(in.err);
}

Test(json_read, entering_what_is_no_container_finds_it_empty)
{
    read_text("[1,\"a\\n\",true,[5],9]");
    json_next(&in);
    json_enter(&in);
    for (int k = 0; k < 3; k++) {
        cr_assert_gt(json_next(&in), JSON_END);
        json_enter(&in);
        cr_assert_eq(json_next(&in), JSON_END);
    }
    cr_assert_eq(json_next(&in), JSON_ARRAY);
    json_skip(&in);
    json_enter(&in);
    cr_assert_eq(json_next(&in), JSON_END, "taken already");
    cr_assert_eq(json_next(&in), JSON_NUMBER);
    cr_assert_eq(json_number(&in), 9);
    cr_assert_eq(json_next(&in), JSON_END);
    cr_assert_eq(json_next(&in), JSON_END);
    cr_assert_null(in.err);
}

Test(json_read, what_is_not_taken_is_skipped_but_checked)
{
    read_text("{\"a\":{\"x\":[1,2,{\"y\":\"\\u0041\"}]},\"b\":7}");
    json_next(&in);
    json_enter(&in);
    json_next(&in);
    cr_assert_eq(json_next(&in), JSON_NUMBER);
    cr_assert(json_key(&in, "b"));
    cr_assert_eq(json_number(&in), 7);
    read_text("{\"a\":[1,2,1e999],\"b\":7}");
    json_next(&in);
    json_enter(&in);
    json_next(&in);
    cr_assert_eq(json_next(&in), JSON_ERROR);
    cr_assert_eq(in.err_at, 10u);
    cr_assert_str_eq(in.err, "number beyond double");
}

Test(json_read, errors_are_sticky_and_everything_then_gives_zero)
{
    int64_t i = 5;
    float f[1];
    read_text("[1,x,2]");
    json_next(&in);
    json_enter(&in);
    json_next(&in);
    for (int k = 0; k < 3; k++) {
        cr_assert_eq(json_next(&in), JSON_ERROR);
        cr_assert(in.err_at == 3 && in.err && in.type == JSON_ERROR);
        cr_assert(!json_slice(&in).p && json_number(&in) == 0 && !json_int(&in, &i) && !json_bool(&in));
        cr_assert(!json_raw(&in).p && json_f32s(&in, f, 1) == -1);
        json_skip(&in);
        json_enter(&in);
    }
    cr_assert_eq(i, 5);
}

Test(json_read, a_broken_value_gives_zero_when_it_is_taken)
{
    static const char *const rows[] = { "\"a", "\"\\x\"", "\"\xff\"", "-", "1e999", "[1,", "[1 2]", "{\"a\"}", "1.", "[[\"\x01\"]]" };
    for (size_t k = 0; k < ROWS(rows); k++)
        for (int how = 0; how < 5; how++) {
            int64_t i = 5;
            float f[4];
            read_text(rows[k]);
            cr_assert_gt(json_next(&in), JSON_END);
            if (how == 0) cr_assert_null(json_slice(&in).p);
            if (how == 1) cr_assert_eq(json_number(&in), 0);
            if (how == 2) cr_assert_not(json_int(&in, &i));
            if (how == 3) cr_assert_null(json_raw(&in).p);
            if (how == 4) cr_assert_eq(json_f32s(&in, f, 4), -1);
            cr_assert_eq(json_next(&in), JSON_ERROR, "%s", rows[k]);
            cr_assert_eq(i, 5);
        }
}

Test(json_read, strings_are_decoded_in_place)
{
    static const struct { const char *text, *plain; size_t len; } rows[] = {
        { "\"\"", "", 0 }, { "\"abc\"", "abc", 3 }, { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8 }, { "\"a\\u0000b\"", "a\0b", 3 }, { "\"\\u00e9\"", "\xc3\xa9", 2 }, { "\"\\u20ac!\"", "\xe2\x82\xac!", 4 },
        { "\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", 4 }, { "\"\\uDBFF\\uDFFF\"", "\xf4\x8f\xbf\xbf", 4 }, { "\"\\uD800\\uDC00\"", "\xf0\x90\x80\x80", 4 }, { "\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"", "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf", 11 },
        { "\"long enough to be copied in runs\\nand once more\\n\"", "long enough to be copied in runs\nand once more\n", 47 }, { "\"\xc3\xa9\\n\xe2\x82\xac\"", "\xc3\xa9\n\xe2\x82\xac", 6 }, { "\"\\\\n\"", "\\n", 2 },
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        read_text(rows[i].text);
        cr_assert_eq(json_next(&in), JSON_STRING);
        struct slice s = json_slice(&in);
        cr_assert_eq(s.len, rows[i].len, "%s: %zu", rows[i].text, s.len);
        cr_assert_arr_eq(s.p, rows[i].plain, s.len, "%s", rows[i].text);
        cr_assert(s.p == room + 1, "over its own bytes");
        cr_assert_eq(json_next(&in), JSON_END);
    }
}

Test(json_read, names_can_be_read_twice_and_hash_by_what_they_say)
{
    char text[] = "{\"\\u0061b\":1,\"ab\":2,\"a\\nb\":3}", copy[sizeof text];
    memcpy(copy, text, sizeof text);
    for (int round = 0; round < 2; round++) {
        struct json j;
        json_init(&j, text, sizeof text - 1);
        json_next(&j);
        json_enter(&j);
        json_next(&j);
        uint64_t first = json_key_hash(&j);
        cr_assert(json_key(&j, "ab") && !json_key(&j, "a") && !json_key(&j, "abc"));
        json_next(&j);
        cr_assert_eq(json_key_hash(&j), first);
        json_next(&j);
        cr_assert_neq(json_key_hash(&j), first);
        cr_assert(!json_key(&j, "a\\nb") && json_key(&j, "a\nb"));
    }
    cr_assert_arr_eq(text, copy, sizeof text);
}

/* Published values of 64-bit FNV-1a. */
Test(json_read, names_hash_as_fnv_1a)
{
    static const struct { const char *text; uint64_t hash; } rows[] = {
        { "{\"\":0}", 0xcbf29ce484222325 }, { "{\"a\":0}", 0xaf63dc4c8601ec8c }, { "{\"foobar\":0}", 0x85944171f73967e8 },
        { "{\"f\\u006fob\\u0061r\":0}", 0x85944171f73967e8 },
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        read_text(rows[i].text);
        json_next(&in);
        json_enter(&in);
        json_next(&in);
        cr_assert_eq(json_key_hash(&in), rows[i].hash, "%s", rows[i].text);
    }
    read_text("[1]");
    json_next(&in);
    json_enter(&in);
    json_next(&in);
    cr_assert_not(json_key(&in, ""), "in a list there is no name");
}

Test(json_read, names_are_compared_decoded)
{
    static const struct { const char *text, *name; bool same; } rows[] = {
        { "{\"\\u0061\":0}", "a", true }, { "{\"\\u0061\":0}", "b", false }, { "{\"\\u0061\":0}", "", false }, { "{\"\\u0061\":0}", "ab", false },
        { "{\"\\u0000\":0}", "", false }, { "{\"a\\u0000b\":0}", "a", false }, { "{\"a\\u0000\":0}", "a", false }, { "{\"\\n\\t\":0}", "\n\t", true },
        { "{\"\\ud83d\\ude00x\":0}", "\xf0\x9f\x98\x80x", true }, { "{\"\\ud83d\\ude00\":0}", "\xf0\x9f\x98", false }, { "{\"\xc3\xa9\\u00e9\":0}", "\xc3\xa9\xc3\xa9", true },
        { "{\"\\\\u0061\":0}", "\\u0061", true }, { "{\"\\\\u0061\":0}", "a", false }, { "{\"\":0}", "", true }, { "{\"\":0}", "a", false }, { "{\"\\/\":0}", "/", true },
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        read_text(rows[i].text);
        json_next(&in);
        json_enter(&in);
        json_next(&in);
        cr_assert_eq(json_key(&in, rows[i].name), rows[i].same, "%s and %s", rows[i].text, rows[i].name);
        cr_assert_arr_eq(room, rows[i].text, strlen(rows[i].text), "not decoded in place");
    }
}

Test(json_read, names_inside_what_is_skipped_stand_as_they_are)
{
    read_text("{\"\\u0061b\":{\"\\u0063\":1},\"d\\n\":2}");
    json_next(&in);
    json_enter(&in);
    json_next(&in);
    cr_assert(json_key(&in, "ab"));
    cr_slice(json_raw(&in), "{\"\\u0063\":1}");
    json_next(&in);
    cr_assert(json_key(&in, "d\n"));
    cr_assert_eq(json_number(&in), 2);
    cr_assert_eq(json_next(&in), JSON_END);
}

Test(json_read, raw_values_come_as_they_stand)
{
    static const char *const rows[] = { "1", "-1.50", "\"a\\u0041\"", "[ 1 , 2 ]", "{\"a\" : [ ] }", "true", "false", "null", "{}" };
    for (size_t i = 0; i < ROWS(rows); i++) {
        char text[100];
        snprintf(text, sizeof text, "[ %s , %s ]", rows[i], rows[i]);
        read_text(text);
        json_next(&in);
        json_enter(&in);
        for (int k = 0; k < 2; k++) {
            json_next(&in);
            struct slice raw = json_raw(&in);
            cr_assert_eq(raw.len, strlen(rows[i]));
            cr_assert_arr_eq(raw.p, rows[i], raw.len);
        }
        cr_assert_eq(json_next(&in), JSON_END);
    }
}

Test(json_read, lists_of_floats_are_read_in_one_call)
{
    static const struct { const char *text; long n; float v[5]; } rows[] = {
        { "[]", 0, {0} }, { "[1]", 1, { 1 } }, { " [ 1 , 2.5,\n-3e-2 ] ", 3, { 1, 2.5f, -0.03f } }, { "[1,2,3,4,5,6,7]", 7, { 1, 2, 3, 4, 5 } },
        { "[1.00000017881393432617187499]", 1, { 1.0000001f } }, { "[1.00000017881393432617187501]", 1, { 1.0000002f } }, { "[3.4028235e38]", 1, { 3.4028235e38f } },
        { "[1,null]", -1, {0} }, { "[1,\"2\"]", -1, {0} }, { "[[1]]", -1, {0} }, { "[1,{}]", -1, {0} }, { "[3.5e38]", -1, {0} }, { "[1,-1e300,2]", -1, {0} }, { "[true]", -1, {0} }, { "1", -1, {0} }, { "{}", -1, {0} }, { "\"1\"", -1, {0} }, { "null", -1, {0} },
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        float v[6] = { 7, 7, 7, 7, 7, 7 };
        char text[200];
        snprintf(text, sizeof text, "[%s,17]", rows[i].text);
        read_text(text);
        json_next(&in);
        json_enter(&in);
        json_next(&in);
        cr_assert_eq(json_f32s(&in, v, 5), rows[i].n, "%s", rows[i].text);
        for (long k = 0; k < rows[i].n && k < 5; k++) cr_assert_eq(v[k], rows[i].v[k], "%s", rows[i].text);
        cr_assert_eq(v[5], 7, "wrote beyond cap");
        cr_assert_eq(json_next(&in), JSON_NUMBER, "%s", rows[i].text);
        cr_assert_eq(json_number(&in), 17);
        cr_assert_eq(json_next(&in), JSON_END);
        cr_assert_null(in.err);
    }
    read_text("[1,1e999]");
    float v[2];
    json_next(&in);
    cr_assert_eq(json_f32s(&in, v, 2), -1);
    cr_assert_eq(in.err_at, 3u);
}

Test(json_read, numbers_are_read_exactly)
{
    static const struct { const char *text; double v; bool whole; int64_t i; } rows[] = {
        { "0", 0, true, 0 }, { "1e2", 100, true, 100 }, { "1.0", 1, true, 1 }, { "0.1", 0.1, false, 0 }, { "9007199254740992", 9007199254740992, true, 9007199254740992 }, { "9007199254740993", 9007199254740992, false, 0 },
        { "-9007199254740992.0", -9007199254740992, true, -9007199254740992 }, { "1e-400", 0, false, 0 }, { "1e308", 1e308, false, 0 }, { "2.2250738585072011e-308", 2.225073858507201e-308, false, 0 },
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        int64_t v = 3;
        read_text(rows[i].text);
        json_next(&in);
        cr_assert_eq(json_number(&in), rows[i].v, "%s", rows[i].text);
        read_text(rows[i].text);
        json_next(&in);
        cr_assert_eq(json_int(&in, &v), rows[i].whole, "%s", rows[i].text);
        cr_assert_eq(v, rows[i].whole ? rows[i].i : 3);
        cr_assert_eq(json_next(&in), JSON_END);
    }
    read_text("-0");
    json_next(&in);
    cr_assert(signbit(json_number(&in)), "-0 is kept");
}

/* ---- the writer */

static struct json_out out;

static const char *written(void)
{
    cr_assert_not(out.full);
    out.p[out.len] = 0;
    return out.p;
}

/* One of everything. */
static void write_all(struct json_out *o)
{
    static const float v[] = { 0.5f, -1, 1e-8f };
    json_open(o, '{');
    json_put_key(o, "text");
    json_put_str(o, "q\"b\\n\n\x01\xc3\xa9\0x", 11);
    json_put_key(o, "list");
    json_open(o, '[');
    json_put_int(o, -5);
    json_put_double(o, 0.1);
    json_put_f32(o, 0.1f);
    json_put_bool(o, true);
    json_put_bool(o, false);
    json_put_null(o);
    json_open(o, '[');
    json_close(o, ']');
    json_open(o, '{');
    json_close(o, '}');
    json_close(o, ']');
    json_put_key(o, "v");
    json_put_f32s(o, v, 3);
    json_put_key(o, "b");
    json_put_base64(o, (const uint8_t *)"foobar!", 7);
    json_put_key(o, "raw");
    json_put_raw(o, "{\"x\":1}", 7);
    json_put_key(o, "t");
    json_put_text(o, "plain");
    json_close(o, '}');
}
static const char all[] =
    "{\"text\":\"q\\\"b\\\\n\\n\\u0001\xc3\xa9\\u0000x\",\"list\":[-5,0.1,0.1,true,false,null,[],{}],\"v\":[0.5,-1,1e-8],\"b\":\"Zm9vYmFyIQ==\",\"raw\":{\"x\":1},\"t\":\"plain\"}";

Test(json_write, commas_and_colons_come_by_themselves)
{
    out = json_out(room, sizeof room);
    write_all(&out);
    cr_assert_str_eq(written(), all);
    cr_assert_eq(out.depth, 0);
    size_t at;
    cr_assert_null(check(out.p, out.len, &at));
}

Test(json_write, what_does_not_fit_is_not_begun)
{
    for (size_t cap = 0; cap < sizeof all - 1; cap++) {
        char *p = malloc(cap + 1);
        memset(p, '#', cap + 1);
        out = json_out(p, cap);
        write_all(&out);
        cr_assert(out.full && out.len <= cap, "cap %zu", cap);
        cr_assert_arr_eq(p, all, out.len);
        /* Whole pieces only: no part of the string, of the vector, of base64. */
        cr_assert(out.len <= 8 || out.len >= 34, "cap %zu: %zu", cap, out.len);
        size_t v = (size_t)(strstr(all, "[0.5") - all), b = (size_t)(strstr(all, "\"Zm9") - all);
        cr_assert(out.len <= v || out.len >= v + 13, "cap %zu: %zu", cap, out.len);
        cr_assert(out.len <= b || out.len >= b + 14, "cap %zu: %zu", cap, out.len);
        cr_assert_eq(p[cap], '#');
        free(p);
    }
    char exact[sizeof all - 1];
    out = json_out(exact, sizeof exact);
    write_all(&out);
    cr_assert(!out.full && out.len == sizeof exact);
}

Test(json_write, the_outermost_value_may_be_anything)
{
    out = json_out(room, sizeof room);
    json_put_int(&out, 5);
    cr_assert_str_eq(written(), "5");
    out = json_out(room, sizeof room);
    json_put_f32s(&out, NULL, 0);
    cr_assert_str_eq(written(), "[]");
    out = json_out(room, sizeof room);
    json_put_base64(&out, NULL, 0);
    cr_assert_str_eq(written(), "\"\"");
    out = json_out(NULL, 0);
    json_put_null(&out);
    cr_assert(out.full && !out.len);
}

Test(json_write, numbers_without_a_value_become_null)
{
    const float v[] = { 1, (float)INFINITY, (float)NAN };
    out = json_out(room, sizeof room);
    json_open(&out, '[');
    json_put_double(&out, INFINITY);
    json_put_double(&out, -INFINITY);
    json_put_double(&out, NAN);
    json_put_f32(&out, -(float)INFINITY);
    json_put_f32s(&out, v, 3);
    json_put_double(&out, -0.0);
    json_put_int(&out, INT64_MIN);
    json_close(&out, ']');
    cr_assert_str_eq(written(), "[null,null,null,null,[1,null,null],-0,-9223372036854775808]");
}

Test(json_write, every_character_comes_back)
{
    for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 97) {
        if (c >= 0xd800 && c < 0xe000) continue;
        for (size_t before = 0; before < 18; before += c < 0x80 ? 1 : 9) {
            uint8_t text[32];
            memset(text, 'a', sizeof text);
            size_t n = before + utf8_put(text + before, c) + before % 3;
            out = json_out(room, sizeof room);
            json_put_str(&out, (const char *)text, n);
            size_t at;
            cr_assert_null(json_check(room, out.len, &at), "U+%04X", c);
            json_init(&in, room, out.len);
            json_next(&in);
            struct slice s = json_slice(&in);
            cr_assert(s.len == n && !memcmp(s.p, text, n), "U+%04X", c);
        }
    }
}

/* Random values, written while a journal of them is kept in brief; the reader gives the same journal. */
static void note(char *log, size_t *n, const char *what, double v)
{
    if (*n < 30000) *n += (size_t)sprintf(log + *n, "%s%.17g ", what, v);
}

static void write_random(struct json_out *o, char *log, size_t *n, int depth)
{
    uint32_t kind = chance(depth > 5 ? 5 : 7);
    double v = kind == 0 ? (double)chance(1000) : ldexp((double)chance(1u << 31) + 0.5, (int)chance(200) - 100);
    if (kind <= 1) note(log, n, "n", v), json_put_double(o, v);
    else if (kind == 2) note(log, n, "s", 9), json_put_text(o, "\xc3\xa9\n\"dollar\\");
    else if (kind == 3) note(log, n, "b", kind = chance(2)), json_put_bool(o, kind);
    else if (kind == 4) note(log, n, "z", 0), json_put_null(o);
    else {
        bool object = kind == 6;
        note(log, n, object ? "{" : "[", 0);
        json_open(o, object ? '{' : '[');
        for (uint32_t left = chance(5); left > 0; left--) {
            if (object) note(log, n, "k", left), json_put_key(o, (const char *[]){ "", "a", "long name", "x", "y" }[left]);
            write_random(o, log, n, depth + 1);
        }
        json_close(o, object ? '}' : ']');
        note(log, n, "]", 0);
    }
}

static void read_random(struct json *j, char *log, size_t *n)
{
    for (int level = 0;;) {
        enum json_type type = json_next(j);
        if (type == JSON_ERROR) break;
        if (type == JSON_END) {
            if (!level--) break;
            note(log, n, "]", 0);
            continue;
        }
        if (j->key.p)
            for (uint32_t k = 0; k < 5; k++)
                if (json_key(j, (const char *[]){ "", "a", "long name", "x", "y" }[k])) note(log, n, "k", k);
        if (type == JSON_NUMBER) note(log, n, "n", json_number(j));
        else if (type == JSON_STRING) note(log, n, "s", (double)json_slice(j).len - 2);
        else if (type == JSON_NULL) note(log, n, "z", 0);
        else if (type < JSON_STRING) note(log, n, "b", json_bool(j));
        else note(log, n, type == JSON_OBJECT ? "{" : "[", 0), json_enter(j), level++;
    }
}

Test(json_write, random_texts_read_back_the_same)
{
    static char text[65536], log[33000], again[33000];
    seed = 21;
    for (int round = 0; round < 3000; round++) {
        size_t n = 0, m = 0, at;
        out = json_out(text, sizeof text);
        write_random(&out, log, &n, 0);
        cr_assert_not(out.full);
        cr_assert_null(json_check(text, out.len, &at), "at %zu", at);
        json_init(&in, text, out.len);
        read_random(&in, again, &m);
        cr_assert_null(in.err);
        log[n] = again[m] = 0;
        cr_assert_str_eq(again, log);
    }
}

Test(json_write, vectors_read_back_as_the_same_floats)
{
    static char text[384 * 40];
    float v[384], w[384];
    seed = 22;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 384; i++) {
            uint32_t bits = chance(1u << 31) << 1 | chance(2);
            if ((bits >> 23 & 0xff) == 0xff) bits ^= 1u << 30;
            memcpy(&v[i], &bits, 4);
            if (round % 2) v[i] = (float)chance(1u << 24) / (1 << 24) - 0.5f;
        }
        out = json_out(text, sizeof text);
        json_put_f32s(&out, v, 384);
        cr_assert_not(out.full);
        json_init(&in, text, out.len);
        json_next(&in);
        cr_assert_eq(json_f32s(&in, w, 384), 384);
        cr_assert_arr_eq(w, v, sizeof v);
    }
}
