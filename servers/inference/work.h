/* One command of the inference endpoint while its texts are embedded. */
#ifndef WORK_H
#define WORK_H

#include "servers/endpoint.h"
#include "servers/inference/embedder.h"
#include "servers/inference/service.h"
#include "servers/params.h"

#define TEXT_MAX 65536          /* bytes of one text, trimmed */

struct work {
    struct embed_request ask;   /* first */
    struct request *rq;
    void (*reply)(struct work *w);      /* the vectors are there; w is gone behind it */
    void *own;                  /* the command's */
    struct slice text[];        /* [n]; then vectors, tokens, truncated */
};

/* Room for n texts and own_bytes (zero) at own. NULL: an error was replied. */
struct work *work_new(struct request *rq, size_t n, size_t own_bytes, void (*reply)(struct work *));

/* Embed; w->reply() or an error reply follows, now or later, then w is gone. */
void work_submit(struct work *w);

/* Trim *text of Unicode's white space; false: it is over TEXT_MAX and an error was replied. */
bool work_text(struct request *rq, const char *name, struct slice *text);

/* A vector of this dimension, made one of unit length; false: it is none, and an error was
 * replied. */
bool work_vector(struct request *rq, const struct param_vector *v, uint32_t dimension);

/* Index of the adapter of this name, -1 where name.p is NULL; false: an error was replied. */
bool work_adapter(struct request *rq, struct slice name, int *index);

/* The reply to a request whose texts were not embedded: status is none of DONE and QUEUED. */
void work_refused(struct request *rq, int status);

/* commands.c: the members of what `embeddings` answers. */
void put_embeddings(struct json_out *out, const struct request *rq,
                    const struct embed_request *ask, struct slice adapter, bool base64);

/* A list of numbers, or base64 of little-endian float32. */
void put_vector(struct json_out *out, const float *v, size_t n, bool base64);
void put_fingerprint(struct json_out *out, const uint8_t *fingerprint);

/* process.c */
void process_run(struct request *rq);

#endif
