#include "servers/params.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base64.h"
#include "servers/memory/memory.h"

/* Where a parameter is read: the name of the group it stands in ("" or "config."), whether
 * that is the envelope, and what is told when it is wrong. */
struct reading { void *out; const char *group; bool flat; struct param_fault *wrong; };

static bool wrong(const struct reading *r, enum reply_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static bool wrong(const struct reading *r, enum reply_code code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->wrong->text, sizeof r->wrong->text, fmt, ap);
    va_end(ap);
    r->wrong->code = code;
    return false;
}

static bool invalid(const struct reading *r, const struct param *p, const char *allowed)
{
    return wrong(r, REPLY_INVALID_PARAMETER, "Invalid parameter: %s%s (%s)", r->group, p->name,
                 allowed);
}

static bool read_text(const struct reading *r, const struct param *p, struct json *in,
                      struct slice *out)
{
    if (in->type != JSON_STRING) return invalid(r, p, "must be a string");
    *out = json_slice(in);
    /* The bound is of the text without white space around it; the command trims in its own way. */
    size_t len = p->max > 0 ? trim_unicode(*out).len : 0;
    return (double)len <= p->max ||
           wrong(r, REPLY_TOO_LARGE, "Text too long: %s%s has %zu bytes, at most %.0f are allowed",
                 r->group, p->name, len, p->max);
}

static bool read_int(const struct reading *r, const struct param *p, struct json *in, int64_t *out)
{
    char allowed[96];
    int64_t v;
    if (json_int(in, &v) && (double)v >= p->min && (double)v <= p->max) { *out = v; return true; }
    snprintf(allowed, sizeof allowed, "an integer from %.0f to %.0f", p->min, p->max);
    return invalid(r, p, allowed);
}

static bool read_number(const struct reading *r, const struct param *p, struct json *in,
                        double *out)
{
    char allowed[96];
    bool right = in->type == JSON_NUMBER;
    double v = json_number(in);
    if (right && v >= p->min && v <= p->max) { *out = v; return true; }
    snprintf(allowed, sizeof allowed, "a number from %g to %g", p->min, p->max);
    return invalid(r, p, allowed);
}

static bool read_time(const struct reading *r, const struct param *p, struct json *in, int64_t *out)
{
    return json_time(in, out) ||
           wrong(r, REPLY_INVALID_TIMESTAMP, "Invalid timestamp: %s%s", r->group, p->name);
}

static bool read_word(const struct reading *r, const struct param *p, struct json *in, int64_t *out)
{
    struct slice s = json_slice(in);
    char lower[32];
    for (size_t i = 0; i < s.len && i < sizeof lower; i++) lower[i] = ascii_lower(s.p[i]);
    long i = s.len <= sizeof lower ? word_index(p->words, lower, s.len) : -1;
    if (i < 0) return invalid(r, p, p->words);
    *out = i;
    return true;
}

static bool read_raw(const struct reading *r, const struct param *p, struct json *in,
                     struct slice *out)
{
    char allowed[64];
    if (p->kind == PARAM_OBJECT && in->type != JSON_OBJECT)
        return invalid(r, p, "must be an object");
    if (p->kind == PARAM_LIST && in->type != JSON_ARRAY) return invalid(r, p, "must be a list");
    *out = json_raw(in);
    if (p->max > 0) *out = json_compact(*out);
    snprintf(allowed, sizeof allowed, "at most %.0f bytes", p->max);
    return !(p->max > 0 && (double)out->len > p->max) || invalid(r, p, allowed);
}

static bool read_tags(const struct reading *r, const struct param *p, struct json *in,
                      struct slice *out)
{
    static const char allowed[] = "a list of at most 16 strings of 1 to 64 bytes";
    if (in->type != JSON_ARRAY) return invalid(r, p, allowed);
    *out = json_raw(in);
    struct json list = json_inside(*out);
    int n = 0;
    while (json_next(&list) > JSON_END) {
        char copy[JSON_ESCAPE * MEMORY_TAG + 2];
        struct slice tag = { 0 };
        if (list.type == JSON_STRING) tag = json_decoded(json_raw(&list), copy, sizeof copy);
        if (!tag.len || tag.len > MEMORY_TAG || ++n > MEMORY_TAGS) return invalid(r, p, allowed);
    }
    return true;
}

/* Base64 of little-endian float32, on machines of either byte order. */
static bool read_base64(struct slice s, struct param_vector *v)
{
    size_t n = s.len / 4 * 3;
    size_t pad = s.len && s.p[s.len - 1] == '=' ? 1 + (s.p[s.len - 2] == '=') : 0;
    if (s.len % 4 || n < 4 || (n - pad) % 4) return false;
    v->n = (n - pad) / 4;
    /* Decoded over its own text: three bytes never pass the four they came from. */
    uint8_t *b = (uint8_t *)s.p;
    if (base64_decode(b, s.p, s.len) == SIZE_MAX) return false;
    for (size_t i = 0; i < v->n && i < v->cap; i++) {
        uint32_t u = (uint32_t)b[4 * i] | (uint32_t)b[4 * i + 1] << 8 |
                     (uint32_t)b[4 * i + 2] << 16 | (uint32_t)b[4 * i + 3] << 24;
        memcpy(&v->v[i], &u, 4);
        if (!isfinite(v->v[i])) return false;
    }
    return true;
}

bool params_vector(struct json *in, struct param_vector *v)
{
    if (in->type != JSON_ARRAY) return in->type == JSON_STRING && read_base64(json_slice(in), v);
    long n = json_f32s(in, v->v, v->cap);
    if (n > 0) v->n = (size_t)n;
    return n > 0;
}

static bool read_vector(const struct reading *r, const struct param *p, struct json *in,
                        struct param_vector *v)
{
    return params_vector(in, v) ||
           invalid(r, p, "a list of finite numbers, or base64 of little-endian float32");
}

static bool read_members(const struct reading *r, const struct param *params, struct json *in);

static bool read_group(const struct reading *r, const struct param *p, struct json *in)
{
    char group[64];
    struct reading inner = { r->out, group, false, r->wrong };
    if (in->type != JSON_OBJECT) return invalid(r, p, "must be an object");
    snprintf(group, sizeof group, "%s%s.", r->group, p->name);
    json_enter(in);
    return read_members(&inner, p->group, in);
}

static bool read_value(const struct reading *r, const struct param *p, struct json *in)
{
    void *out = (char *)r->out + p->at;
    switch (p->kind) {
    case PARAM_TEXT:   return read_text(r, p, in, out);
    case PARAM_INT:    return read_int(r, p, in, out);
    case PARAM_NUMBER: return read_number(r, p, in, out);
    case PARAM_TIME:   return read_time(r, p, in, out);
    case PARAM_ENUM:   return read_word(r, p, in, out);
    case PARAM_TAGS:   return read_tags(r, p, in, out);
    case PARAM_VECTOR: return read_vector(r, p, in, out);
    case PARAM_GROUP:  return read_group(r, p, in);
    case PARAM_OBJECT: case PARAM_LIST: case PARAM_ANY: return read_raw(r, p, in, out);
    case PARAM_BOOL:
        if (in->type != JSON_TRUE && in->type != JSON_FALSE) return invalid(r, p, "true or false");
        *(bool *)out = json_bool(in);
        return true;
    }
    return true;
}

static const struct param *find(const struct param *params, const struct json *in)
{
    for (const struct param *p = params; p->name; p++)
        if (json_key(in, p->name)) return p;
    return NULL;
}

/* The members of the object that was entered; null is absent, unknown names are ignored. */
static bool read_members(const struct reading *r, const struct param *params, struct json *in)
{
    uint64_t seen = 0;
    while (json_next(in) > JSON_END) {
        const struct param *p = find(params, in);
        if (!p || in->type == JSON_NULL) continue;
        /* Where data is absent, these three are the envelope's. */
        if (r->flat && (json_key(in, "type") || json_key(in, "id") ||
                        json_key(in, "timestamp"))) continue;
        if (!read_value(r, p, in)) return false;
        seen |= 1ull << (p - params);
    }
    for (const struct param *p = params; p->name; p++)
        if (p->required && !(seen >> (p - params) & 1))
            return wrong(r, REPLY_MISSING_FIELD, "Missing required field: %s%s", r->group,
                         p->name);
    return true;
}

bool params_read(struct request *rq, const struct param *params, void *out)
{
    struct param_fault why;
    struct reading r = { out, "", rq->flat, &why };
    struct json in = json_inside(rq->data);
    if (read_members(&r, params, &in)) return true;
    return reply_error(rq, why.code, "%s", why.text);
}

bool params_take(struct json *in, const struct param *params, void *out,
                 struct param_fault *why)
{
    return read_members(&(struct reading){ out, "", false, why }, params, in);
}
