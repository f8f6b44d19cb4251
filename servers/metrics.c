#include "servers/metrics.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* Bucket of a value: below 8 exact, above by exponent and the three bits after it. */
static unsigned bucket_of(uint64_t us)
{
    if (us < 8) return (unsigned)us;
    unsigned e = 63u - (unsigned)__builtin_clzll(us);
    unsigned b = 8 + (e - 3) * 8 + (unsigned)(us >> (e - 3) & 7);
    return b < HISTOGRAM_BUCKETS ? b : HISTOGRAM_BUCKETS - 1;
}

/* Middle of a bucket, in microseconds. */
static double bucket_us(unsigned b)
{
    if (b < 8) return b;
    unsigned e = (b - 8) / 8;
    return ((double)(8 + (b & 7)) + 0.5) * (double)(1ull << e);
}

void histogram_add(struct histogram *h, uint64_t us)
{
    h->n++;
    h->sum_us += us;
    if (us > h->max_us) h->max_us = us;
    h->bucket[bucket_of(us)]++;
}

double histogram_ms(const struct histogram *h, double fraction)
{
    double want = fraction * (double)h->n, seen = 0;
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS && h->n; b++) {
        seen += h->bucket[b];
        if (seen < want) continue;
        double us = bucket_us(b);
        return (us < (double)h->max_us ? us : (double)h->max_us) / 1000;
    }
    return 0;
}

double histogram_avg_ms(const struct histogram *h)
{
    return h->n ? (double)h->sum_us / (double)h->n / 1000 : 0;
}

static int statm = -1, loadavg = -1;

void usage_open(void)
{
    statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    loadavg = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
}

/* The n-th number of a one-line file under /proc; 0 where it cannot be read. */
static double number_of(int fd, int n)
{
    char s[128];
    ssize_t len = fd < 0 ? -1 : pread(fd, s, sizeof s - 1, 0);
    if (len <= 0) return 0;
    s[len] = 0;
    char *p = s;
    while (n-- > 0) strtod(p, &p);
    return strtod(p, NULL);
}

struct usage usage_read(int64_t now_ms)
{
    static int64_t last_ms;
    static double last_cpu, share;
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    double cpu = (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
                 (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
    if (now_ms - last_ms >= 100) {          /* shorter spans say nothing */
        share = last_ms ? (cpu - last_cpu) * 1000 / (double)(now_ms - last_ms) : 0;
        last_ms = now_ms;
        last_cpu = cpu;
    }
    double rss = number_of(statm, 1) * (double)sysconf(_SC_PAGESIZE) / 1048576;
    double peak = (double)r.ru_maxrss / 1024;
    return (struct usage){ .rss_mb = rss, .peak_rss_mb = peak > rss ? peak : rss,
                           .cpu = share < 1 ? share : 1, .load1 = number_of(loadavg, 0) };
}
