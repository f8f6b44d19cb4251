/* Parameters of commands, declared as tables and read by one function, so that
 * every one is checked the same way and no bad value becomes a silent default.
 *
 * A command describes its parameters beside a struct that it fills with defaults
 * first; what the client gave is written over them:
 *
 *     struct search { struct slice text; int64_t limit; double min_similarity; };
 *     static const struct param search_params[] = {
 *         { "text",           PARAM_TEXT,   .at = offsetof(struct search, text), .max = 16384 },
 *         { "limit",          PARAM_INT,    .at = offsetof(struct search, limit),
 *                                           .min = 1, .max = 100 },
 *         { "min_similarity", PARAM_NUMBER, .at = offsetof(struct search, min_similarity),
 *                                           .min = -1, .max = 1 },
 *         { 0 }
 *     };
 *     struct search s = { .limit = 5 };
 *     if (!params_read(rq, search_params, &s)) return;     the error has been replied
 */
#ifndef PARAMS_H
#define PARAMS_H

#include <stdbool.h>
#include <stddef.h>

#include "servers/endpoint.h"
#include "servers/values.h"

enum param_kind {
    PARAM_TEXT,    /* struct slice: a string; max: bytes (0: no bound), above: `Text too long` */
    PARAM_BOOL,    /* bool */
    PARAM_INT,     /* int64_t, an integer within min..max */
    PARAM_NUMBER,  /* double within min..max */
    PARAM_TIME,    /* int64_t, ms since 1970: ISO-8601, or a number; else `Invalid timestamp` */
    PARAM_ENUM,    /* int64_t: index of the word in `words` ("strength|recent|…", any
                      ASCII case) */
    PARAM_OBJECT,  /* struct slice: text of an object; max: bytes in compact form, which it
                      is given in then (0: no bound, and as it stands) */
    PARAM_LIST,    /* struct slice: text of an array (elements are read by the command) */
    PARAM_ANY,     /* struct slice: text of any value but null */
    PARAM_TAGS,    /* struct slice: text of a list of at most 16 strings of at most 64 bytes */
    PARAM_VECTOR,  /* struct param_vector: list of numbers, or base64 of little-endian float32 */
    PARAM_GROUP    /* an object with parameters of its own, in `group`, named group.name in errors;
                      offsets are of the same struct */
};

struct param {
    const char        *name;
    enum param_kind    kind;
    size_t             at;        /* offsetof the field */
    double             min, max;
    bool               required;  /* absent or null: `Missing required field: name` */
    const char        *words;     /* PARAM_ENUM */
    const struct param *group;
};

/* Where a vector goes: cap floats at v, set by the command beforehand; n is how
 * many came (0: absent; may be above cap, then v holds the first cap). */
struct param_vector { float *v; size_t cap, n; };

/* Read the parameters of rq into out. false: an error reply has been sent. */
bool params_read(struct request *rq, const struct param *params, void *out);

/* The same from the members of the object that was entered last, without a request. false:
 * *wrong is what its error reply would be. */
struct param_fault { enum reply_code code; char text[256]; };
bool params_take(struct json *in, const struct param *params, void *out,
                 struct param_fault *wrong);

/* The PARAM_VECTOR that stands next; false: it is none. */
bool params_vector(struct json *in, struct param_vector *v);

#endif
