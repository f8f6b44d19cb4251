/* The weights of an encoder: found in the file, checked against the configuration, and
 * packed once for the kernels. Word and position tables stay in the mapped file. */
#ifndef WEIGHTS_H
#define WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fingerprint.h"
#include "kernels.h"
#include "model.h"
#include "safetensors.h"

/* The linear layers of one block, by the last words of their names. */
enum part { QUERY, KEY, VALUE, OUTPUT, UP, DOWN, PARTS };

struct layer {
    struct linear part[PARTS];
    float *gamma[2], *beta[2];  /* [H padded] after attention, after the feed-forward part */
};

struct weights {
    struct model model;
    const struct kernels *kernels;
    struct safetensors file;
    bool int8;
    const struct tensor *words; /* [V][H] */
    const struct tensor *positions; /* [P][H] */
    float *type, *gamma, *beta; /* [H padded] */
    struct layer *layer;        /* [layers] */
    uint8_t *arena;             /* [arena_bytes] all that was packed */
    size_t arena_bytes;
    uint8_t fingerprint[FINGERPRINT_BYTES];
};

/* 0, or -1 with f filled. In both cases weights_close() frees. */
int weights_open(struct weights *w, const char *dir, bool int8, struct fault *f);
void weights_close(struct weights *w);

/* Inputs and outputs of a part. */
uint32_t weights_in(const struct model *m, enum part part);
uint32_t weights_out(const struct model *m, enum part part);

/* Module path below `encoder.layer.N.`, as "attention.self.query". */
extern const char *const weights_part_name[PARTS];
extern const char *const weights_norm_name[2];  /* of the norms gamma[2], beta[2] */

/* Take head off the beginning of a name; false: it begins with something else. */
bool weights_skip(struct slice *name, const char *head);

static inline size_t weights_padded(size_t n)
{
    return (n + KERNELS_PAD - 1) / KERNELS_PAD * KERNELS_PAD;
}

/* Pack rows first.. of a float matrix [out][in] (out of which `rows` are there, each `ld`
 * floats apart) as one panel [in][width]; what is missing becomes zero. */
void weights_pack(const float *from, size_t ld, uint32_t rows, uint32_t in, uint32_t width,
                  float *to);

#endif
