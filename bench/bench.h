/* What the C programs of the benchmarks share: clocks, an order for qsort(), a way out and
 * a way to the server. */
#ifndef BENCH_H
#define BENCH_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static inline double clock_ms(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Of this process: a busy neighbour disturbs it least. */
static inline double cpu_ms(void) { return clock_ms(CLOCK_PROCESS_CPUTIME_ID); }

static inline int64_t now_us(void) { return (int64_t)(clock_ms(CLOCK_MONOTONIC) * 1e3); }

/* CPU time of the server, all its threads, in microseconds; without a pid 0. */
static inline double cpu_us_of(unsigned pid)
{
    clockid_t clock;
    return !pid || clock_getcpuclockid((pid_t)pid, &clock) ? 0 : clock_ms(clock) * 1e3;
}

static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

/* A connection to a port of this host. */
static inline int dial_port(unsigned port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    if (fd < 0) die("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    return fd;
}

#endif
