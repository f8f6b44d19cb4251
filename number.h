/* Numbers as JSON writes them (RFC 8259 section 6): decimal text to binary and
 * back, correctly rounded both ways. No memory, no locale, no floating-point
 * arithmetic (so the same on every processor, whatever its rounding mode). */
#ifndef NUMBER_H
#define NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A number that was read, not yet rounded: w * 10^q, and a little more than w when cut. */
struct number {
    const char *p;   /* its digits in the text, which must stay while it is in use */
    size_t      len;
    uint64_t    w;   /* the significant digits, at most the first 19 */
    int64_t     q;
    bool        neg;
    bool        cut; /* digits other than zero came after those in w */
};

/* Is this the first byte of a number? */
static inline bool number_begins(char c) { return (c == '-') | (c >= '0' && c <= '9'); }

/* Read the number at p of len bytes. Returns its length; 0 when there is none,
 * and then n->len is the offset of the byte that is wrong (len: too short). */
size_t number_read(struct number *n, const char *p, size_t len);

/* Nearest value, ties to even; what is too small becomes (minus) zero. False
 * when it is beyond the greatest finite one; *out is then infinite. */
bool number_double(const struct number *n, double *out);
bool number_float(const struct number *n, float *out);

/* Has it a finite double? Much quicker than asking for it. */
bool number_finite(const struct number *n);

/* True when it is an integer within +-2^53, in whatever form (1, 1.0, 10e-1). */
bool number_int(const struct number *n, int64_t *out);

/* Write a finite value at out, which has room for NUMBER_ROOM characters;
 * returns how many it took. The fewest digits that read back as the same value
 * of that type, and of those the nearest; in JavaScript's notation, but for -0
 * and exponents without a plus. */
#define NUMBER_ROOM 32
size_t number_put_double(char *out, double v);
size_t number_put_float(char *out, float v);
size_t number_put_int(char *out, int64_t v);

#ifdef __cplusplus
}
#endif
#endif
