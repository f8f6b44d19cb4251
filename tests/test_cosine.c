// uses: servers/memory/cosine.c
#include "servers/memory/cosine.h"

#include "memories.h"
#include "test.h"

static const uint32_t dimensions[] = { 1, 2, 3, 8, 31, 32, 33, 63, 64, 65, 100, 128, 384, 768, 1024, 1536, 4096, 8192 };
enum { N_DIMENSIONS = sizeof dimensions / sizeof *dimensions };

static void *aligned(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

Test(cosine, exact_product_is_the_plain_sum_and_the_same_in_every_kernel)
{
    static float a[8192], b[8192];
    uint64_t seed = 1;
    for (int i = 0; i < N_DIMENSIONS; i++) {
        size_t n = dimensions[i];
        random_vector(&seed, a, n);
        random_vector(&seed, b, n);
        cosine_use(0);
        double first = cosine_exact(a, b, n);
        cr_assert_float_eq(first, plain_cosine(a, b, n), 1e-13, "dimension %zu", n);
        for (unsigned k = 1; cosine_kernel(k); k++) {
            cosine_use(k);
            cr_assert_eq(cosine_exact(a, b, n), first, "%s, dimension %zu", cosine_kernel(k), n);
        }
    }
}

struct coded { uint8_t *upper, *lower; struct cosine_row is; double length; };

static struct coded coded(const float *x, size_t n)
{
    struct coded row = { .upper = aligned(COSINE_STRIDE(n)), .lower = aligned(COSINE_STRIDE(n)) };
    row.length = cosine_encode(x, n, row.upper, row.lower, &row.is);
    return row;
}

static void coded_free(struct coded *row)
{
    free(row->upper);
    free(row->lower);
}

/* The code of element j, whole, or the middle of what its upper bits leave open. */
static int code_at(const struct coded *row, size_t j, bool whole)
{
    size_t at = j / 128 * 64 + j % 64;
    int shift = j % 128 < 64 ? 0 : 4;
    int upper = row->upper[at] >> shift & 15, lower = row->lower[at] >> shift & 15;
    return 16 * upper + (whole ? lower : 8) - 128;
}

static int32_t plain_product(const struct cosine_query *q, const struct coded *row, bool whole)
{
    int64_t sum = 0;
    for (size_t j = 0; j < 2 * q->stride; j++) sum += code_at(row, j, whole) * q->codes[j];
    return (int32_t)sum;
}

Test(cosine, codes_are_the_elements_by_their_greatest)
{
    float x[130];
    for (int j = 0; j < 130; j++) x[j] = (float)(j - 65) / 65;
    struct coded row = coded(x, 130);
    for (size_t j = 0; j < 130; j++)
        cr_assert_eq(code_at(&row, j, true), (int)lround((double)x[j] * 127), "element %zu", j);
    for (size_t j = 130; j < 2 * COSINE_STRIDE(130); j++) cr_assert_eq(code_at(&row, j, true), 0, "behind, %zu", j);
    coded_free(&row);
}

Test(cosine, integer_products_are_the_same_in_every_kernel)
{
    static float x[8192];
    enum { ROWS = 7 };
    uint64_t seed = 2;
    for (int i = 0; i < N_DIMENSIONS; i++) {
        size_t n = dimensions[i], stride = COSINE_STRIDE(n);
        uint8_t *upper = aligned(ROWS * stride);
        void *buffer = malloc(cosine_query_bytes(n));
        struct cosine_query q;
        struct coded rows[ROWS];
        for (int r = 0; r < ROWS; r++) {
            random_vector(&seed, x, n);
            rows[r] = coded(x, n);
            memcpy(upper + (size_t)r * stride, rows[r].upper, stride);
        }
        random_vector(&seed, x, n);
        for (int negate = 0; negate < 2; negate++) {
            cosine_query(&q, buffer, x, n, negate);
            for (unsigned k = 0; cosine_kernel(k); k++) {
                cosine_use(k);
                for (size_t count = 0; count <= ROWS; count++) {
                    int32_t out[ROWS];
                    cosine_coarse(&q, upper, count, out);
                    for (size_t r = 0; r < count; r++) {
                        cr_assert_eq(out[r], plain_product(&q, &rows[r], false), "%s, dimension %zu, row %zu of %zu",
                                     cosine_kernel(k), n, r, count);
                        cr_assert_eq(out[r] + cosine_rest(&q, rows[r].lower), plain_product(&q, &rows[r], true),
                                     "%s, dimension %zu, row %zu of %zu", cosine_kernel(k), n, r, count);
                    }
                }
            }
        }
        for (int r = 0; r < ROWS; r++) coded_free(&rows[r]);
        free(upper);
        free(buffer);
    }
}

/* The worst there is for 16 and for 32 bits: every code and every integer at its limit. */
Test(cosine, extreme_vectors_do_not_overflow)
{
    static float x[8192];
    for (int i = 0; i < N_DIMENSIONS; i++) {
        size_t n = dimensions[i];
        void *buffer = malloc(cosine_query_bytes(n));
        struct cosine_query q;
        for (int sign = -1; sign <= 1; sign += 2) {
            for (size_t j = 0; j < n; j++) x[j] = (float)(1 / sqrt((double)n));
            struct coded row = coded(x, n);
            cosine_query(&q, buffer, x, n, sign < 0);
            for (unsigned k = 0; cosine_kernel(k); k++) {
                int32_t out;
                cosine_use(k);
                cosine_coarse(&q, row.upper, 1, &out);
                cr_assert_eq(out, plain_product(&q, &row, false), "%s, dimension %zu", cosine_kernel(k), n);
                out += cosine_rest(&q, row.lower);
                cr_assert_float_eq(out * (double)row.is.scale * q.scale, sign, 1e-6, "%s, dimension %zu",
                                   cosine_kernel(k), n);
            }
            coded_free(&row);
        }
        free(buffer);
    }
}

static void within_bound(const float *x, const float *y, size_t n, const char *what)
{
    void *buffer = malloc(cosine_query_bytes(n));
    struct cosine_query q;
    int32_t out;
    struct coded row = coded(x, n);
    cosine_query(&q, buffer, y, n, 0);
    cosine_coarse(&q, row.upper, 1, &out);
    for (int whole = 0; whole < 2; whole++) {
        if (whole) out += cosine_rest(&q, row.lower);
        double off = fabs(out * (double)row.is.scale * q.scale - plain_cosine(x, y, n));
        double bound = (whole ? (double)row.is.scale * q.steps : (double)row.is.coarse) * q.length + q.error * row.length;
        cr_assert(off <= bound + 1e-9, "%s, dimension %zu: %g off, bound %g", what, n, off, bound);
    }
    cr_assert(row.length >= sqrt(plain_cosine(x, x, n)), "%s: length", what);
    cr_assert(q.length + q.error >= sqrt(plain_cosine(y, y, n)), "%s: length of the query", what);
    coded_free(&row);
    free(buffer);
}

Test(cosine, the_error_never_passes_its_bound)
{
    static float x[8192], y[8192];
    uint64_t seed = 3;
    for (int i = 0; i < N_DIMENSIONS; i++) {
        size_t n = dimensions[i];
        for (int round = 0; round < 50; round++) {
            random_vector(&seed, x, n);
            random_vector(&seed, y, n);
            within_bound(x, y, n, "random");
            within_bound(x, x, n, "itself");
            for (size_t j = 0; j < n; j++) y[j] = j == (size_t)round % n;
            within_bound(x, y, n, "one axis");
            within_bound(y, x, n, "row on one axis");
            for (size_t j = 0; j < n; j++) y[j] = j % 2 ? 1e-6f : 1;
            unit_length(y, n);
            within_bound(x, y, n, "tiny beside large");
            within_bound(y, x, n, "row tiny beside large");
            memset(y, 0, n * sizeof *y);
            within_bound(y, x, n, "row of zeros");
        }
    }
}

Test(cosine, the_bounds_are_worth_something)
{
    static float x[384];
    uint64_t seed = 4;
    random_vector(&seed, x, 384);
    struct coded row = coded(x, 384);
    cr_assert((double)row.is.scale * sqrt(384) / 2 < 0.015, "error of a random vector, whose step is %g", (double)row.is.scale);
    cr_assert(row.is.coarse < 0.15f, "by its upper bits: %g", (double)row.is.coarse);
    coded_free(&row);
}

static const struct { const char *name; float in[3]; int want; } normal_rows[] = {
    { "plain", { 3, 0, 4 }, 0 },
    { "tiny", { 1e-30f, 0, 0 }, 0 },
    { "large", { 3e38f, 3e38f, 0 }, 0 },
    { "zeros", { 0, 0, 0 }, -1 },
    { "not a number", { NAN, 0, 1 }, -1 },
    { "infinite", { INFINITY, 0, 1 }, -1 },
};

Test(cosine, normalise_gives_length_one_or_refuses)
{
    for (size_t i = 0; i < sizeof normal_rows / sizeof *normal_rows; i++) {
        float out[3];
        cr_assert_eq(cosine_normalise(out, normal_rows[i].in, 3), normal_rows[i].want, "%s", normal_rows[i].name);
        if (normal_rows[i].want) continue;
        cr_assert_float_eq(plain_cosine(out, out, 3), 1, 1e-6, "%s", normal_rows[i].name);
    }
}

/* The longest and the shortest that a rounding of each element can make of length 1. */
Test(cosine, what_is_shown_is_1_where_rounding_is_all_that_is_missing)
{
    static const double rows[][2] = { /* computed, shown */
        { 1 - 0x1p-23, 1 }, { 1 + 0x1p-23, 1 }, { -1 + 0x1p-23, -1 }, { -1 - 0x1p-23, -1 }, { 1, 1 }, { -1, -1 },
        { 1 - 0x1.1p-23, 1 - 0x1.1p-23 }, { -1 + 0x1.1p-23, -1 + 0x1.1p-23 }, { 0, 0 }, { 0.5, 0.5 }, { -0.5, -0.5 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_assert_eq(cosine_clamp(rows[i][0]), rows[i][1], "row %zu", i);
}
