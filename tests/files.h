/* Whole files, for tests. */
#ifndef FILES_H
#define FILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* All bytes of a file, the caller's, and one zero behind them; NULL: it is not there. */
static inline uint8_t *read_file(const char *name, size_t *n)
{
    FILE *in = fopen(name, "rb");
    *n = 0;
    if (!in) return NULL;
    fseek(in, 0, SEEK_END);
    long size = ftell(in);
    rewind(in);
    uint8_t *p = malloc((size_t)size + 1);
    if (p) {
        *n = fread(p, 1, (size_t)size, in);
        p[*n] = 0;
    }
    fclose(in);
    return p;
}

static inline int write_file(const char *name, const void *p, size_t n)
{
    FILE *out = fopen(name, "wb");
    if (!out) return -1;
    size_t k = fwrite(p, 1, n, out);
    return fclose(out) == 0 && k == n ? 0 : -1;
}

#endif
