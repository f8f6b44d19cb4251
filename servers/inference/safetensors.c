#include "servers/offsets.h"
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../http.h"
#include "../../json.h"
#include "../log.h"
#include "../values.h"

static const struct { const char *name; uint8_t bytes; enum dtype dtype; } dtypes[] = {
    { "F32", 4, DTYPE_F32 },      { "F16", 2, DTYPE_F16 },      { "BF16", 2, DTYPE_BF16 },
    { "F64", 8, DTYPE_OTHER },    { "I64", 8, DTYPE_OTHER },    { "U64", 8, DTYPE_OTHER },
    { "I32", 4, DTYPE_OTHER },    { "U32", 4, DTYPE_OTHER },    { "I16", 2, DTYPE_OTHER },
    { "U16", 2, DTYPE_OTHER },    { "I8", 1, DTYPE_OTHER },     { "U8", 1, DTYPE_OTHER },
    { "BOOL", 1, DTYPE_OTHER },   { "F8_E4M3", 1, DTYPE_OTHER }, { "F8_E5M2", 1, DTYPE_OTHER },
};

int tensor_bad(const struct safetensors *s, const struct tensor *t, const char *why,
               struct fault *f)
{
    if (!t) return fault_set(f, 65, "%s: %s", s->path, why);
    char name[100];
    size_t n = t->name.len < sizeof name - 1 ? t->name.len : sizeof name - 1;
    for (size_t i = 0; i < n; i++)
        name[i] = t->name.p[i] > ' ' && t->name.p[i] < 127 ? t->name.p[i] : '?';
    name[n] = 0;
    return fault_set(f, 65, "%s: tensor %s: %s", s->path, name, why);
}

static bool read_dtype(struct json *in, struct tensor *t)
{
    struct slice s = json_slice(in);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (!slice_is(s, dtypes[i].name)) continue;
        t->dtype = dtypes[i].dtype;
        t->element_bytes = dtypes[i].bytes;
        memcpy(t->dtype_name, dtypes[i].name, s.len + 1);
        return true;
    }
    return false;
}

/* A list of integers from 0 on: how many there are, or -1. */
static int read_counts(struct json *in, uint64_t *out, int cap)
{
    int n = 0;
    if (in->type != JSON_ARRAY) return -1;
    json_enter(in);
    while (json_next(in) > JSON_END) {
        int64_t v;
        if (n == cap || !json_int(in, &v) || v < 0) return -1;
        out[n++] = (uint64_t)v;
    }
    return n;
}

/* {dtype, shape, data_offsets}: NULL, or what is wrong with it. */
static const char *read_entry(struct json *in, struct tensor *t)
{
    if (in->type != JSON_OBJECT) return "is no object";
    unsigned seen = 0;
    int dims = 0;
    uint64_t offsets[2] = { 0 };
    json_enter(in);
    while (json_next(in) > JSON_END) {
        unsigned bit = json_key(in, "dtype") ? 1 : json_key(in, "shape") ? 2
                     : json_key(in, "data_offsets") ? 4 : 0;
        if (seen & bit) return "has a key twice";
        seen |= bit;
        if (bit == 1 && !read_dtype(in, t)) return "has an unknown dtype";
        if (bit == 2) dims = read_counts(in, t->shape, TENSOR_DIMS);
        if (dims < 0) return "has a bad shape";
        if (bit == 4 && read_counts(in, offsets, 2) != 2) return "has bad data_offsets";
    }
    t->dims = (uint8_t)dims;
    t->begin = offsets[0];
    t->end = offsets[1];
    return in->err ? NULL : seen == 7 ? NULL : "lacks dtype, shape or data_offsets";
}

static const char *read_metadata(struct json *in)
{
    if (in->type != JSON_OBJECT) return "__metadata__ is no object";
    json_enter(in);
    while (json_next(in) > JSON_END)
        if (in->type != JSON_STRING) return "__metadata__ holds something that is no string";
    return NULL;
}

/* One more tensor, zeroed but for its name, which is decoded where it stands in the header. */
static struct tensor *add(struct safetensors *s, size_t *cap, struct slice name)
{
    if (s->n == *cap) {
        size_t more = *cap ? *cap * 2 : 128;
        struct tensor *grown = realloc(s->tensor, more * sizeof *grown);
        if (!grown) return NULL;
        s->tensor = grown;
        *cap = more;
    }
    struct json in;
    json_before(&in, (struct slice){ name.p - 1, name.len + 2 });   /* with its quotes: a string */
    s->tensor[s->n] = (struct tensor){ .name = json_slice(&in) };
    return &s->tensor[s->n++];
}

static int read_table(struct safetensors *s, size_t len, struct fault *f)
{
    struct json in;
    size_t cap = 0;
    char why[160];
    bool metadata = false;
    json_init(&in, s->header, len);
    json_next(&in);
    json_enter(&in);
    while (json_next(&in) > JSON_END) {
        const char *wrong;
        if (json_key(&in, "__metadata__")) {
            if (metadata) return tensor_bad(s, NULL, "the header has __metadata__ twice", f);
            metadata = true;
            if ((wrong = read_metadata(&in)) != NULL) return tensor_bad(s, NULL, wrong, f);
            continue;
        }
        if (s->n == SAFETENSORS_MAX) return tensor_bad(s, NULL, "more than 100,000 tensors", f);
        struct tensor *t = add(s, &cap, in.key);
        if (!t) return fault_set(f, 71, "%s: out of memory", s->path);
        if ((wrong = read_entry(&in, t)) != NULL && !in.err) return tensor_bad(s, t, wrong, f);
    }
    if (!in.err) json_next(&in);
    if (!in.err) return 0;
    snprintf(why, sizeof why, "the header is no JSON: %s at byte %zu", in.err, in.err_at + 8);
    return tensor_bad(s, NULL, why, f);
}

static int by_name(const void *a, const void *b)
{
    const struct slice *x = &((const struct tensor *)a)->name,
                       *y = &((const struct tensor *)b)->name;
    size_t n = x->len < y->len ? x->len : y->len;
    int d = n ? memcmp(x->p, y->p, n) : 0;
    return d ? d : (x->len > y->len) - (x->len < y->len);
}

static int by_begin(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static void sort(struct safetensors *s, int (*by)(const void *, const void *))
{
    if (s->n) qsort(s->tensor, s->n, sizeof *s->tensor, by);
}

/* Bytes that a shape takes; false when that does not fit 64 bits. */
static bool shape_bytes(const struct tensor *t, uint64_t *bytes)
{
    *bytes = t->element_bytes;
    for (int i = 0; i < t->dims; i++) {
        if (t->shape[i] && *bytes > UINT64_MAX / t->shape[i]) return false;
        *bytes *= t->shape[i];
    }
    return true;
}

/* No two tensors share a byte and none is left over. */
static int check_cover(struct safetensors *s, struct fault *f)
{
    uint64_t at = 0;
    sort(s, by_begin);
    for (size_t i = 0; i < s->n; at = s->tensor[i++].end) {
        const struct tensor *t = &s->tensor[i];
        if (t->begin < at) return tensor_bad(s, t, "its data overlaps another tensor's", f);
        if (t->begin > at) return tensor_bad(s, t, "there is a hole before its data", f);
    }
    if (at != s->data_bytes) return tensor_bad(s, NULL, "bytes after the last tensor", f);
    sort(s, by_name);
    return 0;
}

static int check_table(struct safetensors *s, struct fault *f)
{
    sort(s, by_name);
    for (size_t i = 1; i < s->n; i++)
        if (!by_name(&s->tensor[i - 1], &s->tensor[i]))
            return tensor_bad(s, &s->tensor[i], "is there twice", f);
    for (size_t i = 0; i < s->n; i++) {
        struct tensor *t = &s->tensor[i];
        if (t->begin > t->end) return tensor_bad(s, t, "begins behind its end", f);
        if (t->end > s->data_bytes)
            return tensor_bad(s, t, "reaches behind the end of the file", f);
    }
    for (size_t i = 0; i < s->n; i++) {
        struct tensor *t = &s->tensor[i];
        uint64_t bytes;
        if (!shape_bytes(t, &bytes)) return tensor_bad(s, t, "its shape overflows", f);
        if (bytes != t->end - t->begin)
            return tensor_bad(s, t, "its shape does not fit its data_offsets", f);
        t->data = s->data + t->begin;
    }
    return check_cover(s, f);
}

int safetensors_read(struct safetensors *s, const uint8_t *file, size_t size, const char *path,
                     struct fault *f)
{
    uint64_t n = 0;
    memset(s, 0, sizeof *s);
    snprintf(s->path, sizeof s->path, "%s", path);
    s->file = file;
    s->size = size;
    if (size < 8) return tensor_bad(s, NULL, "too short for a safetensors file", f);
    for (int i = 7; i >= 0; i--) n = n << 8 | file[i];
    if (n > size - 8)
        return tensor_bad(s, NULL, "the header's length is beyond the end of the file", f);
    if (n > SAFETENSORS_HEADER_MAX)
        return tensor_bad(s, NULL, "the header is longer than 100 MB", f);
    if (!n || file[8] != '{') return tensor_bad(s, NULL, "the header does not start with {", f);
    s->data = file + 8 + n;
    s->data_bytes = size - 8 - (size_t)n;
    if (!(s->header = malloc((size_t)n))) return fault_set(f, 71, "%s: out of memory", s->path);
    memcpy(s->header, file + 8, (size_t)n);
    if (read_table(s, (size_t)n, f)) return -1;
    return check_table(s, f);
}

/* The one mapping whose loss is told from a crash, and what to say then. */
static struct {
    const uint8_t *p;
    char line[400];
    size_t len;
} guarded;

/* No other file is mapped; the address is not told everywhere. */
static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    (void)context;
    if (guarded.p && info->si_code != BUS_ADRALN) {
        ssize_t ignored = write(2, guarded.line, guarded.len);
        (void)ignored;
        _exit(65);
    }
    signal(sig, SIG_DFL);   /* happens again, and ends us */
}

static void guard(const uint8_t *file, const char *path)
{
    struct sigaction act = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
    int n = snprintf(guarded.line, sizeof guarded.line,
                     "%.255s: the file was cut off while it was in use\n", path);
    guarded.len = (size_t)n < sizeof guarded.line ? (size_t)n : sizeof guarded.line - 1;
    guarded.p = file;
    sigemptyset(&act.sa_mask);
    sigaction(SIGBUS, &act, NULL);
}

int safetensors_map(struct safetensors *s, const char *path, struct fault *f)
{
    memset(s, 0, sizeof *s);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fault_set(f, 65, "%s: %s", path, strerror(errno));
    struct stat st;
    void *p = MAP_FAILED;
    size_t size = 0;
    if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0 &&
        (uint64_t)st.st_size <= SIZE_MAX / 2) {
        size = (size_t)st.st_size;
        p = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    }
    close(fd);
    if (p == MAP_FAILED) return fault_set(f, 65, "%s: is empty or cannot be mapped", path);
    guard(p, path);
    int r = safetensors_read(s, p, size, path, f);
    s->mapped = true;
    return r;
}

void safetensors_close(struct safetensors *s)
{
    if (s->mapped) {
        if (guarded.p == s->file) guarded.p = NULL;
        munmap((void *)(uintptr_t)s->file, s->size);
    }
    free(s->tensor);
    free(s->header);
    memset(s, 0, sizeof *s);
}

const struct tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    struct tensor key = { .name = { name, strlen(name) } };
    return s->n ? bsearch(&key, s->tensor, s->n, sizeof key, by_name) : NULL;
}

int tensor_check(const struct safetensors *s, const struct tensor *t, uint64_t rows,
                 uint64_t cols, struct fault *f)
{
    char why[200];
    if (t->dtype == DTYPE_OTHER) {
        snprintf(why, sizeof why, "dtype is %s; weights must be F32, F16 or BF16", t->dtype_name);
        return tensor_bad(s, t, why, f);
    }
    if (t->dims == (cols ? 2 : 1) && t->shape[0] == rows && (!cols || t->shape[1] == cols))
        return 0;
    size_t n = (size_t)snprintf(why, sizeof why, "shape is [");
    for (int i = 0; i < t->dims && i < 4; i++)
        n += (size_t)snprintf(why + n, sizeof why - n, i ? ",%" PRIu64 : "%" PRIu64, t->shape[i]);
    n += (size_t)snprintf(why + n, sizeof why - n,
                          t->dims > 4 ? ",..], not [%" PRIu64 : "], not [%" PRIu64, rows);
    snprintf(why + n, sizeof why - n, cols ? ",%" PRIu64 "]" : "]", cols);
    return tensor_bad(s, t, why, f);
}

static uint32_t load16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t half_bits(uint32_t h)
{
    uint32_t sign = (h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 0x3ffu;
    if (e == 31) return sign | 0x7f800000u | m << 13;
    if (e) return sign | (e + 112) << 23 | m << 13;
    float f = (float)m * 0x1p-24f;      /* subnormal or zero: exact */
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return sign | bits;
}

typedef uint32_t bits16 __attribute__((vector_size(64)));

/* Top bit set when one of n floats, in this machine's order, has an exponent of all ones. */
static uint32_t infinite(const void *floats, size_t n)
{
    const uint8_t *p = floats;
    bits16 worst = { 0 }, v;
    uint32_t all = 0, bits;
    for (; n >= 16; n -= 16, p += sizeof v) {
        memcpy(&v, p, sizeof v);
        worst |= (v & 0x7f800000u) + 0x00800000u;
    }
    for (; n; n--, p += 4) {
        memcpy(&bits, p, 4);
        all |= (bits & 0x7f800000u) + 0x00800000u;
    }
    for (int i = 0; i < 16; i++) all |= worst[i];
    return all >> 31;
}

bool tensor_finite(const struct tensor *t, uint64_t first, size_t n)
{
    float piece[512];
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (t->dtype == DTYPE_F32) return !infinite(t->data + 4 * first, n);
#endif
    for (size_t k; n; n -= k, first += k) {
        k = n < 512 ? n : 512;
        if (!tensor_floats(t, first, k, piece)) return false;
    }
    return true;
}

bool tensor_floats(const struct tensor *t, uint64_t first, size_t n, float *out)
{
    const uint8_t *p = t->data + first * t->element_bytes;
    uint32_t bits;
    if (t->dtype == DTYPE_F32) {
        memcpy(out, p, 4 * n);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        for (size_t i = 0; i < n; i++) {
            memcpy(&bits, out + i, 4);
            bits = __builtin_bswap32(bits);
            memcpy(out + i, &bits, 4);
        }
#endif
        return !infinite(out, n);
    }
    for (size_t i = 0; i < n; i++) {
        bits = load16(p + 2 * i);
        bits = t->dtype == DTYPE_BF16 ? bits << 16 : half_bits(bits);
        memcpy(out + i, &bits, 4);
    }
    return !infinite(out, n);
}

int tensor_read(const struct safetensors *s, const struct tensor *t, uint64_t first, size_t n,
                float *out, struct fault *f)
{
    if (tensor_floats(t, first, n, out)) return 0;
    return tensor_bad(s, t, "holds a number that is not finite", f);
}
