#include "index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "significance.h"

/* A granule: so many bytes of codes, a row that is looked at closely counting as many. */
enum { GRANULE_BYTES = 3 << 20, CLOSE_LOOK = 2048, BLOCK = 256, SORT_GRANULE = 4096 };

struct scan_filter scan_any(void)
{
    return (struct scan_filter){ .since_ms = INT64_MIN, .until_ms = INT64_MAX };
}

struct scan_config scan_nearest(const float *vector)
{
    return (struct scan_config){ .filter = scan_any(), .vector = vector, .min_similarity = -2,
                                 .k = 1 };
}

/* ---- filters */

/* Is this JSON string among those of the list? Both as json_put_str() writes. */
static bool has_tag(struct slice list, struct slice tag)
{
    const char *p = list.p + 1, *end = list.p + list.len;
    while (p < end && *p == '"') {
        if ((size_t)(end - p) > tag.len && !memcmp(p, tag.p, tag.len)) return true;
        for (p++; p < end && *p != '"'; p++) p += *p == '\\';
        p += 2; /* quote and comma */
    }
    return false;
}

static double strength_of(const struct scan *sc, const struct record *r)
{
    return significance_strength(r->f.significance, (double)sc->c.now_ms - (double)r->f.time_ms);
}

static bool passes(const struct scan *sc, uint32_t row)
{
    const struct record *r = records_at(sc->rs, row);
    const struct scan_filter *f = &sc->c.filter;
    if (r->state != ROW_LIVE || r->f.significance < f->min_significance) return false;
    if (r->f.time_ms < f->since_ms || r->f.time_ms > f->until_ms) return false;
    if (f->type.p && r->type_hash != sc->type_hash) return false;
    struct slice tags = { r->bytes + r->text_len + r->metadata_len, r->tags_len };
    for (size_t i = 0; i < f->n_tags; i++)
        if (!has_tag(tags, f->tags[i])) return false;
    return f->min_strength <= 0 || strength_of(sc, r) >= f->min_strength;
}

/* ---- the heap of the best k, the worst of them on top */

static int before(const struct hit *a, const struct hit *b)
{
    if (a->key != b->key) return a->key > b->key ? -1 : 1;
    if (a->time_ms != b->time_ms) return a->time_ms > b->time_ms ? -1 : 1;
    return memcmp(a->id, b->id, MEMORY_ID);
}

static void sift_down(struct scan *sc, size_t n, struct hit hit)
{
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&sc->hits[child], &sc->hits[child + 1]) < 0) child++;
        if (before(&sc->hits[child], &hit) <= 0) break;
        sc->hits[i] = sc->hits[child];
    }
    sc->hits[i] = hit;
}

static int hits_room(struct scan *sc)
{
    if (sc->n < sc->cap) return 0;
    size_t cap = sc->cap ? sc->cap * 2 : 16;
    if (cap > sc->c.k) cap = sc->c.k;
    struct hit *hits = realloc(sc->hits, cap * sizeof *hits);
    if (!hits) return sc->status = -1;
    sc->hits = hits;
    sc->cap = cap;
    return 0;
}

static void offer(struct scan *sc, struct hit hit)
{
    if (sc->n < sc->c.k) {
        if (hits_room(sc)) return;
        size_t i = sc->n++;
        for (; i && before(&sc->hits[(i - 1) / 2], &hit) < 0; i = (i - 1) / 2)
            sc->hits[i] = sc->hits[(i - 1) / 2];
        sc->hits[i] = hit;
    } else if (sc->n && before(&hit, &sc->hits[0]) < 0) {
        sift_down(sc, sc->n, hit);
    }
}

/* ---- rows */

/* Below this a key cannot come among the best any more. */
static double bar(const struct scan *sc)
{
    return sc->n < sc->c.k ? -INFINITY : sc->n ? sc->hits[0].key : INFINITY;
}

static struct hit hit_of(const struct scan *sc, uint32_t row, double key, double cosine)
{
    const struct record *r = records_at(sc->rs, row);
    struct hit hit = { key, cosine, r->f.time_ms, r->order, row, { 0 } };
    memcpy(hit.id, r->id, MEMORY_ID);
    return hit;
}

static double cosine_of(const struct scan *sc, uint32_t row)
{
    return cosine_exact(sc->vector, records_vector(sc->rs, row), sc->rs->dimension);
}

static void rank_plain(struct scan *sc, uint32_t row)
{
    const struct record *r = records_at(sc->rs, row);
    double key = sc->c.order == SCAN_STRENGTH ? strength_of(sc, r) :
                 sc->c.order == SCAN_TIME ? (double)r->f.time_ms : r->f.significance;
    offer(sc, hit_of(sc, row, sc->c.ascending ? -key : key, 0));
}

static double score_of(double cosine, double strength)
{
    return 0.7 * fmax(0, cosine) + 0.3 * strength;
}

/* Look closely at a row whose cosine is within `bound` of `near`. Gives what it cost. */
static size_t rank_near(struct scan *sc, uint32_t row, double near, double bound)
{
    double exact = NAN, gate = sc->c.min_similarity, key, strength = 0;
    if (near - bound < gate && gate > -2 && (exact = cosine_of(sc, row)) < gate) {
        sc->below++;
        return CLOSE_LOOK;
    }
    if (sc->c.order == SCAN_SCORE) {
        const struct chunk *c = &sc->rs->chunks[row / CHUNK_ROWS];
        if (score_of(near + bound, (double)c->weight[row % CHUNK_ROWS]) < bar(sc)) return 0;
        strength = strength_of(sc, records_at(sc->rs, row));
        if (score_of(near + bound, strength) < bar(sc)) return CLOSE_LOOK / 4;
    } else if (near + bound < bar(sc)) {
        return 0;
    }
    if (sc->c.filter.wanted && !sc->c.filter.wanted(sc->c.filter.user, row)) return CLOSE_LOOK;
    if (isnan(exact)) exact = cosine_of(sc, row);
    if (sc->c.ascending) exact = -exact;
    key = sc->c.order == SCAN_SCORE ? score_of(exact, strength) : exact;
    offer(sc, hit_of(sc, row, key, sc->c.ascending ? -exact : exact));
    return CLOSE_LOOK;
}

typedef float   floats __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(16)));
enum { LANES = sizeof(floats) / sizeof(float) };

static void load(floats *v, const float *p) { memcpy(v, p, sizeof *v); }

static void fill(floats *v, double x)
{
    float f = (float)x;
    *v = (floats){ f, f, f, f };
}

static size_t total(const ints *v)
{
    return (size_t)((*v)[0] + (*v)[1] + (*v)[2] + (*v)[3]);
}

/* Rows that the upper bits of the codes leave in question, counted from `at`. */
struct question {
    size_t   n;
    uint16_t row[BLOCK + LANES];
    int32_t  product[BLOCK + LANES];
};

/* Read the upper bits of n rows of a chunk, LANES at a time. Those that are not live have a bound
 * of -infinity. */
static void sift(struct scan *sc, const struct chunk *c, size_t at, size_t n, struct question *left)
{
    const struct cosine_query *q = &sc->q;
    /* A score reaches the bar when its cosine reaches what weight leaves of that, if that is
     * above zero, roundings aside. Those of cosines are below the last summand of `around`. */
    bool by_score = sc->c.order == SCAN_SCORE, gated = sc->c.min_similarity > -2;
    floats length, around, scale, gate, least, share, above;
    fill(&length, q->length);
    fill(&around, q->error * sc->rs->longest + 1e-5 * (1 + q->length * sc->rs->longest));
    fill(&scale, q->scale);
    fill(&gate, gated ? sc->c.min_similarity : -INFINITY);
    fill(&least, by_score ? bar(sc) / 0.7 : bar(sc));
    fill(&share, by_score ? 0.3 / 0.7 : 0);
    fill(&above, by_score ? 1e-6 : -INFINITY);
    ints lane = { 0, 1, 2, 3 }, live = { 0 }, below = { 0 };
    int32_t product[BLOCK + LANES];
    cosine_coarse(q, c->upper + at * q->stride, n, product);
    memset(product + n, 0, LANES * sizeof *product);
    left->n = 0;
    for (size_t i = 0; i < n; i += LANES) {
        ints p;
        floats error, step, weight;
        memcpy(&p, product + i, sizeof p);
        load(&error, c->coarse + at + i);
        load(&step, c->scale + at + i);
        load(&weight, c->weight + at + i);
        floats near = __builtin_convertvector(p, floats) * step * scale;
        floats bound = error * length + around, most = near + bound, want = least - share * weight;
        ints there = (error >= 0) & (lane < (int32_t)(n - i)), under = there & (most < gate);
        ints out = (most < want) & (want > above) & (near - bound >= gate);
        ints open = there & ~under & ~out;
        uint64_t any[2];
        live -= there;
        below -= under;
        memcpy(any, &open, sizeof any);
        if (!(any[0] | any[1])) continue;
        for (size_t k = 0; k < LANES; k++) {
            left->row[left->n] = (uint16_t)(i + k);
            left->product[left->n] = p[k];
            left->n += open[k] & 1;
        }
    }
    sc->searched += total(&live);
    sc->below += total(&below);
}

/* n rows of one chunk that all pass the filters. Gives what it cost. */
static size_t look(struct scan *sc, uint32_t first, size_t n)
{
    const struct chunk *c = &sc->rs->chunks[first / CHUNK_ROWS];
    size_t at = first % CHUNK_ROWS, stride = sc->q.stride, cost = n * stride;
    const uint8_t *lower = c->lower + at * stride;
    struct question left;
    sift(sc, c, at, n, &left);
    for (size_t i = 0; i < left.n; i++)
        for (size_t j = 0; j < stride; j += 64)
            __builtin_prefetch(lower + left.row[i] * stride + j);
    /* All roundings of the estimate are below the last summand. */
    double length = sc->q.length, longest = sc->rs->longest, gate = sc->c.min_similarity;
    double around = sc->q.error * longest + 1e-6 * (1 + length * longest);
    for (size_t i = 0; i < left.n; i++) {
        size_t row = left.row[i];
        int32_t product = left.product[i] + cosine_rest(&sc->q, lower + row * stride);
        double step = (double)c->scale[at + row], near = product * step * sc->q.scale;
        double bound = step * sc->q.steps * length + around;
        if (near + bound < gate) sc->below++;
        else cost += 2 * stride + rank_near(sc, first + (uint32_t)row, near, bound);
    }
    return cost;
}

/* Rows that pass the filters, in runs as long as they come. */
static size_t look_filtered(struct scan *sc, uint32_t first, size_t n)
{
    size_t cost = n * 64, run = 0;
    for (size_t i = 0; i <= n; i++) {
        bool pass = i < n && passes(sc, first + (uint32_t)i);
        if (pass) run++;
        if (pass || !run) continue;
        if (sc->vector) {
            cost += look(sc, first + (uint32_t)(i - run), run);
        } else {
            sc->searched += run;
            for (size_t k = i - run; k < i; k++) rank_plain(sc, first + (uint32_t)k);
            cost += run * CLOSE_LOOK / 4;
        }
        run = 0;
    }
    return cost;
}

/* ---- the scan */

static void begin_anew(struct scan *sc)
{
    sc->end = sc->rs->used;
    sc->puts = sc->rs->puts;
    sc->moves = sc->rs->moves;
    sc->at = 0;
    sc->n = sc->sorted = 0;
    sc->searched = sc->below = 0;
}

int scan_begin(struct scan *sc, const struct records *rs, const struct scan_config *config)
{
    *sc = (struct scan){ .rs = rs, .c = *config };
    begin_anew(sc);
    const struct scan_filter *f = &config->filter;
    if (config->order > SCAN_SCORE) sc->c.vector = NULL;
    /* By rounding the computed cosine of like vectors may be below 1, that of opposite ones
     * below -1. */
    if (config->min_similarity > 1 - COSINE_ROUNDING) sc->c.min_similarity = 1 - COSINE_ROUNDING;
    if (config->min_similarity <= -1) sc->c.min_similarity = -2;
    sc->type_hash = records_hash(rs, f->type);
    sc->filtered = !sc->c.vector || f->type.p || f->n_tags || f->since_ms != INT64_MIN ||
                   f->until_ms != INT64_MAX || f->min_significance > 0 || f->min_strength > 0;
    if (!sc->c.vector) return 0;
    size_t bytes = cosine_query_bytes(rs->dimension), size = rs->dimension * sizeof(float);
    sc->buffer = malloc(bytes + size);
    if (!sc->buffer) return -1;
    cosine_query(&sc->q, sc->buffer, config->vector, rs->dimension, config->ascending);
    sc->vector = memcpy((char *)sc->buffer + bytes, config->vector, size);
    return 0;
}

/* Move the worst of the heap behind it, again and again: what is left is in order. */
static bool sort_some(struct scan *sc)
{
    for (size_t i = 0; i < SORT_GRANULE && sc->sorted < sc->n; i++) {
        size_t last = sc->n - ++sc->sorted;
        struct hit worst = sc->hits[0], hit = sc->hits[last];
        if (last) sift_down(sc, last, hit);
        sc->hits[last] = worst;
    }
    return sc->sorted < sc->n;
}

bool scan_step(struct scan *sc)
{
    size_t cost = 0;
    if (sc->end > sc->rs->used) begin_anew(sc);  /* rows that are not there any more */
    if (sc->at >= sc->end) return sort_some(sc);
    while (sc->at < sc->end && cost < GRANULE_BYTES) {
        uint32_t left = CHUNK_ROWS - sc->at % CHUNK_ROWS, n = sc->end - sc->at;
        if (n > left) n = left;
        if (n > BLOCK) n = BLOCK;
        cost += sc->filtered ? look_filtered(sc, sc->at, n) : look(sc, sc->at, n);
        sc->at += n;
    }
    return sc->at < sc->end || sc->n > 0;
}

/* Has any of the best gone or changed hands since it was looked at? */
static bool stale(const struct scan *sc)
{
    for (size_t i = 0; i < sc->n; i++) {
        const struct record *r = records_at(sc->rs, sc->hits[i].row);
        if (r->state != ROW_LIVE || r->order != sc->hits[i].order) return true;
    }
    return false;
}

int scan_finish(struct scan *sc)
{
    /* What moved to another row may have passed the scan unseen. */
    if (sc->moves != sc->rs->moves) begin_anew(sc);
    while (scan_step(sc)) continue;
    if (stale(sc)) begin_anew(sc);
    while (scan_step(sc)) continue;
    return sc->status;
}

void scan_end(struct scan *sc)
{
    free(sc->buffer);
    free(sc->hits);
    sc->buffer = sc->hits = NULL;
    sc->n = sc->cap = 0;
}
