#include "hash.h"

struct sip { uint64_t v0, v1, v2, v3; };

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static void round_of(struct sip *s)
{
    s->v0 += s->v1; s->v1 = rotate(s->v1, 13) ^ s->v0; s->v0 = rotate(s->v0, 32);
    s->v2 += s->v3; s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 += s->v3; s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 += s->v1; s->v1 = rotate(s->v1, 17) ^ s->v2; s->v2 = rotate(s->v2, 32);
}

/* The last bytes, fewer than eight. */
static uint64_t rest_of(const uint8_t *p, size_t n)
{
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++) x |= (uint64_t)p[i] << 8 * i;
    return x;
}

static void block(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    round_of(s);
    s->v0 ^= word;
}

uint64_t hash_bytes(const uint64_t key[2], const void *data, size_t n)
{
    const uint8_t *p = data;
    struct sip s = { key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                     key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573 };
    uint64_t last = (uint64_t)n << 56;
    for (; n >= 8; n -= 8, p += 8) {
        block(&s, (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 |
                  (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 |
                  (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56);
    }
    block(&s, last | rest_of(p, n));
    s.v2 ^= 0xff;
    round_of(&s);
    round_of(&s);
    round_of(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
