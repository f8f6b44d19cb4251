/* A BERT-shaped sentence encoder: token ids in, pooled vectors out.
 *
 * Reads a Hugging Face directory (docs/models.md), packs its linear weights
 * once for the kernels of this processor, and computes batches of several texts
 * without padding. It knows no tokenizer, no clock and no socket.
 *
 * A batch is a resumable job: each encoder_step() does one granule (at most about
 * 1 ms). A vector is the same bit for bit however the work is sliced and whatever it
 * was batched with. */
#ifndef ENCODER_H
#define ENCODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENCODER_FINGERPRINT 32

struct encoder;
struct fault;
struct lora;

/* Open the model in a directory; int8: keep the linear weights as int8 with a scale
 * per row. max_tokens is the most that one batch may hold (at least the model's own
 * length is taken). NULL when it cannot be, with f filled: exit 65 and one line of
 * file, tensor and reason. Warnings go to the log. */
struct encoder *encoder_open(const char *dir, bool int8, size_t max_tokens, struct fault *f);
void encoder_close(struct encoder *e);  /* no adapter of it may be used after */

/* What the files say. */
uint32_t       encoder_dimension(const struct encoder *e);
uint32_t       encoder_max_tokens(const struct encoder *e); /* of a text, with [CLS] and [SEP] */
size_t         encoder_max_batch(const struct encoder *e);  /* tokens of one batch */
uint32_t       encoder_vocabulary(const struct encoder *e); /* ids must be below */
const char    *encoder_dtype(const struct encoder *e);      /* "F32", "F16", "BF16", or "I8" */
const char    *encoder_kernels(const struct encoder *e);    /* "base", "avx2", "avx512" */
/* [32]: configuration, tokenizer files and tensors; the same with int8. */
const uint8_t *encoder_fingerprint(const struct encoder *e);

/* One text of a batch. */
struct encoder_text {
    const uint32_t *ids;     /* [n], [CLS] and [SEP] among them; read in encoder_begin() only */
    uint32_t n;              /* 1..encoder_max_tokens() */
    bool normalize;          /* unit length; else as it was pooled */
    const struct lora *lora; /* adapter, or NULL; must stay until the batch is done */
    float *vector;           /* [encoder_dimension()] the result, written by the last steps */
};

/* Begin a batch of n texts, together at most encoder_max_batch() tokens; a batch that
 * was not finished is forgotten. 0, or -1 when it is empty, too large, or an id or a
 * length is out of range: then nothing has changed. */
int encoder_begin(struct encoder *e, const struct encoder_text *texts, size_t n);

/* One granule; true while there is more. false: the vectors are there (or nothing was begun). */
bool encoder_step(struct encoder *e);

/* For tests: how much is done in a granule, in float operations; 0: the default. */
void encoder_set_granule(struct encoder *e, size_t operations);

#endif
