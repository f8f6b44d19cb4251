/* Counters of one endpoint and a histogram that gives percentiles without
 * keeping samples. Plain sums: one thread. */
#ifndef METRICS_H
#define METRICS_H

#include <stdint.h>

/* Times in buckets of an eighth of an octave: percentiles are within 9 %. */
#define HISTOGRAM_BUCKETS 256

struct histogram {
    uint64_t n, sum_us, max_us;
    uint32_t bucket[HISTOGRAM_BUCKETS];
};

void   histogram_add(struct histogram *h, uint64_t us);
double histogram_ms(const struct histogram *h, double fraction);  /* 0.99: the 99th percentile */
double histogram_avg_ms(const struct histogram *h);

#define METRICS_CODES 16

struct metrics {
    uint64_t received, sent, errors, rate_limited;  /* messages */
    uint64_t errors_by_code[METRICS_CODES];         /* by enum reply_code */
    struct histogram latency;                       /* request read to reply queued */
};

/* What the machine says about this process. */
struct usage {
    double rss_mb, peak_rss_mb;
    double cpu;       /* share of one core since the last call, 0..1 */
    double load1;
};

/* Opens what usage_read() needs, before a sandbox closes the file system. */
void usage_open(void);
struct usage usage_read(int64_t now_ms);

#endif
