/* What encoder.c and lora.c share; nobody else includes it. */
#ifndef ENCODER_PARTS_H
#define ENCODER_PARTS_H

#include "encoder.h"
#include "lora.h"
#include "weights.h"

/* An adapter's part of one linear layer: y += B (A x), the factor s is in B. */
struct lora_part {
    struct linear a, b;     /* [rank, in], [out, rank] packed, biases zero; rank 0: untouched */
    float *bias;            /* [panels * width] instead of the base's, or NULL */
};

/* The part of an adapter, or NULL when it does not touch it. */
const struct lora_part *lora_part(const struct lora *l, uint32_t layer, enum part part);

/* [H padded] beta instead of the base's, or NULL. Norms count in the order of computing:
 * 0 that of the embeddings, then two of each layer. */
const float *lora_beta(const struct lora *l, uint32_t norm);

/* Greatest rank among its parts. */
uint32_t lora_greatest_rank(const struct lora *l);

const struct weights *encoder_weights(const struct encoder *e);

/* Have room for adapters of this rank; a batch may be under way. false: no memory. */
bool encoder_reserve(struct encoder *e, uint32_t rank);

#endif
