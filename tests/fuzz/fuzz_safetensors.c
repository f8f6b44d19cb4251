// uses: json.c number.c http.c utf8.c base64.c servers/log.c servers/values.c
/* Tensor files: what the reader takes has a sound table: every tensor inside the data, no
 * byte twice and none left over, names found and all different. The first two bytes of
 * the input are the header's length (so that mutations keep it right), or 0xffff: the rest
 * is the file as it stands. */
#include "../../servers/inference/safetensors.c"

#include "fuzz.h"

static void check_tensor(const struct safetensors *s, const struct tensor *t, uint8_t *seen)
{
    static float out[4096];
    char name[256];
    uint64_t n = t->element_bytes;
    struct fault f;
    CHECK(t->begin <= t->end && t->end <= s->data_bytes && t->data == s->data + t->begin);
    for (int i = 0; i < t->dims; i++) n *= t->shape[i];
    CHECK(n == t->end - t->begin);
    for (uint64_t i = t->begin; i < t->end; i++) CHECK(!seen[i]++);
    n /= t->element_bytes;
    if (t->dtype != DTYPE_OTHER && n <= 4096) {
        bool finite = tensor_floats(t, 0, (size_t)n, out);
        CHECK(finite == tensor_finite(t, 0, (size_t)n));
        for (uint64_t i = 0; i < n && finite; i++) CHECK(out[i] - out[i] == 0);
    }
    CHECK(tensor_check(s, t, n + 1, 0, &f) == -1 && strlen(f.why) < sizeof f.why);
    if (t->name.len >= sizeof name || memchr(t->name.p, 0, t->name.len)) return;
    memcpy(name, t->name.p, t->name.len);
    name[t->name.len] = 0;
    CHECK(safetensors_find(s, name) == t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors s;
    struct fault f;
    if (size < 2) return 0;
    size_t n = (size_t)data[0] | (size_t)data[1] << 8, len = n == 0xffff ? size - 2 : size + 6;
    uint8_t *file = malloc(len + 1);
    CHECK(file);
    if (n == 0xffff) memcpy(file, data + 2, size - 2);
    else {
        memcpy(file, data, 2);
        memset(file + 2, 0, 6);
        memcpy(file + 8, data + 2, size - 2);
    }
    if (!safetensors_read(&s, file, len, "f", &f)) {
        uint8_t *seen = calloc(s.data_bytes + 1, 1);
        for (size_t i = 0; i < s.n; i++) check_tensor(&s, &s.tensor[i], seen);
        for (size_t i = 0; i < s.data_bytes; i++) CHECK(seen[i] == 1);
        free(seen);
    } else CHECK(f.exit == 65 && !strncmp(f.why, "f: ", 3) && !strchr(f.why, '\n'));
    safetensors_close(&s);
    free(file);
    return 0;
}
