/* The search of the store for run.py: serve FILE COUNT DIM loads vectors,
 * then answers each line "i", the number of a query (they stand behind the vectors),
 * with milliseconds passed, milliseconds of CPU, and the ten best rows. */
#include "bench/bench.h"
#include "servers/memory/store.h"
#include "tests/memories.h"

int main(int argc, char **argv)
{
    if (argc < 4) return 64;
    size_t count = strtoul(argv[2], NULL, 10), query;
    uint32_t dim = (uint32_t)strtoul(argv[3], NULL, 10);
    float *v = malloc(dim * sizeof *v);
    FILE *file = fopen(argv[1], "rb");
    struct store *st = store_new(&(struct store_config){ .dimension = dim, .max_memories = count, .seed = { 1, 2 } });
    if (!file || !v || !st) return 71;
    for (size_t i = 0; i < count; i++) {
        char text[32];
        uint64_t seq;
        int len = snprintf(text, sizeof text, "%zu", i);
        if (fread(v, sizeof *v, dim, file) != dim) return 65;
        struct memory m = memory_of(i, (struct slice){ text, (size_t)len }, v);
        if (store_import(st, &m, &seq)) return 71;
        store_durable(st, seq);
    }
    printf("ready\n");
    fflush(stdout);
    while (scanf("%zu", &query) == 1) {
        if (fseek(file, (long)((count + query) * dim * sizeof *v), SEEK_SET) || fread(v, sizeof *v, dim, file) != dim) return 65;
        struct scan_config c = { .filter = scan_any(), .vector = v, .min_similarity = -2, .k = 10 };
        struct scan sc;
        double wall = clock_ms(CLOCK_MONOTONIC), cpu = cpu_ms();
        if (store_scan(st, &sc, &c) || scan_finish(&sc)) return 71;
        printf("%.4f %.4f", clock_ms(CLOCK_MONOTONIC) - wall, cpu_ms() - cpu);
        for (size_t i = 0; i < sc.n; i++) {
            struct memory m = view(st, sc.hits[i].row);
            printf(" %.*s", (int)m.text.len, m.text.p);
        }
        printf("\n");
        fflush(stdout);
        scan_end(&sc);
    }
    store_free(st);
    fclose(file);
    free(v);
    return 0;
}
