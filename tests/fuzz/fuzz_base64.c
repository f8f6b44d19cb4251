// uses: base64.c
/* Base64: what decodes encodes to the same text; everything encoded decodes. */
#include "base64.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size / 4 * 3 + 1);
    char *text = malloc(base64_size(size) + 1);
    CHECK(bytes && text);
    size_t n = base64_decode(bytes, (const char *)data, size);
    if (n != SIZE_MAX) {
        CHECK(n <= size / 4 * 3 && base64_size(n) == size);
        CHECK(base64_encode(text, bytes, n) == size && !memcmp(text, data, size));
    }
    free(bytes);
    bytes = malloc(size + 3);
    CHECK(bytes);
    n = base64_encode(text, data, size);
    CHECK(n == base64_size(size));
    CHECK(base64_decode(bytes, text, n) == size && !memcmp(bytes, data, size));
    free(bytes);
    free(text);
    return 0;
}
