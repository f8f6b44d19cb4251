/* Times the encoder for compare.mjs: reads commands from stdin, answers a line each.
 *
 *   load DIR float32|int8      -> milliseconds to be ready, resident MB (anonymous + file)
 *   run T N                    -> N texts of T tokens, one at a time: median ms, least ms,
 *                                 longest granule ms, CPU ms per text
 *   batch N T                  -> CPU ms of one batch of N texts of T tokens
 *   vector T                   -> the vector
 *   peak                       -> GFLOP/s of fused multiply-add that this core can do */
#include "bench/bench.h"
#include "../../servers/inference/encoder.h"
#include "../../servers/inference/kernels.h"
#include "../../servers/log.h"

static double now_ms(void) { return clock_ms(CLOCK_MONOTONIC); }

/* VmRSS in MB: what is anonymous, what is file. */
static void resident(double *anonymous, double *file)
{
    char line[200];
    FILE *f = fopen("/proc/self/status", "r");
    *anonymous = *file = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (!strncmp(line, "RssAnon:", 8)) *anonymous = atof(line + 8) / 1024;
        if (!strncmp(line, "RssFile:", 8)) *file = atof(line + 8) / 1024;
    }
    if (f) fclose(f);
}

/* The ids that compare.mjs uses too. */
static void fill_ids(uint32_t *ids, uint32_t n, uint32_t vocabulary)
{
    for (uint32_t i = 0; i < n; i++) ids[i] = 1000 + i * 7919 % (vocabulary - 1000);
    ids[0] = 2;
    ids[n - 1] = 3;
}

static double run_batch(struct encoder *e, uint32_t n, uint32_t tokens, float *vectors,
                        double *longest)
{
    static uint32_t ids[4096];
    static struct encoder_text texts[512];
    fill_ids(ids, tokens, encoder_vocabulary(e));
    for (uint32_t i = 0; i < n; i++)
        texts[i] = (struct encoder_text){ ids, tokens, true, NULL,
                                          vectors + i * encoder_dimension(e) };
    double begin = cpu_ms(), last = now_ms();
    if (encoder_begin(e, texts, n)) exit(1);
    while (encoder_step(e)) {
        double t = now_ms();
        if (t - last > *longest) *longest = t - last;
        last = t;
    }
    return cpu_ms() - begin;
}

/* Enough independent sums to hide the latency of any unit we know. */
static double peak(void)
{
    const struct kernels *k = kernels_best();
    static float x[8 * 384], w[64 * 384], y[8 * 64], bias[64];
    struct linear l = { 384, k->width, w, bias, NULL, NULL };
    struct panel p = {
        .linear = &l, .in = { .x = x, .ld = 384 }, .n = k->rows, .bias = bias, .y = y, .ld = 64
    };
    double best = 0;
    for (int rep = 0; rep < 20; rep++) {
        double t = now_ms();
        for (int i = 0; i < 1000; i++) k->panel(&p);
        double gflops = 2e-6 * 1000 * k->rows * k->width * 384 / (now_ms() - t);
        best = gflops > best ? gflops : best;
    }
    return best;
}

static void run(struct encoder *e, uint32_t tokens, int n)
{
    static float v[16384];
    double *ms = malloc((size_t)n * sizeof *ms), longest = 0;
    double cpu = cpu_ms();
    for (int i = 0; i < n; i++) {
        double begin = now_ms();
        run_batch(e, 1, tokens, v, &longest);
        ms[i] = now_ms() - begin;
    }
    cpu = (cpu_ms() - cpu) / n;
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    printf("%.4f %.4f %.4f %.4f\n", ms[n / 2], ms[0], longest, cpu);
    free(ms);
}

int main(void)
{
    char command[32], dir[512], type[32];
    struct encoder *e = NULL;
    struct fault f;
    static float v[512 * 1024];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (scanf("%31s", command) == 1) {
        unsigned n, t;
        double longest = 0, anonymous, file;
        if (!strcmp(command, "load") && scanf("%511s %31s", dir, type) == 2) {
            encoder_close(e);
            double begin = now_ms();
            if (!(e = encoder_open(dir, !strcmp(type, "int8"), 512, &f))) {
                fprintf(stderr, "%s\n", f.why);
                return 1;
            }
            double ms = now_ms() - begin;
            resident(&anonymous, &file);
            printf("%.2f %.1f %.1f %s\n", ms, anonymous, file, encoder_kernels(e));
        } else if (!strcmp(command, "run") && scanf("%u %u", &t, &n) == 2) run(e, t, (int)n);
        else if (!strcmp(command, "batch") && scanf("%u %u", &n, &t) == 2)
            printf("%.4f\n", run_batch(e, n, t, v, &longest));
        else if (!strcmp(command, "vector") && scanf("%u", &t) == 1) {
            run_batch(e, 1, t, v, &longest);
            for (uint32_t i = 0; i < encoder_dimension(e); i++) printf("%.9g ", (double)v[i]);
            printf("\n");
        } else if (!strcmp(command, "resident")) {
            resident(&anonymous, &file);
            printf("%.1f %.1f\n", anonymous, file);
        } else if (!strcmp(command, "peak")) printf("%.1f\n", peak());
        else return 1;
    }
    encoder_close(e);
    return 0;
}
