/* PEFT LoRA adapters (docs/models.md): y = Wx + b + s B(Ax), unmerged, one for
 * each text of a batch. Files are read and copied, nothing stays mapped. */
#ifndef LORA_H
#define LORA_H

#include <stdint.h>

struct encoder;
struct fault;
struct lora;

/* Open an adapter directory for this encoder: reads adapter_config.json and opens the
 * tensor file. NULL with f filled (exit 65, one line of file, tensor, reason). It is
 * usable once lora_step() has said 0. */
struct lora *lora_open(struct encoder *e, const char *dir, struct fault *f);

/* Read a piece of the file, or check and pack some rows of one tensor: well below 1 ms.
 * 1: go on; 0: ready; -1: failed, f filled. */
int lora_step(struct lora *l, struct fault *f);

/* Both in one go, for a start. */
struct lora *lora_load(struct encoder *e, const char *dir, struct fault *f);

void lora_free(struct lora *l);

uint32_t       lora_rank(const struct lora *l);        /* r of the configuration */
double         lora_alpha(const struct lora *l);
/* Last words of the names of the modules with matrices, each ended by NUL, the list by another. */
const char    *lora_targets(const struct lora *l);
const uint8_t *lora_fingerprint(const struct lora *l); /* [32], once ready */

#endif
