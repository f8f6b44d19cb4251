#include "kernels.h"

#include <string.h>
#if defined __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* The tables of kernels.c, one for each set of compiler flags. */
extern const struct kernels kernels_base;
#if defined __x86_64__
extern const struct kernels kernels_avx2, kernels_avx512, kernels_amx_avx512;

#if !defined __has_feature
#define __has_feature(x) 0
#endif

/* The system must be asked for the tiles, whose 8 KiB it saves (ARCH_REQ_XCOMP_PERM,
 * XFEATURE_XTILEDATA). MemorySanitizer does not see what they write. */
static bool has_amx(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18, TILES = 1 << 24, INT8 = 1 << 25 };
    unsigned a, b, c, d;
    if (__has_feature(memory_sanitizer) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    return d & TILES && d & INT8 && !syscall(SYS_arch_prctl, REQUEST, TILE_DATA);
}
#endif

static const struct kernels *chosen;

const struct kernels *const *kernels_all(void)
{
    static const struct kernels *all[5];
    size_t n = 0;
    if (all[0]) return all;
#if defined __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni")) {
        if (has_amx()) all[n++] = &kernels_amx_avx512;
        all[n++] = &kernels_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all[n++] = &kernels_avx2;
#endif
    all[n] = &kernels_base;
    return all;
}

const struct kernels *kernels_best(void)
{
    return chosen ? chosen : kernels_all()[0];
}

bool kernels_choose(const char *name)
{
    chosen = NULL;
    for (const struct kernels *const *k = kernels_all(); name && *k; k++)
        if (!strcmp((*k)->name, name)) chosen = *k;
    return !name || chosen;
}
