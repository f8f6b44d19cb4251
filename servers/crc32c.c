#include "servers/crc32c.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#define TARGET __attribute__((target("sse4.2")))
static bool have_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
TARGET static inline uint64_t step8(uint64_t c, uint64_t x) { return __builtin_ia32_crc32di(c, x); }
TARGET static inline uint64_t step1(uint64_t c, uint8_t x)
{
    return __builtin_ia32_crc32qi((uint32_t)c, x);
}
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <sys/auxv.h>
#define TARGET __attribute__((target("arch=armv8-a+crc")))
#define CAP_CRC32 (1ul << 7) /* HWCAP_CRC32 of asm/hwcap.h */
static bool have_instruction(void) { return (getauxval(AT_HWCAP) & CAP_CRC32) != 0; }
/* The compilers disagree about the names of their builtins. */
TARGET static inline uint64_t step8(uint64_t c, uint64_t x)
{
    uint32_t r = (uint32_t)c;
    __asm__("crc32cx %w0, %w0, %x1" : "+r"(r) : "r"(x));
    return r;
}
TARGET static inline uint64_t step1(uint64_t c, uint8_t x)
{
    uint32_t r = (uint32_t)c;
    __asm__("crc32cb %w0, %w0, %w1" : "+r"(r) : "r"((uint32_t)x));
    return r;
}
#endif

#define POLY 0x82f63b78u /* the polynomial 1EDC6F41, bits turned round */
#define LANE 512         /* bytes of each of three independent streams */

static uint32_t slices[8][256]; /* slices[k][b]: byte b followed by k zero bytes */
#ifdef TARGET
static uint32_t shifts[4][256]; /* shifts[k][b]: b in byte k of a checksum, LANE zero bytes on */
#endif

static uint32_t by_tables(uint32_t c, const uint8_t *p, size_t n)
{
    for (; n >= 8; n -= 8, p += 8) {
        c ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        c = slices[7][c & 255] ^ slices[6][c >> 8 & 255] ^ slices[5][c >> 16 & 255] ^
            slices[4][c >> 24] ^ slices[3][p[4]] ^ slices[2][p[5]] ^ slices[1][p[6]] ^
            slices[0][p[7]];
    }
    for (; n; n--, p++) c = c >> 8 ^ slices[0][(c ^ *p) & 255];
    return c;
}

#ifdef TARGET
static uint64_t load8(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}

static uint32_t shift(uint32_t c)
{
    return shifts[0][c & 255] ^ shifts[1][c >> 8 & 255] ^ shifts[2][c >> 16 & 255] ^
           shifts[3][c >> 24];
}

/* The instruction takes three cycles and one can start in each: three streams run
 * side by side and are joined by shifting the first two over what follows. */
TARGET static uint32_t by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t a = crc;
    for (; n >= 3 * LANE; n -= 3 * LANE, p += 3 * LANE) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            a = step8(a, load8(p + i));
            b = step8(b, load8(p + LANE + i));
            c = step8(c, load8(p + 2 * LANE + i));
        }
        a = shift(shift((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
    }
    for (; n >= 8; n -= 8, p += 8) a = step8(a, load8(p));
    for (; n; n--, p++) a = step1(a, *p);
    return (uint32_t)a;
}
#endif

static uint32_t (*chosen)(uint32_t, const uint8_t *, size_t);

static void prepare(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int i = 0; i < 8; i++) c = c & 1 ? c >> 1 ^ POLY : c >> 1;
        slices[0][b] = c;
    }
    for (uint32_t b = 0; b < 256; b++)
        for (int k = 1; k < 8; k++)
            slices[k][b] = slices[k - 1][b] >> 8 ^ slices[0][slices[k - 1][b] & 255];
    chosen = by_tables;
#ifdef TARGET
    static const uint8_t zeros[LANE];
    for (uint32_t b = 0; b < 256; b++)
        for (int k = 0; k < 4; k++) shifts[k][b] = by_tables(b << 8 * k, zeros, LANE);
    if (have_instruction()) chosen = by_instruction;
#endif
}

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    if (!chosen) prepare();
    return ~chosen(~crc, p, n);
}

uint32_t crc32c_tables(uint32_t crc, const void *p, size_t n)
{
    if (!chosen) prepare();
    return ~by_tables(~crc, p, n);
}
