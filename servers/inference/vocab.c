#include "vocab.h"

#include <stdlib.h>
#include <string.h>

#include "../log.h"

/* FNV leaves the low bits of short keys close together: mix before masking. */
static uint32_t place(const struct vocab *v, uint32_t hash)
{
    hash ^= hash >> 15;
    return hash * 0x2c1b3c6du >> 7 & v->mask;
}

static bool same(struct slice t, struct slice prefix, const char *p, size_t len)
{
    return t.len == prefix.len + len && !memcmp(t.p + prefix.len, p, len)
           && (!prefix.len || !memcmp(t.p, prefix.p, prefix.len));
}

uint32_t vocab_find(const struct vocab *v, uint32_t hash, struct slice prefix, const char *p,
                    size_t len)
{
    for (uint32_t i = place(v, hash);; i = (i + 1) & v->mask) {
        const struct vocab_slot *s = v->slot + i;
        if (s->id == VOCAB_NONE) return VOCAB_NONE;
        if (s->hash == hash && same(v->token[s->id], prefix, p, len)) return s->id;
    }
}

static uint32_t hash_of(struct slice s)
{
    uint32_t h = VOCAB_HASH;
    for (size_t i = 0; i < s.len; i++) h = vocab_hash(h, (unsigned char)s.p[i]);
    return h;
}

uint32_t vocab_id(const struct vocab *v, struct slice token)
{
    return vocab_find(v, hash_of(token), (struct slice){ "", 0 }, token.p, token.len);
}

/* The table: at most half full. Ids go in from the last to the first, so that of a
 * token that stands twice the last id is kept. */
static int index_tokens(struct vocab *v, struct fault *f)
{
    uint32_t slots = 16;
    while (slots < 2 * v->n) slots *= 2;
    v->slot = malloc(slots * sizeof *v->slot);
    if (!v->slot) return fault_set(f, 71, "out of memory for %u tokens", v->n);
    v->mask = slots - 1;
    for (uint32_t i = 0; i < slots; i++) v->slot[i].id = VOCAB_NONE;
    for (uint32_t id = v->n; id-- > 0;) {
        uint32_t hash = hash_of(v->token[id]), i = place(v, hash);
        if (v->token[id].len > v->longest) v->longest = v->token[id].len;
        if (vocab_id(v, v->token[id]) != VOCAB_NONE) continue;
        while (v->slot[i].id != VOCAB_NONE) i = (i + 1) & v->mask;
        v->slot[i] = (struct vocab_slot){ hash, id };
    }
    return 0;
}

static struct slice next_line(const char **p, const char *end)
{
    const char *begin = *p, *stop = memchr(begin, '\n', (size_t)(end - begin));
    *p = stop ? stop + 1 : end;
    if (!stop) stop = end;
    size_t len = (size_t)(stop - begin);
    if (len && begin[len - 1] == '\r') len--;
    return (struct slice){ begin, len };
}

int vocab_lines(struct vocab *v, const char *text, size_t len, struct fault *f)
{
    *v = (struct vocab){0};
    const char *end = text + len;
    size_t n = 0;
    for (const char *p = text; p < end; n++) next_line(&p, end);
    if (!n) return fault_set(f, 65, "it is empty");
    if (n > VOCAB_MAX)
        return fault_set(f, 65, "it has %zu lines, at most %u are read", n, VOCAB_MAX);
    v->token = malloc(n * sizeof *v->token);
    if (!v->token) return fault_set(f, 71, "out of memory for %zu tokens", n);
    for (const char *p = text; p < end; v->n++) {
        struct slice line = next_line(&p, end);
        if (!utf8_valid((const uint8_t *)line.p, line.len))
            return fault_set(f, 65, "line %u is not UTF-8", v->n + 1);
        v->token[v->n] = line;
    }
    return index_tokens(v, f);
}

void vocab_free(struct vocab *v)
{
    free(v->token);
    free(v->slot);
    *v = (struct vocab){0};
}
