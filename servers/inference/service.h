/* The inference endpoint as a whole: endpoint and embedder joined. */
#ifndef INFERENCE_SERVICE_H
#define INFERENCE_SERVICE_H

#include "servers/endpoint.h"
#include "servers/inference/embedder.h"
#include "servers/options.h"

struct inference_service {
    struct endpoint       ep;        /* first; ep.app is this */
    /* Write the predictions for a vector into the list that was opened, best first; NULL where
     * no memory is in this process. */
    void (*predict)(void *memory, const float *vector, size_t top_k, struct json_out *out);
    void                 *memory;
    unsigned              loads;     /* of adapters, for clients, under way or waiting */
};

/* commands.c: sets commands, stats, app of ep. */
void inference_open(struct inference_service *is);

#endif
