/* What the embedder's own files share: embedder.c (the face), embedder_queue.c (texts that
 * wait, and batches of them), embedder_adapters.c. */
#ifndef EMBEDDER_PARTS_H
#define EMBEDDER_PARTS_H

#include "embedder.h"
#include "encoder.h"
#include "lora.h"
#include "tokenizer.h"

/* One text of a request: its tokens are ids[at .. at + n), without [CLS] and [SEP]. */
struct embed_sequence { uint32_t at, n; };

struct embedder {
    struct embedder_options o;
    char name[128];
    struct encoder *encoder;            /* NULL: builtin */
    struct tokenizer tokenizer;

    /* embedder_adapters.c. A slot is free when lora is NULL; one that was unloaded or
     * replaced has no name and goes when nobody uses it any more. */
    struct { char name[EMBED_NAME + 1]; struct lora *lora; unsigned uses; } adapter[EMBED_ADAPTERS];
    struct embed_load *load;            /* oldest first */

    /* embedder_queue.c. A lane holds the requests of one client, joined by `after`; lanes
     * are joined by `next` of their first, and take turns a text at a time. */
    struct embed_request *lane, *last_lane;
    size_t waiting, waiting_tokens;     /* in texts that no batch has taken */

    /* The batch that is computed: n texts of so many tokens; 0: none. */
    struct embed_request **entry;       /* [encoder_max_batch() / 2] whose each text is */
    struct encoder_text *texts;         /* [encoder_max_batch() / 2] */
    uint32_t *ids;                      /* [encoder_max_batch()] */
    size_t n, tokens;
    int64_t began_us;
    bool computed;                      /* its vectors are there */

    struct wordpiece_token *scratch;    /* [encoder_max_tokens()] */
    bool stepping;                      /* embedder_step() says itself that there is more */
    uint64_t texts_done, tokens_done, requests_done;
    double ms_done, ms_per_token;       /* of all requests; lately */
};

/* embedder.c */
/* Something was added: have embedder_step() called, unless it is going on anyway. */
void embedder_wake(struct embedder *e);
bool embedder_idle(const struct embedder *e);

/* embedder_queue.c */
int  queue_open(struct embedder *e);    /* -1: memory is short */
void queue_close(struct embedder *e);
int  queue_submit(struct embedder *e, struct embed_request *rq, int64_t now_us);
void queue_step(struct embedder *e, int64_t now_us);   /* a granule */

/* embedder_adapters.c */
void adapters_close(struct embedder *e);
void adapters_step(struct embedder *e); /* a piece of a load */
void adapter_use(struct embedder *e, int index);    /* -1: none */
void adapter_release(struct embedder *e, int index);
struct lora *adapter_lora(const struct embedder *e, int index);

#endif
