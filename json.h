/* JSON, RFC 8259, no more and no less: a reading cursor and a writer.
 *
 * Neither allocates. The reader builds no tree: the caller walks the text once
 * and takes what it wants. The writer fills the caller's buffer. In both,
 * errors are sticky: go on as if nothing had happened and look once at the end.
 *
 * Limits: nesting JSON_DEPTH (the outermost value is 1); numbers must be finite
 * doubles; strings valid UTF-8 with paired surrogates. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "utf8.h"

#ifdef __cplusplus
extern "C" {
#endif

#define JSON_DEPTH 64 /* writing deeper is a mistake of the caller, and asserted */

enum json_type {
    JSON_ERROR = -1, /* syntax, UTF-8, depth, or a number beyond double; see err, err_at */
    JSON_END,        /* the container (or the text) is over */
    JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT
};

/* Reader. The text must stay where it is and writable while its strings are in
 * use: a string with escapes is decoded in place, over its own bytes, when
 * json_slice() takes it (decoding never lengthens). */
struct json {
    char       *start, *p, *end;
    const char *err;           /* NULL, or what is wrong, in a few words */
    size_t      err_at;        /* byte offset of it */
    enum json_type type;       /* of the value that stands next */
    struct slice key;          /* of the member that stands next, as it stands in the text: never
                                  decoded in place, so an object can be walked twice */
    uint8_t     depth;
    uint8_t     flags;         /* the reader's own */
    uint8_t     most;          /* JSON_DEPTH; after json_init() it may be set to up to 128 */
    uint64_t    in_object[2];  /* bit per level: object or array */
};

/* Begin. The first json_next() gives the outermost value; when it has been
 * taken the next gives JSON_END after checking that only white space follows. */
void json_init(struct json *in, char *text, size_t len);

/* Step to the next value of the container that was entered last: its type, or
 * JSON_END when the container closes (the cursor is then back in the one
 * around it, behind it), or JSON_ERROR, for good. A value that was neither
 * taken nor entered is skipped. In an object in->key is its name. */
enum json_type json_next(struct json *in);

/* Go into the array or object that stands next; json_next() walks it. What is
 * no container (or was taken already) is then found empty. */
void json_enter(struct json *in);

/* Is the member's name exactly this? Escapes in it are decoded as it is compared. */
bool json_key(const struct json *in, const char *name);

/* 64-bit FNV-1a of the decoded name: equal names have equal hashes. */
uint64_t json_key_hash(const struct json *in);

/* Take the value that stands next. Each gives a zero of its kind when the value
 * is of another type, or after an error; a value of another type stays where it
 * is (and that is no error of the text: ask in->type first). */
struct slice json_slice(struct json *in);              /* string, decoded in place; may hold NUL */
double       json_number(struct json *in);             /* correctly rounded */
bool         json_int(struct json *in, int64_t *out);  /* an integer within +-2^53, however written
                                                          (1, 1.0, 1e2); false: it is none */
bool         json_bool(struct json *in);
struct slice json_raw(struct json *in);                /* any value as it stands, checked */
void         json_skip(struct json *in);               /* any value, checked */

/* Array of numbers into out[0..cap): how many there are (may be above cap: the
 * rest is checked and not kept), or -1 when the value is no array of numbers or
 * one of them is no finite float. Each is rounded once, to float. */
long json_f32s(struct json *in, float *out, size_t cap);

/* Check one whole text: NULL, or what is wrong (a constant) with *at the byte
 * offset. Changes nothing.
 *
 * Here and in err_at the offset is that of the first byte with which no valid
 * text can go on: the text's length when it only ends too early. A number
 * beyond double is named by its first byte. */
const char *json_check(const char *text, size_t len, size_t *at);

/* Writer, made by json_out(): out->p[0..out->len) is what was written so far.
 * Commas and colons come by themselves. When room is short, out->full is set and
 * nothing more is written; out->len stays what it was before the piece that did
 * not fit. */
struct json_out {
    char    *p;
    size_t   len, cap;
    bool     full;
    uint8_t  depth;
    bool     comma;   /* the next value in this container wants one */
};

static inline struct json_out json_out(char *buf, size_t cap)
{
    struct json_out out = { buf, 0, cap, false, 0, false };
    return out;
}

void json_open(struct json_out *out, char bracket);    /* '{' or '[' */
void json_close(struct json_out *out, char bracket);   /* '}' or ']' */
void json_put_key(struct json_out *out, const char *name);           /* plain ASCII, no escapes */
void json_put_str(struct json_out *out, const char *s, size_t len);  /* valid UTF-8; is escaped */
void json_put_raw(struct json_out *out, const char *s, size_t len);  /* a value that is JSON */
void json_put_int(struct json_out *out, int64_t v);
void json_put_double(struct json_out *out, double v);  /* shortest that reads back; or null */
void json_put_f32(struct json_out *out, float v);      /* shortest that reads back as that float */
void json_put_f32s(struct json_out *out, const float *v, size_t n);  /* [..] */
void json_put_base64(struct json_out *out, const uint8_t *p, size_t n);

static inline void json_put_text(struct json_out *out, const char *s)  /* NUL-terminated */
{
    json_put_str(out, s, strlen(s));
}

static inline void json_put_bool(struct json_out *out, bool v)
{
    json_put_raw(out, v ? "true" : "false", v ? 4 : 5);
}

static inline void json_put_null(struct json_out *out)
{
    json_put_raw(out, "null", 4);
}

#ifdef __cplusplus
}
#endif
#endif
