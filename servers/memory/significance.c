#include "significance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

static double clamp(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

/* ---- 5.1, streams */

struct stream *stream_new(uint32_t dimension)
{
    return calloc(1, sizeof(struct stream) + dimension * sizeof(double));
}

double stream_surprise(const struct stream *stream, const float *x, uint32_t dimension)
{
    double sum = 0;
    if (!stream || stream->w <= 0) return 0.5;
    for (uint32_t j = 0; j < dimension; j++) sum += (double)x[j] * stream->c[j];
    return clamp(1 - sum / stream->w);
}

void stream_push(struct stream *stream, const float *x, uint32_t dimension, double s)
{
    double g = 0.1 * (s > 0.8 ? 0.8 / s : 1);
    for (uint32_t j = 0; j < dimension; j++)
        stream->c[j] = (1 - g) * stream->c[j] + g * (double)x[j];
    stream->w = (1 - g) * stream->w + g;
}

struct stream *streams_find(const struct streams *ss, uint64_t key)
{
    for (uint32_t i = 0; i < ss->n; i++)
        if (ss->all[i]->key == key) return ss->all[i];
    return NULL;
}

struct stream *streams_take(struct streams *ss, uint64_t key, uint32_t dimension,
                            struct stream **gone)
{
    struct stream *stream = streams_find(ss, key);
    *gone = NULL;
    if (!stream) {
        stream = stream_new(dimension);
        if (!stream) return NULL;
        stream->key = key;
        uint32_t at = ss->n;
        if (at < STREAMS_MAX) {
            ss->n++;
        } else {
            at = 0;
            for (uint32_t i = 1; i < ss->n; i++) at = ss->all[i]->used < ss->all[at]->used ? i : at;
            *gone = ss->all[at];
        }
        ss->all[at] = stream;
    }
    stream->used = ++ss->used;
    return stream;
}

void streams_drop(struct streams *ss, struct stream *stream)
{
    for (uint32_t i = 0; i < ss->n; i++)
        if (ss->all[i] == stream) ss->all[i] = ss->all[--ss->n];
    free(stream);
}

void streams_restore(struct streams *ss, struct stream *stream)
{
    if (stream) ss->all[ss->n++] = stream;
}

void streams_clear(struct streams *ss)
{
    while (ss->n) free(ss->all[--ss->n]);
}

/* ---- 5.3, words */

/* The distinct words of a text by their hashes, in the order of their first
 * appearance; both arrays stand in the vocabulary's room. */
struct words {
    uint64_t *hash;       /* [n] */
    uint64_t *seen;       /* [cap], 0: free */
    size_t n, cap;
};

static bool in_word(char c)
{
    unsigned char u = (unsigned char)c;
    return u >= 0x80 || (u >= '0' && u <= '9') || ((u | 32) >= 'a' && (u | 32) <= 'z');
}

static uint64_t word_hash(const uint64_t key[2], const char *p, size_t n)
{
    char lower[64];
    uint64_t h = 0;
    do { /* longer words in parts, each under a key that the part before gave */
        size_t part = n < sizeof lower ? n : sizeof lower;
        uint64_t k[2] = { key[0] ^ h, key[1] };
        for (size_t i = 0; i < part; i++) lower[i] = ascii_lower(p[i]);
        h = hash_bytes(k, lower, part);
        p += part;
        n -= part;
    } while (n);
    return h ? h : 1;
}

static void words_note(struct words *w, uint64_t hash)
{
    size_t i = (size_t)hash & (w->cap - 1);
    for (; w->seen[i]; i = (i + 1) & (w->cap - 1))
        if (w->seen[i] == hash) return;
    w->seen[i] = hash;
    w->hash[w->n++] = hash;
}

static int words_read(struct words *w, struct vocabulary *v, struct slice text)
{
    size_t most = text.len / 2 + 1; /* words of one byte, blanks between */
    w->n = 0;
    w->cap = 64;
    while (w->cap < most * 2) w->cap *= 2;
    if (v->n_room < w->cap + most) {
        uint64_t *room = realloc(v->room, (w->cap + most) * sizeof *room);
        if (!room) return -1;
        v->room = room;
        v->n_room = w->cap + most;
    }
    w->seen = memset(v->room, 0, w->cap * sizeof *v->room);
    w->hash = w->seen + w->cap;
    for (const char *p = text.p, *end = p + text.len; p < end;) {
        const char *begin = p;
        while (p < end && in_word(*p)) p++;
        if (p > begin) words_note(w, word_hash(v->key, begin, (size_t)(p - begin)));
        else p++;
    }
    return 0;
}

/* Where a word is, or the free place where it would be. */
static size_t place_of(const struct vocabulary *v, uint64_t hash)
{
    size_t i = (size_t)hash & (v->cap - 1);
    while (v->hash[i] && v->hash[i] != hash) i = (i + 1) & (v->cap - 1);
    return i;
}

/* Room for those of these words that are not there yet: counted one by one only where it
 * matters, but then exactly, so that a text that was counted out always has room again.
 * An eighth stays free. */
static int vocabulary_room(struct vocabulary *v, const struct words *w)
{
    size_t n = w->n;
    if (v->cap && (v->used + n) * 8 <= v->cap * 7) return 0;
    for (size_t i = 0; i < w->n && v->cap; i++) n -= v->hash[place_of(v, w->hash[i])] != 0;
    if (v->cap && (v->used + n) * 8 <= v->cap * 7) return 0;
    struct vocabulary bigger = *v;
    if (!bigger.cap) bigger.cap = 128;
    while ((v->used + n) * 8 > bigger.cap * 7) bigger.cap *= 2;
    bigger.hash = calloc(bigger.cap, sizeof *bigger.hash);
    bigger.df = calloc(bigger.cap, sizeof *bigger.df);
    if (!bigger.hash || !bigger.df) {
        free(bigger.hash);
        free(bigger.df);
        return -1;
    }
    for (size_t i = 0; i < v->cap; i++) {
        if (!v->hash[i]) continue;
        size_t at = place_of(&bigger, v->hash[i]);
        bigger.hash[at] = v->hash[i];
        bigger.df[at] = v->df[i];
    }
    free(v->hash);
    free(v->df);
    *v = bigger;
    return 0;
}

int vocabulary_add(struct vocabulary *v, struct slice text)
{
    struct words w;
    if (words_read(&w, v, text)) return -1;
    int failed = vocabulary_room(v, &w);
    for (size_t i = 0; i < w.n && !failed; i++) {
        size_t at = place_of(v, w.hash[i]);
        if (!v->hash[at]) v->used++;
        v->hash[at] = w.hash[i];
        v->df[at]++;
    }
    if (!failed) v->texts++;
    return failed;
}

/* Take a word out, and let those move up that stood behind it only for want of its place. */
static void vocabulary_forget(struct vocabulary *v, size_t hole)
{
    size_t mask = v->cap - 1;
    for (size_t i = (hole + 1) & mask; v->hash[i]; i = (i + 1) & mask) {
        if (((i - v->hash[i]) & mask) < ((i - hole) & mask)) continue;
        v->hash[hole] = v->hash[i];
        v->df[hole] = v->df[i];
        hole = i;
    }
    v->hash[hole] = 0;
    v->df[hole] = 0;
    v->used--;
}

void vocabulary_remove(struct vocabulary *v, struct slice text)
{
    struct words w;
    if (words_read(&w, v, text)) return;
    for (size_t i = 0; i < w.n; i++) {
        size_t at = place_of(v, w.hash[i]);
        if (v->hash[at] && --v->df[at] == 0) vocabulary_forget(v, at);
    }
    v->texts--;
}

void vocabulary_free(struct vocabulary *v)
{
    free(v->hash);
    free(v->df);
    free(v->room);
    *v = (struct vocabulary){ .key = { v->key[0], v->key[1] } };
}

double vocabulary_information(struct vocabulary *v, struct slice text)
{
    struct words w;
    double u = 0, texts = v->texts;
    if (words_read(&w, v, text)) return -1;
    for (size_t i = 0; i < w.n; i++) {
        double df = v->cap ? v->df[place_of(v, w.hash[i])] : 0;
        u += log2(1 + (texts + 1) / (df + 1));
    }
    return 1 - exp(-u / log2(texts + 2) / 16);
}

/* ---- 5.4 and 5.5 */

static bool same_nocase(const char *p, const char *word, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ascii_lower(p[i]) != word[i]) return false;
    return true;
}

double significance_floor(struct slice text, double importance)
{
    static const char *const begin[] = { "remember:", "important:", "note:", "fact:" };
    static const char held[] = "don't forget";
    bool found = false;
    for (size_t i = 0; i < sizeof begin / sizeof *begin; i++) {
        size_t n = strlen(begin[i]);
        found |= text.len >= n && same_nocase(text.p, begin[i], n);
    }
    for (size_t i = 0; i + sizeof held - 1 <= text.len && !found; i++)
        found = same_nocase(text.p + i, held, sizeof held - 1);
    return fmax(fmax(importance, 0), found ? 0.75 : 0);
}

double significance_of(double s, double q, double d, double floor)
{
    return fmax(0.4 * s + 0.3 * q + 0.3 * d, floor);
}

double significance_strength(double significance, double age_ms)
{
    double days = age_ms > 0 ? age_ms / 86400000.0 : 0;
    return significance * exp(-0.1 / (0.5 + 0.5 * significance) * days);
}

double significance_reinforced(double significance)
{
    return significance + 0.1 * (1 - significance);
}
