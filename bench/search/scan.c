/* Exact search and the comparison of a store with all that is stored, on one core:
 * scan COUNT [DIM [QUERIES]] prints medians in milliseconds of CPU time. */
#include "bench/bench.h"
#include "servers/memory/store.h"
#include "tests/memories.h"

static double run(struct store *st, struct scan_config *c, float *queries, uint32_t dim, int n)
{
    double *ms = malloc((size_t)n * sizeof *ms);
    for (int i = 0; i < n; i++) {
        struct scan sc;
        double begin = cpu_ms();
        c->vector = queries + (size_t)i * dim;
        store_scan(st, &sc, c);
        scan_finish(&sc);
        scan_end(&sc);
        ms[i] = cpu_ms() - begin;
    }
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    double median = ms[n / 2];
    free(ms);
    return median;
}

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    uint32_t dim = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 384;
    int n = argc > 3 ? atoi(argv[3]) : 41;
    float *queries = malloc((size_t)n * dim * sizeof *queries), *v = malloc(dim * sizeof *v);
    for (int clustered = 0; clustered < 2; clustered++) {
        struct store *st = store_new(&(struct store_config){ .dimension = dim, .max_memories = count + 100, .seed = { 1, 2 } });
        uint64_t seed = 1, seq;
        store_clock(st, INT64_C(1700000000000), 0);
        double begin = cpu_ms();
        for (size_t i = 0; i < count; i++) {
            char text[64];
            int len = snprintf(text, sizeof text, "memory number %zu about topic %zu", i, i % 100);
            if (clustered) clustered_vector(&seed, v, dim, 200);
            else random_vector(&seed, v, dim);
            struct memory m = memory_of(i, (struct slice){ text, (size_t)len }, v);
            m.f.significance = random_unit(&seed);
            m.f.time_ms = INT64_C(1700000000000) - (int64_t)(random_next(&seed) % 8640000) * 1000;
            if (store_import(st, &m, &seq)) return 1;
        }
        double made = cpu_ms() - begin;
        store_durable(st, UINT64_MAX);
        for (int i = 0; i < n; i++) {
            if (clustered) clustered_vector(&seed, queries + (size_t)i * dim, dim, 200);
            else random_vector(&seed, queries + (size_t)i * dim, dim);
        }
        struct store_counts counts = store_count(st);
        printf("%zu x %u, %s: %.0f bytes each, made in %.0f ms\n", count, dim, clustered ? "clustered" : "random",
               (double)counts.bytes / (double)count, made);
        for (unsigned k = 0; cosine_kernel(k); k++) {
            cosine_use(k);
            struct scan_config top = { .filter = scan_any(), .min_similarity = -2, .k = 10 };
            struct scan_config score = { .filter = scan_any(), .min_similarity = 0.3, .order = SCAN_SCORE, .k = 10 };
            struct scan_config all = { .filter = scan_any(), .min_similarity = -1, .order = SCAN_SCORE, .k = 10 };
            struct scan_config near = { .filter = scan_any(), .min_similarity = -2, .k = 1 };
            struct scan_config recent = { .filter = scan_any(), .order = SCAN_STRENGTH, .k = 5 };
            printf("  %-12s top 10 %.3f  search %.3f  search ungated %.3f  nearest %.3f  strongest %.3f ms\n", cosine_kernel(k),
                   run(st, &top, queries, dim, n), run(st, &score, queries, dim, n), run(st, &all, queries, dim, n),
                   run(st, &near, queries, dim, n), run(st, &recent, queries, dim, n));
        }
        cosine_use(0);
        double stored = cpu_ms();
        int stores = 50;
        for (int i = 0; i < stores; i++) {
            char text[64];
            struct store_added a;
            int len = snprintf(text, sizeof text, "another text %d", i);
            random_vector(&seed, v, dim);
            struct memory t = { .text = { text, (size_t)len }, .metadata = { "{}", 2 }, .tags = { "[]", 2 }, .vector = v,
                                .f.significance = -1, .f.time_ms = INT64_MIN };
            number_id(t.id, count + 10 + (size_t)i);
            if (store_add(st, &t, NULL, &a)) return 1;
        }
        printf("  store %.0f/s\n", stores / (cpu_ms() - stored) * 1e3);
        store_free(st);
    }
    free(queries);
    free(v);
    return 0;
}
