/* Text to vectors: one face for the builtin embedder and for a sentence encoder.
 *
 * Knows no sockets, no loop and no clock. The builtin one answers at once; an
 * encoder's texts wait in a queue, are taken in turn from each client, packed into
 * batches without padding and computed in granules by embedder_step(). A vector
 * does not depend on what it was computed beside. */
#ifndef EMBEDDER_H
#define EMBEDDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../utf8.h"

struct embedder;
struct fault;

/* How embedder_submit() ends, and status in a request that was done. */
enum embed_status {
    EMBED_DONE = 1,        /* the answer is there */
    EMBED_QUEUED = 0,      /* done() will be called by embedder_step() */
    EMBED_BUSY = -1,       /* more than max_queue texts would wait: see embedder_retry_ms() */
    EMBED_TOO_LONG = -2,   /* truncate is false and a text has more tokens than the model takes */
    EMBED_NO_ADAPTER = -3, /* no such adapter */
    EMBED_NO_MEMORY = -4,
    EMBED_DROPPED = -5,    /* alive() said no: nothing was computed */
    EMBED_NOT_FINITE = -6  /* the model's numbers overflow for a text of it */
};

/* A part of text[text]: count tokens from its first-th on, [CLS] and [SEP] not among
 * them; bytes start..end. count EMBED_WHOLE: all of it, and the rest does not matter. */
#define EMBED_WHOLE UINT32_MAX
struct embed_span {
    uint32_t text, first, count;
    uint32_t start, end;
};

/* One order: n texts, or n parts of texts. It is the caller's and stays where it is
 * until it was answered; the texts and spans are only read inside embedder_submit(). */
struct embed_request {
    const struct slice *text;       /* [n], or as many as span names; valid UTF-8 */
    const struct embed_span *span;  /* NULL, or [n], as embedder_spans() gave them; parts of one
                                       text stand one behind the other */
    size_t n;
    int adapter;                    /* -1: the base model; else from embedder_adapter() */
    bool normalize;                 /* unit length; else as it was pooled */
    bool truncate;                  /* cut what is over the model's length; else EMBED_TOO_LONG */
    uint64_t client;                /* texts of several clients are taken in turn */

    float *vector;                  /* [n][embedder_dimension()], the caller's */
    uint32_t *tokens;               /* [n] with [CLS] and [SEP], after the cut; or NULL */
    bool *truncated;                /* [n], or NULL */

    bool (*alive)(struct embed_request *); /* NULL, or: does anybody still wait for this? */
    void (*done)(struct embed_request *);  /* called once, from embedder_step(), status is set;
                                              may submit again and may free the request */
    int status;

    /* the embedder's own */
    struct embed_request *next;     /* lanes: of the next client */
    struct embed_request *after;    /* of the same client, behind this one */
    struct embed_sequence *seq;     /* [n] */
    uint32_t *ids;                  /* the tokens of all its texts */
    size_t begun, running;          /* texts taken into a batch; of those, not yet ready */
    int64_t queued_us;
};

struct embedder_options {
    const char *model;              /* "builtin", or a Hugging Face directory */
    bool int8;                      /* weights as int8 */
    size_t max_queue;               /* texts that may wait */
    size_t batch_tokens;            /* 0: the default */
    void (*wake)(void *user);       /* there is work for embedder_step() now; may be NULL */
    void *wake_user;
};

/* NULL when the model cannot be read, with f filled: exit 65 for damaged files. */
struct embedder *embedder_open(const struct embedder_options *o, struct fault *f);
void embedder_close(struct embedder *e);    /* what waits is forgotten, done() is not called */

/* Ask. EMBED_DONE: vector, tokens and truncated are filled, done() is not called.
 * EMBED_QUEUED: they will be. Negative: refused, nothing happened. */
int embedder_submit(struct embedder *e, struct embed_request *rq, int64_t now_us);

/* One granule of work (at most about 1 ms); true while there is more. now_us only
 * serves embedder_retry_ms() and the average of embedder_stats(). */
bool embedder_step(struct embedder *e, int64_t now_us);

/* Submit and step until it is answered, for starts and maintenance. Returns as
 * embedder_submit(), never EMBED_QUEUED. */
int embedder_run(struct embedder *e, struct embed_request *rq);

/* The unit vector of one text, at once: 0, or -1. */
int embedder_text(struct embedder *e, struct slice text, float *vector);

/* Cut text into parts of at most max_length tokens ([CLS] and [SEP] among them, so from 3),
 * one beginning every stride tokens (a greater stride than leaves no gap counts as the
 * greatest that does), until the end is covered. Fills at most cap of out; returns how
 * many there are in all: at least 1, as a text of which no token is left is one empty
 * part; 0 when memory is short. Their `text` is 0. */
size_t embedder_spans(struct embedder *e, struct slice text, uint32_t max_length,
                      uint32_t stride, struct embed_span *out, size_t cap);

uint32_t       embedder_dimension(const struct embedder *e);
const char    *embedder_name(const struct embedder *e);         /* or the directory's own */
const char    *embedder_dtype(const struct embedder *e);        /* "F32", "F16", "BF16", "I8" */
const uint8_t *embedder_fingerprint(const struct embedder *e);  /* [32] */
uint32_t       embedder_max_tokens(const struct embedder *e);   /* with [CLS] and [SEP] */
double         embedder_min_similarity(const struct embedder *e); /* default of searches */

/* How long until the queue has room again, by what the last batches took; at least 1. */
int64_t embedder_retry_ms(const struct embedder *e);

struct embedder_stats {
    uint64_t texts, tokens;     /* computed so far */
    double avg_ms;              /* a request, from submit to done */
    size_t queue;               /* texts that wait */
};
void embedder_stats(const struct embedder *e, struct embedder_stats *out);

/* Adapters. An index stays the adapter's own until it is unloaded; requests that
 * are queued keep it in use until they are done. */
struct embedder_adapter {
    const char *name;
    const uint8_t *fingerprint; /* [32] */
    uint32_t rank;
    double alpha;
    const char *targets;        /* module names, each ended by NUL, the list by another */
};
int embedder_adapter(const struct embedder *e, struct slice name);  /* index, or -1 */
bool embedder_adapter_get(const struct embedder *e, int index, struct embedder_adapter *out);
/* The first one behind *index, which goes to it; from -1 on. false: no more. */
bool embedder_adapter_next(const struct embedder *e, int *index, struct embedder_adapter *out);
/* Index, or -1 with f->why. One of the same name is replaced for the requests to come. */
int embedder_load_adapter(struct embedder *e, const char *name, const char *dir, struct fault *f);
bool embedder_unload_adapter(struct embedder *e, int index);

/* The same in granules of embedder_step(), for a server that is running. */
#define EMBED_ADAPTERS 64       /* at most so many */
#define EMBED_NAME     64       /* bytes of a name, at most */
struct embed_load {
    /* Called once; index -1: f says why. */
    void (*done)(struct embed_load *l, int index, const struct fault *f);
    void *user;
    char name[EMBED_NAME + 1];
    struct lora *lora;          /* the embedder's own, and next */
    struct embed_load *next;
};
/* 0, or -1 with f filled: then nothing happened and done() is not called. */
int embedder_begin_load(struct embedder *e, struct embed_load *l, const char *dir, struct fault *f);

#endif
