// uses: servers/inference/tokenizer.c servers/inference/wordpiece.c servers/inference/vocab.c servers/inference/unicode.c servers/inference/config_file.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
/* Tokenizer files of any content: a clear refusal, or a tokenizer in which every token is
 * found by its text. The input is vocab.txt, tokenizer_config.json and tokenizer.json, parted
 * by bytes 0xff; an empty JSON file is absent. */
#include "servers/inference/tokenizer.h"

#include "servers/log.h"

#include "fuzz.h"

/* The next part, copied to a block of its own. */
static struct tokenizer_text part(const uint8_t **p, const uint8_t *end, size_t first)
{
    const uint8_t *stop = memchr(*p, 0xff, (size_t)(end - *p));
    size_t len = (size_t)((stop ? stop : end) - *p);
    struct tokenizer_text t = { len || first ? malloc(len + first) : NULL, len };
    if (len) memcpy(t.p, *p, len);
    *p = stop ? stop + 1 : end;
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *p = data ? data : (const uint8_t *)"", *end = p + size;
    struct tokenizer_text file[3];
    struct tokenizer t = {0};
    struct fault f = {0};
    for (size_t i = 0; i < 3; i++) file[i] = part(&p, end, i == 0);
    if (tokenizer_read(&t, file[0], file[1], file[2], &f)) {
        CHECK((f.exit == 65 || f.exit == 71) && *f.why);
    } else {
        const struct vocab *v = &t.wordpiece.vocab;
        for (uint32_t id = 0; id < v->n; id++) {
            uint32_t found = vocab_id(v, v->token[id]);
            CHECK(found != VOCAB_NONE && found >= id && v->token[found].len == v->token[id].len);
            CHECK(!v->token[id].len ||
                  !memcmp(v->token[found].p, v->token[id].p, v->token[id].len));
        }
        struct wordpiece_token out[64];
        char text[] = "Hello [CLS] w\xc3\xb6rld \xe6\x97\xa5!";
        size_t n = wordpiece_cut(&t.wordpiece, (struct slice){ text, sizeof text - 1 }, out, 64);
        for (size_t i = 0; i < n && i < 64; i++)
            CHECK(out[i].id < v->n && out[i].end < sizeof text);
    }
    tokenizer_close(&t);
    for (size_t i = 0; i < 3; i++) free(file[i].p);
    return 0;
}
