// uses: number.c
/* Numbers: the input read as text gives what strtod and strtof give; its bytes
 * taken as a double and a float come back from their shortest text. */
#include "number.h"

#include <errno.h>
#include <math.h>

#include "fuzz.h"

static void read_as_text(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + !size), *text = calloc(size + 1, 1), *end;
    struct number n;
    double d;
    float f;
    int64_t i;
    CHECK(copy && text);
    memcpy(copy, data, size);
    size_t len = number_read(&n, copy, size);
    CHECK(len <= size && n.len <= size);
    if (len) {
        memcpy(text, copy, len);
        bool finite = number_double(&n, &d), finite_float = number_float(&n, &f);
        double want = strtod(text, &end);
        float want_float = strtof(text, NULL);
        CHECK(end == text + len && finite == (isfinite(want) != 0) && finite == number_finite(&n));
        CHECK(!memcmp(&d, &want, 8) && !memcmp(&f, &want_float, 4));
        CHECK(finite_float == (isfinite(want_float) != 0));
        if (number_int(&n, &i)) CHECK((double)i == d && llabs(i) <= 1ll << 53);
    }
    free(copy);
    free(text);
}

static void print_bits(const uint8_t *data)
{
    char text[NUMBER_ROOM];
    struct number n;
    double d, e;
    float f, g;
    memcpy(&d, data, 8);
    memcpy(&f, data, 4);
    if (isfinite(d)) {
        size_t len = number_put_double(text, d);
        CHECK(number_read(&n, text, len) == len && number_double(&n, &e) && !memcmp(&d, &e, 8));
    }
    if (isfinite(f)) {
        size_t len = number_put_float(text, f);
        CHECK(number_read(&n, text, len) == len && number_float(&n, &g) && !memcmp(&f, &g, 4));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= 4096) read_as_text(data, size);
    if (size >= 8) print_bits(data);
    return 0;
}
