/* Criterion, or behind the same macros a small runner of our own for machines
 * that Criterion is not built for (-DTEST_MINI): no forks, no colours; the
 * first failed assertion ends its test. */
#ifndef TEST_H
#define TEST_H

#ifndef TEST_MINI
#include <criterion/criterion.h>
#else

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test { const char *suite, *name; void (*run)(void); struct test *next; };
extern struct test *test_list;
extern jmp_buf test_failed;

#define Test(suite_, name_, ...)                                                                \
    static void test_##suite_##_##name_(void);                                                  \
    __attribute__((constructor)) static void add_##suite_##_##name_(void)                       \
    {                                                                                           \
        static struct test t = { #suite_, #name_, test_##suite_##_##name_, NULL };              \
        t.next = test_list;                                                                     \
        test_list = &t;                                                                         \
    }                                                                                           \
    static void test_##suite_##_##name_(void)

#define TEST_FAIL(text, ...)                                                                    \
    (printf("%s:%d: %s ", __FILE__, __LINE__, text), printf("" __VA_ARGS__), puts(""),           \
     longjmp(test_failed, 1))
#define cr_assert(c, ...)           ((c) ? (void)0 : TEST_FAIL(#c, __VA_ARGS__))
#define cr_assert_not(c, ...)       cr_assert(!(c), __VA_ARGS__)
#define cr_assert_eq(a, b, ...)     cr_assert((a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...)    cr_assert((a) != (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...)     cr_assert((a) < (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...)    cr_assert((a) <= (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...)     cr_assert((a) > (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...)    cr_assert((a) >= (b), __VA_ARGS__)
#define cr_assert_null(a, ...)      cr_assert((a) == NULL, __VA_ARGS__)
#define cr_assert_not_null(a, ...)  cr_assert((a) != NULL, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) cr_assert(!strcmp(a, b), __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...)      cr_assert(!memcmp(a, b, n), __VA_ARGS__)
#define cr_assert_float_eq(a, b, eps, ...)  cr_assert(fabs((double)(a) - (double)(b)) <= (eps), __VA_ARGS__)
#define cr_assert_fail(...)         TEST_FAIL("fail", __VA_ARGS__)
#define cr_log_info(...)            ((void)0)
#define cr_log_warn(...)            ((void)0)
#define cr_skip_test(...)           return

struct test *test_list;
jmp_buf test_failed;

int main(void)
{
    volatile int passed = 0, failed = 0;
    for (struct test *volatile t = test_list; t; t = t->next) {
        if (!setjmp(test_failed)) {
            t->run();
            passed++;
        } else {
            printf("FAIL %s::%s\n", t->suite, t->name);
            failed++;
        }
    }
    printf("[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0\n",
           passed + failed, passed, failed);
    return failed != 0;
}
#endif
#endif
