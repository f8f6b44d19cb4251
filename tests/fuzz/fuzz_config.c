// uses: json.c number.c utf8.c base64.c servers/log.c servers/inference/model.c servers/inference/lora_config.c
/* Configuration files of models and adapters: the input holds them one after the other,
 * with a zero byte between; an empty one is not there. What is taken is within bounds. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The files come from memory. */
#define config_read config_read_from_disk
#include "../../servers/inference/config_file.c"
#undef config_read

#include "../../servers/inference/lora_config.h"
#include "../../servers/inference/model.h"

#define CHECK(c) do { if (!(c)) abort(); } while (0)

static const char *const names[] = { "config.json", "modules.json", "1_Pooling/config.json",
                                     "sentence_bert_config.json", "tokenizer_config.json", "adapter_config.json" };
static const uint8_t *input;
static size_t input_len;

char *config_read(const char *dir, const char *name, size_t cap, size_t *len)
{
    const uint8_t *p = input, *end = input + input_len;
    (void)dir;
    (void)cap;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const uint8_t *stop = p < end ? memchr(p, 0, (size_t)(end - p)) : NULL;
        size_t n = (size_t)((stop ? stop : end) - p);
        if (!strcmp(name, names[i]) && n) {
            char *text = malloc(n + 1);
            memcpy(text, p, n);
            text[n] = 0;
            *len = n;
            return text;
        }
        p = stop ? stop + 1 : end;
    }
    errno = ENOENT;
    return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model m;
    struct lora_config c;
    struct fault f;
    input = data;
    input_len = size;
    if (!model_read(&m, "d", &f)) {
        CHECK(m.hidden && m.layers && m.heads && m.intermediate && m.vocabulary && m.types);
        CHECK(m.hidden % m.heads == 0 && m.eps >= 0 && m.eps <= 1);
        CHECK(m.max_tokens >= 2 && m.max_tokens <= m.positions && m.positions <= 65536);
    } else CHECK(f.exit == 65 && !strncmp(f.why, "d/", 2) && !strchr(f.why, '\n'));
    if (!lora_config_read(&c, "d", &f)) {
        static const char *const modules[] = { "encoder.layer.0.attention.self.query", "dense" };
        for (int i = 0; i < 2; i++) {
            uint32_t rank = lora_config_rank(&c, modules[i]);
            double scale = lora_config_scale(&c, modules[i]);
            CHECK(rank >= 1 && rank <= LORA_RANK_MAX && scale > 0 && scale < INFINITY);
        }
    } else CHECK(f.exit == 65 && !strncmp(f.why, "d/", 2) && !strchr(f.why, '\n'));
    lora_config_free(&c);
    return 0;
}
