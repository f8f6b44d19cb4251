// uses: servers/metrics.c
#include "servers/metrics.h"
#include "test.h"

#include <string.h>

Test(metrics_histogram, percentiles_are_within_nine_percent)
{
    static struct histogram h;
    for (uint64_t us = 1; us <= 100000; us++) histogram_add(&h, us);
    const double want[] = { 0.5, 0.95, 0.99 };
    for (int i = 0; i < 3; i++) {
        double ms = histogram_ms(&h, want[i]), exact = want[i] * 100;
        cr_assert(ms > exact * 0.91 && ms < exact * 1.09, "%g: %g", want[i], ms);
    }
    cr_assert_float_eq(histogram_avg_ms(&h), 50.0005, 1e-6);
    cr_assert_eq(h.max_us, 100000);
}

Test(metrics_histogram, nothing_measured_is_zero)
{
    struct histogram h;
    memset(&h, 0, sizeof h);
    cr_assert(histogram_ms(&h, 0.99) == 0 && histogram_avg_ms(&h) == 0);
}

Test(metrics_histogram, no_percentile_is_above_the_maximum)
{
    struct histogram h;
    memset(&h, 0, sizeof h);
    histogram_add(&h, 1025);
    cr_assert_float_eq(histogram_ms(&h, 0.99), 1.025, 0.1);
    cr_assert(histogram_ms(&h, 1) <= 1.025);
}

Test(metrics_histogram, extremes_have_a_bucket)
{
    struct histogram h;
    memset(&h, 0, sizeof h);
    histogram_add(&h, 0);
    histogram_add(&h, UINT64_MAX);
    cr_assert_eq(h.n, 2);
    uint32_t n = 0;
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) n += h.bucket[i];
    cr_assert_eq(n, 2);
}

Test(metrics_usage, a_process_takes_memory_and_time)
{
    struct usage u;
    volatile double x = 1;
    usage_open();
    u = usage_read(1000);
    for (int i = 0; i < 30000000; i++) x = x * 1.0000001;
    u = usage_read(1200);
    cr_assert(u.rss_mb > 0.1 && u.peak_rss_mb >= u.rss_mb);
    cr_assert(u.cpu > 0 && u.cpu <= 1);
    cr_assert(u.load1 >= 0);
}
