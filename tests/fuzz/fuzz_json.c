// uses: json.c number.c utf8.c base64.c
/* JSON: check and walk agree; the error is at the first byte that is wrong;
 * what was read and written anew is valid and reads the same; and, with
 * jansson, the same verdict and the same values. */
#include "json.h"

#include <math.h>
#include "../jansson_beside.h"

#include "fuzz.h"

static char *copy(const void *p, size_t n)
{
    char *c = malloc(n + !n);
    CHECK(c);
    if (n) memcpy(c, p, n);
    return c;
}

static void rewrite(struct json *in, struct json_out *out, enum json_type type);

static void rewrite_all(struct json *in, struct json_out *out, bool object)
{
    enum json_type type;
    json_open(out, object ? '{' : '[');
    json_enter(in);
    while ((type = json_next(in)) > JSON_END) {
        CHECK(object == (in->key.p != NULL));
        if (object) {  /* the name as it stands: json_put_key() takes only plain ones */
            json_put_raw(out, in->key.p - 1, in->key.len + 2);
            CHECK(out->len < out->cap);
            out->p[out->len++] = ':';
            out->comma = false;
            json_key_hash(in);
        }
        rewrite(in, out, type);
    }
    json_close(out, object ? '}' : ']');
}

/* Write what the cursor reads. Other ways of taking the value are tried on copies of the cursor. */
static void rewrite(struct json *in, struct json_out *out, enum json_type type)
{
    struct json other = *in, third = *in;
    if (type == JSON_NULL) json_put_null(out);
    if (type == JSON_TRUE || type == JSON_FALSE) json_put_bool(out, json_bool(in));
    if (type == JSON_NUMBER) {
        int64_t whole;
        double v = json_number(in);
        if (json_int(&other, &whole)) CHECK((double)whole == v && fabs(v) <= 9007199254740992.0);
        json_put_double(out, v);
        struct slice raw = json_raw(&third);
        CHECK((raw.p == NULL) == (in->err != NULL) && third.p == in->p);
    }
    if (type == JSON_STRING) {
        struct slice s = json_slice(in);
        if (!in->err) json_put_str(out, s.p, s.len);
        CHECK(in->err || utf8_valid((const uint8_t *)s.p, s.len));
    }
    if (type < JSON_ARRAY) return;
    float v[5] = {7, 7, 7, 7, 7};
    long n = json_f32s(&other, v, 4);
    CHECK(v[4] == 7 && (type == JSON_ARRAY || n == -1));
    rewrite_all(in, out, type == JSON_OBJECT);
    if (n >= 0) CHECK(!in->err && other.p == in->p);
}

/* Everything taken: the same verdict at the same byte; what was read is written anew to out. */
static const char *walk(const uint8_t *data, size_t size, size_t *at, struct json_out *out)
{
    char *text = copy(data, size);
    struct json in;
    json_init(&in, text, size);
    enum json_type type = json_next(&in);
    if (type > JSON_END) {
        rewrite(&in, out, type);
        json_next(&in);
    }
    *at = in.err_at;
    free(text);
    return in.err;
}

#ifdef HAVE_JANSSON
static void same(struct json *in, enum json_type type, json_t *tree)
{
    size_t n = 0;
    static const json_type of[] = { JANSSON_NULL, JANSSON_FALSE, JANSSON_TRUE, JSON_REAL,
                                    JANSSON_STRING, JANSSON_ARRAY, JANSSON_OBJECT };
    CHECK(json_typeof(tree) == of[type - JSON_NULL]);
    if (type == JSON_NUMBER) CHECK(json_number(in) == json_real_value(tree));
    if (type == JSON_STRING) {
        struct slice s = json_slice(in);
        CHECK(json_string_length(tree) == s.len && !memcmp(json_string_value(tree), s.p, s.len));
    }
    if (type < JSON_ARRAY) return;
    json_enter(in);
    for (enum json_type t; (t = json_next(in)) > JSON_END; n++) {
        const char *name;
        json_t *member, *found = type == JSON_ARRAY ? json_array_get(tree, n) : NULL;
        json_object_foreach(tree, name, member) {
            if (!json_key(in, name)) continue;
            CHECK(!found);
            found = member;
        }
        CHECK(found);
        same(in, t, found);
    }
    CHECK(n == (type == JSON_ARRAY ? json_array_size(tree) : json_object_size(tree)));
}

/* Our depth, its names without U+0000, doubled names, and a byte NUL that it takes for the end. */
static bool of_another_mind(const uint8_t *data, size_t size, const char *err, const json_error_t *its)
{
    return (err && !strcmp(err, "nested too deep")) || strstr(its->text, "NUL byte in object key") ||
           strstr(its->text, "duplicate object key") || (size && memchr(data, 0, size));
}

static void against_jansson(const uint8_t *data, size_t size, const char *err)
{
    json_error_t its = {0};
    json_t *tree = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL |
                              JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES, &its);
    if (!of_another_mind(data, size, err, &its)) {
        CHECK((tree == NULL) == (err != NULL));
        char *text = copy(data, size);
        struct json in;
        json_init(&in, text, size);
        if (!err) same(&in, json_next(&in), tree);
        free(text);
    }
    json_decref(tree);
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0, walked = 0, before = 0, cap = 8 * size + 64;
    char *text = copy(data, size), *first = malloc(cap), *second = malloc(cap);
    CHECK(first && second);
    const char *err = json_check(text, size, &at);
    CHECK(!memcmp(text, data, size) || !size);
    struct json_out out, again;
    out = json_out(first, cap);
    again = json_out(second, cap);
    CHECK((walk(data, size, &walked, &out) == NULL) == (err == NULL));
    CHECK(!out.full);
    if (err) {
        /* Nothing before is wrong, and this byte is, whatever follows. */
        CHECK(walked == at && at <= size);
        if (json_check(text, at, &before)) CHECK(before == at);
        if (at < size && strcmp(err, "number beyond double"))
            CHECK(json_check(text, at + 1, &before) && before == at);
    } else {
        CHECK(!json_check(first, out.len, &at));
        CHECK(!walk((const uint8_t *)first, out.len, &at, &again));
        CHECK(again.len == out.len && !memcmp(first, second, out.len));
    }
#ifdef HAVE_JANSSON
    against_jansson(data, size, err);
#endif
    free(text);
    free(first);
    free(second);
    return 0;
}
