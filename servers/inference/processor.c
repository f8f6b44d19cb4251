#include "kernels.h"

#include <string.h>

/* The tables of kernels.c, one for each set of compiler flags. */
extern const struct kernels kernels_base;
#if defined __x86_64__
extern const struct kernels kernels_avx2, kernels_avx512;
#endif

static const struct kernels *chosen;

const struct kernels *const *kernels_all(void)
{
    static const struct kernels *all[4];
    size_t n = 0;
    if (all[0]) return all;
#if defined __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni")) all[n++] = &kernels_avx512;
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
