/* See json.h. The reader is a cursor: json_next() looks only at a value's first
 * byte, and whoever takes or skips the value checks the rest of it. */
#include "json.h"

#include <assert.h>
#include <string.h>

#include "base64.h"
#include "number.h"

/* Reader's flags */
enum {
    STARTED = 1,  /* the outermost value was seen */
    PENDING = 2,  /* a value stands at p, neither taken nor entered */
    FRESH   = 4,  /* nothing of this container was seen yet */
    EMPTY   = 8   /* what was entered is no container: over at once */
};

/* What may stand behind a backslash, and what it means there. */
static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";

/* Bytes before the first quote, backslash or control character; bits of those beyond ASCII. */
static size_t plain(const char *s, size_t n, uint64_t *high)
{
    typedef uint8_t vec __attribute__((vector_size(16)));
    vec v, hit, all = {0};
    uint64_t half[2] = {0};
    size_t i = 0;
    for (; n - i >= sizeof v; i += sizeof v) {
        memcpy(&v, s + i, sizeof v);
        hit = (vec)((v == '"') | (v == '\\') | (v < 0x20));
        memcpy(half, &hit, sizeof half);
        all |= v;
        if (half[0] | half[1]) break;
    }
    uint64_t first = half[0] ? half[0] : half[1], seen[2];
    memcpy(seen, &all, sizeof seen);
    *high |= (seen[0] | seen[1]) & 0x8080808080808080u;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    first = __builtin_bswap64(first);
#endif
    if (first) return i + (half[0] ? 0 : 8) + (size_t)__builtin_ctzll(first) / 8;
    for (; i < n && s[i] != '"' && s[i] != '\\' && (unsigned char)s[i] >= 0x20; i++)
        *high |= (unsigned char)s[i] & 0x80;
    return i;
}

/* Four hex digits at s: a UTF-16 unit that must be a low surrogate, or none. Returns
 * what follows, or NULL with *wrong at the first byte that cannot be right. */
static char *unit(char *s, const char *end, bool low, uint32_t *out, char **wrong)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++, s++) {
        *wrong = s;
        if (s == end) return NULL;
        uint32_t c = (unsigned char)*s, letter = (c | 0x20) - 'a';
        uint32_t digit = c - '0' < 10 ? c - '0' : letter < 6 ? letter + 10 : 16;
        if (digit > 15) return NULL;
        v = v << 4 | digit;
        if (i == 0 && low && v != 0xd) return NULL;
        if (i == 1 && ((v & 0xfc) == 0xdc) != low) return NULL;
    }
    *out = v;
    return s;
}

/* What the escape at s stands for (section 7). Returns as unit() does. */
static char *escape(char *s, const char *end, uint32_t *out, char **wrong)
{
    *wrong = ++s;
    if (s == end) return NULL;
    const char *name = memchr(names, *s, sizeof names - 1);
    if (name) return *out = (unsigned char)meant[name - names], s + 1;
    if (*s != 'u') return NULL;
    s = unit(s + 1, end, false, out, wrong);
    if (!s || (*out & 0xfc00) != 0xd800) return s;
    for (const char *next = "\\u"; *next; next++, s++) {
        *wrong = s;
        if (s == end || *s != *next) return NULL;
    }
    uint32_t low;
    s = unit(s, end, true, &low, wrong);
    if (s) *out = 0x10000 + ((*out & 0x3ff) << 10 | (low & 0x3ff));
    return s;
}

static enum json_type fail(struct json *in, const char *at, const char *why)
{
    in->err = why;
    in->err_at = (size_t)(at - in->start);
    in->flags &= (uint8_t)~PENDING;
    return in->type = JSON_ERROR;
}

/* The byte that stands next behind white space; 0 at the end. */
static char peek(struct json *in)
{
    while (in->p < in->end && (*in->p == ' ' || *in->p == '\n' || *in->p == '\r' || *in->p == '\t'))
        in->p++;
    return in->p < in->end ? *in->p : 0;
}

/* Check the string at p and move behind it. What is between the quotes, or NULL. */
static struct slice string(struct json *in)
{
    char *from = in->p + 1, *s = from, *next, *wrong;
    const char *why = NULL;
    uint64_t high = 0;
    uint32_t c;
    for (; s += plain(s, (size_t)(in->end - s), &high), s < in->end && *s == '\\'; s = next) {
        next = escape(s, in->end, &c, &wrong);
        if (next) continue;
        why = "wrong escape";
        s = wrong;
        break;
    }
    if (!why && s == in->end) why = "string without an end";
    if (!why && *s != '"') why = "control character in a string";
    size_t n = (size_t)(s - from) + (s < in->end);
    struct utf8 u = {0};
    size_t right = high ? utf8_check(&u, (const uint8_t *)from, n) : n;
    if (right < n) fail(in, from + right, "wrong UTF-8");
    else if (why) fail(in, s, why);
    if (in->err) return (struct slice){0};
    in->p = s + 1;
    return (struct slice){from, (size_t)(s - from)};
}

/* Decode a checked string over itself. */
static struct slice decode(struct json *in, struct slice text)
{
    char *from = in->start + (text.p - in->start), *end = from + text.len, *wrong;
    char *s = memchr(from, '\\', text.len), *out = s;
    if (!s) return text;
    while (s < end) {
        uint32_t c = 0;
        s = escape(s, end, &c, &wrong);
        out += utf8_put((uint8_t *)out, c);
        char *next = memchr(s, '\\', (size_t)(end - s));
        size_t run = (size_t)((next ? next : end) - s);
        memmove(out, s, run);
        out += run;
        s += run;
    }
    return (struct slice){from, (size_t)(out - from)};
}

/* Check the number at p and move behind it; false on an error. */
static bool number(struct json *in, struct number *n)
{
    size_t size = number_read(n, in->p, (size_t)(in->end - in->p));
    if (!size) fail(in, in->p + n->len, "wrong number");
    else if (!number_finite(n)) fail(in, in->p, "number beyond double");
    in->p += size;
    return !in->err;
}

/* Is a value of this type pending? It no longer is. */
static bool take(struct json *in, enum json_type type)
{
    if (!(in->flags & PENDING) || in->type != type) return false;
    in->flags &= (uint8_t)~PENDING;
    return true;
}

/* In a list behind a number: does the next follow at once? Saves vectors the general step. */
static bool another(struct json *in)
{
    bool yes = in->end - in->p > 1 && *in->p == ',' && number_begins(in->p[1]);
    in->p += yes;
    return yes;
}

static enum json_type word(struct json *in, const char *text, enum json_type type)
{
    for (const char *s = in->p; *text; s++, text++)
        if (s == in->end || *s != *text) return fail(in, s, "no value");
    return in->type = type;
}

/* See what stands next. */
static enum json_type value(struct json *in)
{
    char c = peek(in);
    in->flags |= PENDING;
    if (number_begins(c)) return in->type = JSON_NUMBER;
    switch (c) {
    case '"': return in->type = JSON_STRING;
    case 'n': return word(in, "null", JSON_NULL);
    case 'f': return word(in, "false", JSON_FALSE);
    case 't': return word(in, "true", JSON_TRUE);
    case '[': case '{':
        if (in->depth == in->most) return fail(in, in->p, "nested too deep");
        return in->type = c == '[' ? JSON_ARRAY : JSON_OBJECT;
    default: return fail(in, in->p, in->p < in->end ? "no value" : "text without an end");
    }
}

/* A member's name and colon. */
static enum json_type member(struct json *in)
{
    if (peek(in) != '"') return fail(in, in->p, "no name of a member");
    in->key = string(in);
    if (in->err) return JSON_ERROR;
    if (peek(in) != ':') return fail(in, in->p, "no colon");
    in->p++;
    return value(in);
}

void json_init(struct json *in, char *text, size_t len)
{
    *in = (struct json){.start = text, .p = text, .end = text + len,
                        .most = JSON_DEPTH};
}

enum json_type json_next(struct json *in)
{
    if (in->flags & PENDING) json_skip(in);
    if (in->err) return in->type = JSON_ERROR;
    uint8_t was = in->flags;
    in->flags &= STARTED;
    if (was & EMPTY) return in->type = JSON_END;
    char c = peek(in);
    if (!in->depth) {
        in->flags |= STARTED;
        if (!(was & STARTED)) return value(in);
        return in->p == in->end ? (in->type = JSON_END) : fail(in, in->p, "text behind the value");
    }
    unsigned level = in->depth - 1u;
    bool object = in->in_object[level / 64] >> level % 64 & 1;
    if (c == (object ? '}' : ']')) {
        in->p++;
        in->depth--;
        return in->type = JSON_END;
    }
    if (!(was & FRESH)) {
        if (c != ',') return fail(in, in->p, object ? "no comma or }" : "no comma or ]");
        in->p++;
    }
    in->key = (struct slice){0};
    return object ? member(in) : value(in);
}

void json_enter(struct json *in)
{
    bool object = in->type == JSON_OBJECT;
    if (!take(in, JSON_OBJECT) && !take(in, JSON_ARRAY)) {
        json_skip(in);
        in->flags |= EMPTY;
        return;
    }
    in->p++;
    uint64_t *levels = &in->in_object[in->depth / 64];
    unsigned bit = in->depth++ % 64;
    *levels = (*levels & ~(1ull << bit)) | (uint64_t)object << bit;
    in->flags |= FRESH;
}

void json_skip(struct json *in)
{
    struct number n;
    uint8_t depth = in->depth;
    if (!(in->flags & PENDING)) return;
    if (take(in, JSON_STRING)) {
        string(in);
    } else if (take(in, JSON_NUMBER)) {
        number(in, &n);
    } else if (in->type < JSON_ARRAY && take(in, in->type)) {
        in->p += in->type == JSON_FALSE ? 5 : 4;
    } else {
        for (json_enter(in); in->depth > depth && !in->err;)
            if (json_next(in) >= JSON_ARRAY) json_enter(in);
            else if (!in->key.p && take(in, JSON_NUMBER))
                while (number(in, &n) && another(in)) {}
    }
}

/* Take the next character off a checked name, decoded: its bytes and how many. */
static size_t name_bytes(struct slice *rest, uint8_t out[4])
{
    uint32_t c = 0;
    char *s = (char *)(uintptr_t)rest->p, *next = s + 1, *wrong;
    *out = (uint8_t)*s;
    if (*s == '\\') next = escape(s, s + rest->len, &c, &wrong);
    *rest = (struct slice){next, rest->len - (size_t)(next - s)};
    return *s == '\\' ? utf8_put(out, c) : 1;
}

bool json_key(const struct json *in, const char *name)
{
    struct slice rest = in->key;
    size_t len = strlen(name);
    uint8_t c[4];
    if (!rest.p) return false;
    if (!memchr(rest.p, '\\', rest.len)) return rest.len == len && !memcmp(rest.p, name, len);
    while (rest.len) {
        size_t n = name_bytes(&rest, c);
        if (!*c || strncmp((const char *)c, name, n)) return false;
        name += n;
    }
    return !*name;
}

uint64_t json_key_hash(const struct json *in)
{
    uint64_t h = 0xcbf29ce484222325u;
    uint8_t c[4];
    for (struct slice rest = in->key; rest.len;)
        for (size_t i = 0, n = name_bytes(&rest, c); i < n; i++) h = (h ^ c[i]) * 0x100000001b3u;
    return h;
}

struct slice json_slice(struct json *in)
{
    if (!take(in, JSON_STRING)) return (struct slice){0};
    struct slice text = string(in);
    return text.p ? decode(in, text) : text;
}

double json_number(struct json *in)
{
    struct number n;
    double v = 0;
    if (take(in, JSON_NUMBER) && number(in, &n)) number_double(&n, &v);
    return v;
}

bool json_int(struct json *in, int64_t *out)
{
    struct number n;
    return take(in, JSON_NUMBER) && number(in, &n) && number_int(&n, out);
}

bool json_bool(struct json *in)
{
    bool yes = in->type == JSON_TRUE && in->flags & PENDING;
    if (yes || in->type == JSON_FALSE) json_skip(in);
    return yes;
}

struct slice json_raw(struct json *in)
{
    char *from = in->p;
    json_skip(in);
    if (in->err || in->p == from) return (struct slice){0};  /* no value was pending */
    return (struct slice){from, (size_t)(in->p - from)};
}

long json_f32s(struct json *in, float *out, size_t cap)
{
    long count = 0;
    bool floats = true;
    if (!(in->flags & PENDING) || in->type != JSON_ARRAY) return -1;
    json_enter(in);
    while (json_next(in) > JSON_END) {
        struct number n;
        float v;
        if (!take(in, JSON_NUMBER)) floats = false;
        else
            for (bool more = number(in, &n); more; more = another(in) && number(in, &n)) {
                floats &= number_float(&n, &v);
                if ((size_t)count < cap) out[count] = v;
                count++;
            }
    }
    return floats && !in->err ? count : -1;
}

const char *json_check(const char *text, size_t len, size_t *at)
{
    struct json in;
    json_init(&in, (char *)(uintptr_t)text, len);  /* only read: json_skip() decodes nothing */
    json_next(&in);
    json_next(&in);
    *at = in.err_at;
    return in.err;
}

/* Room for the next n characters, a comma before them where one is due; or NULL. */
static char *piece(struct json_out *out, size_t n)
{
    if (out->full || !out->p || out->cap - out->len < n + out->comma) {
        out->full = true;
        return NULL;
    }
    char *s = out->p + out->len;
    if (out->comma) *s++ = ',';
    out->len += n + out->comma;
    out->comma = true;
    return s;
}

void json_put_raw(struct json_out *out, const char *s, size_t len)
{
    char *o = piece(out, len);
    if (o) memcpy(o, s, len);
}

void json_open(struct json_out *out, char bracket)
{
    assert(out->depth < JSON_DEPTH);
    json_put_raw(out, &bracket, 1);
    out->depth++;
    out->comma = false;
}

void json_close(struct json_out *out, char bracket)
{
    assert(out->depth > 0);
    out->depth--;
    out->comma = false;
    json_put_raw(out, &bracket, 1);
}

void json_put_key(struct json_out *out, const char *name)
{
    size_t len = strlen(name);
    char *o = piece(out, len + 3);
    if (!o) return;
    *o = '"';
    memcpy(o + 1, name, len);
    memcpy(o + 1 + len, "\":", 2);
    out->comma = false;
}

/* The escape for c into o; its size. */
static size_t put_escape(char o[6], char c)
{
    const char *known = memchr(meant, c, sizeof meant - 1);
    memcpy(o, "\\u00", 4);
    o[4] = (char)('0' + (c >> 4 & 1));
    o[5] = "0123456789abcdef"[c & 15];
    if (known) o[1] = names[known - meant];
    return known ? 2 : 6;
}

void json_put_str(struct json_out *out, const char *s, size_t len)
{
    char text[6];
    uint64_t high = 0;
    size_t size = len + 2;
    for (size_t i = plain(s, len, &high); i < len; i += 1 + plain(s + i + 1, len - i - 1, &high))
        size += put_escape(text, s[i]) - 1;
    char *o = piece(out, size);
    if (!o) return;
    *o++ = '"';
    for (size_t i = 0; i < len;) {
        size_t run = size == len + 2 ? len : plain(s + i, len - i, &high);
        memcpy(o, s + i, run);
        o += run;
        i += run;
        if (i == len) break;
        run = put_escape(text, s[i++]);
        memcpy(o, text, run);
        o += run;
    }
    *o = '"';
}

void json_put_int(struct json_out *out, int64_t v)
{
    char text[NUMBER_ROOM];
    json_put_raw(out, text, number_put_int(text, v));
}

void json_put_double(struct json_out *out, double v)
{
    char text[NUMBER_ROOM];
    if (v - v != 0) json_put_null(out);
    else json_put_raw(out, text, number_put_double(text, v));
}

void json_put_f32(struct json_out *out, float v)
{
    char text[NUMBER_ROOM];
    if (v - v != 0) json_put_null(out);
    else json_put_raw(out, text, number_put_float(text, v));
}

void json_put_f32s(struct json_out *out, const float *v, size_t n)
{
    struct json_out before = *out;
    json_open(out, '[');
    for (size_t i = 0; i < n && !out->full; i++) json_put_f32(out, v[i]);
    json_close(out, ']');
    before.full = true;
    if (out->full) *out = before;
}

void json_put_base64(struct json_out *out, const uint8_t *p, size_t n)
{
    size_t size = base64_size(n);
    char *o = piece(out, size + 2);
    if (!o) return;
    o[0] = o[size + 1] = '"';
    base64_encode(o + 1, p, n);
}
