/* adapter_config.json of a PEFT LoRA adapter (docs/models.md). */
#ifndef LORA_CONFIG_H
#define LORA_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LORA_RANK_MAX 4096u

struct fault;

/* A value for the modules whose path is this name or ends with it behind a dot. */
struct lora_pattern {
    char *name;
    double value;
};

struct lora_patterns {
    struct lora_pattern *item;
    size_t n;
};

/* Which biases the file may hold: of linear layers; of the norms too. */
enum lora_biases { BIASES_NONE, BIASES_LINEAR, BIASES_ALL };

struct lora_config {
    uint32_t rank;
    double alpha;
    bool root;                  /* use_rslora: alpha / sqrt(r) */
    enum lora_biases biases;
    struct lora_patterns ranks, alphas;
};

/* 0, or -1 with f filled (exit 65): file, key, reason. lora_config_free() in both cases. */
int lora_config_read(struct lora_config *c, const char *dir, struct fault *f);
void lora_config_free(struct lora_config *c);

/* Rank and scale of one module, by its path. */
uint32_t lora_config_rank(const struct lora_config *c, const char *module);
double lora_config_scale(const struct lora_config *c, const char *module);

#endif
