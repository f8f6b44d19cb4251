#include "builtin.h"

#include <math.h>
#include <string.h>

/* Name and version of the arithmetic below; whoever changes a bit of the vectors
 * counts the version up, so that no store mixes two kinds. */
const uint8_t builtin_fingerprint[32] = BUILTIN_NAME " version 1";

enum { WORD = 8, SHORT_WORD = 2, PAIR = 4, GRAM = 2 };  /* how much a feature of each kind counts */

static bool is_word_byte(unsigned char c)
{
    return c >= 0x80 || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

struct slice builtin_word(struct slice text, size_t *at)
{
    size_t i = *at;
    while (i < text.len && !is_word_byte((unsigned char)text.p[i])) i++;
    size_t begin = i;
    while (i < text.len && is_word_byte((unsigned char)text.p[i])) i++;
    *at = i;
    return (struct slice){ text.p + begin, i - begin };
}

/* FNV-1a over the bytes, ASCII lower-cased; h is where it goes on from. */
static uint64_t hash(uint64_t h, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)ascii_lower(p[i])) * 0x100000001b3u;
    return h;
}

static uint64_t hash_kind(unsigned char kind)
{
    return (0xcbf29ce484222325u ^ kind) * 0x100000001b3u;
}

/* Count a feature: 32 mixed bits of its hash choose the component, one the sign. */
static void add(int64_t *count, uint64_t h, int weight)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    uint64_t at = (h >> 32) * BUILTIN_DIMENSION >> 32;
    count[at] += h & 1 ? weight : -weight;
}

static size_t char_len(unsigned char c)
{
    return c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* Runs of 3 and 4 characters, the word's borders among them; of 2 beyond ASCII,
 * where a character may be a syllable or a word. */
static void add_grams(int64_t *count, struct slice word)
{
    uint32_t at[5] = {0};   /* where the last characters began, the newest first */
    size_t seen = 1;        /* the border before the word counts as one */
    for (size_t i = 0; i <= word.len; seen++) {
        bool border = i == word.len;
        size_t len = border ? 1 : char_len((unsigned char)word.p[i]);
        size_t end = border || len > word.len - i ? word.len : i + len;
        memmove(at + 1, at, sizeof at - sizeof at[0]);
        at[0] = (uint32_t)i;
        for (size_t n = 2; n <= 4 && n <= seen + 1; n++) {
            bool wide = !border && n <= seen && (unsigned char)word.p[at[1]] >= 0x80
                        && (unsigned char)word.p[i] >= 0x80;
            if (n == 2 && !wide) continue;
            bool first = n > seen;  /* it begins with the border */
            size_t begin = first ? 0 : at[n - 1];
            uint64_t h = hash_kind((unsigned char)(first ? '^' : border ? '$' : 'g'));
            if (first && border) h = hash_kind('=');
            add(count, hash(h, word.p + begin, end - begin), GRAM);
        }
        i = border ? i + 1 : end;
    }
}

static uint32_t add_words(int64_t *count, struct slice text)
{
    uint32_t words = 0;
    struct slice last = {0};
    size_t at = 0;
    for (struct slice w; (w = builtin_word(text, &at)).len; last = w, words++) {
        add(count, hash(hash_kind('w'), w.p, w.len), w.len <= 3 ? SHORT_WORD : WORD);
        add_grams(count, w);
        if (!last.len) continue;
        uint64_t h = hash(hash_kind('p'), last.p, last.len);
        add(count, hash(hash(h, " ", 1), w.p, w.len), PAIR);
    }
    return words;
}

uint32_t builtin_embed(struct slice text, bool normalize, float *v)
{
    int64_t count[BUILTIN_DIMENSION] = {0}, sum = 0;
    uint32_t words = add_words(count, text);
    for (size_t i = 0; i < BUILTIN_DIMENSION; i++) sum += count[i] < 0 ? -count[i] : count[i];
    if (!sum) {     /* no word, or all cancelled: the text as one feature */
        add(count, hash(hash_kind('t'), text.p, text.len), 1);
        sum = 1;
    }
    double divisor = normalize ? (double)sum : 1;
    for (size_t i = 0; i < BUILTIN_DIMENSION; i++) {    /* the squares add up to sum exactly */
        double size = (double)(count[i] < 0 ? -count[i] : count[i]);
        float root = (float)sqrt(size / divisor);
        v[i] = count[i] < 0 ? -root : root;
    }
    return words;
}
