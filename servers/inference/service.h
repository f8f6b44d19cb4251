/* The inference endpoint as a whole: endpoint and embedder joined. */
#ifndef INFERENCE_SERVICE_H
#define INFERENCE_SERVICE_H

#include "servers/endpoint.h"
#include "servers/inference/embedder.h"
#include "servers/options.h"

/* What came after one of the memories that are most similar to a text. */
struct prediction {
    struct slice text;       /* valid until the callback returns */
    double       score;      /* similarity of what came before it */
};

struct inference_service {
    struct endpoint       ep;        /* first; ep.app is this */
    /* Predictions for a vector, best first, each given to `each`; NULL where no memory is in
     * this process. */
    void (*predict)(void *memory, const float *vector, size_t top_k,
                    void (*each)(void *user, const struct prediction *p), void *user);
    void                 *memory;
    unsigned              loads;     /* of adapters, for clients, under way or waiting */
};

/* commands.c: sets commands, stats, app of ep. */
void inference_open(struct inference_service *is);

#endif
