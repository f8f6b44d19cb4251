/* What the configuration files of a sentence-encoder directory say (docs/models.md):
 * config.json, modules.json, 1_Pooling/config.json, sentence_bert_config.json
 * and the length in tokenizer_config.json. Whatever the encoder cannot do is refused
 * by its name. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

struct fault;

enum activation { ACT_NONE, ACT_GELU, ACT_GELU_TANH, ACT_RELU };
enum pooling { POOL_MEAN, POOL_CLS, POOL_MAX };

struct model {
    uint32_t hidden, layers, heads, intermediate;
    uint32_t positions, types, vocabulary;
    float eps;                  /* of LayerNorm */
    enum activation act;
    enum pooling pooling;
    uint32_t max_tokens;        /* of one text, [CLS] and [SEP] among them */
};

/* Read them. 0, or -1 with f filled (exit 65): file, key, reason. A length above the
 * positions is cut, with a warning in the log. */
int model_read(struct model *m, const char *dir, struct fault *f);

#endif
