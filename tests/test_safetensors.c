// uses: servers/inference/safetensors.c servers/log.c servers/values.c json.c number.c http.c utf8.c base64.c
// flags: -Wl,--wrap=malloc -Wl,--wrap=realloc
#include "test.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../servers/inference/safetensors.h"
#include "../servers/log.h"

/* Which allocation from now on finds no memory; -1: none. */
static int fails_at = -1;

static bool no_memory(void)
{
    return fails_at >= 0 && fails_at-- == 0;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n) { return no_memory() ? NULL : __real_malloc(n); }
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n) { return no_memory() ? NULL : __real_realloc(p, n); }

/* A file in memory: length, JSON, data of `data` bytes counting up. */
static uint8_t *file_of(const char *json, uint64_t n, size_t data, size_t *size)
{
    size_t len = strlen(json);
    uint8_t *p = malloc(8 + len + data + 1);
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(n >> 8 * i);
    memcpy(p + 8, json, len);
    for (size_t i = 0; i < data; i++) p[8 + len + i] = (uint8_t)(i & 0x3f);
    *size = 8 + len + data;
    return p;
}

#define F32(name, shape, from, to) \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

/* Each way to break the table; NULL: it is right. */
static const struct { const char *json; size_t data; const char *why; } tables[] = {
    { "{}", 0, NULL },
    { "{\"__metadata__\":{\"format\":\"pt\"}}", 0, NULL },
    { "{" F32("a", "[2,3]", 0, 24) "}", 24, NULL },
    { "{" F32("a", "[2]", 0, 8) "}   \n", 8, NULL },
    { "{" F32("b", "[2]", 8, 16) "," F32("a", "[2]", 0, 8) "}", 16, NULL },
    { "{" F32("a", "[]", 0, 4) "}", 4, NULL },
    { "{" F32("a", "[0,7]", 0, 0) "," F32("b", "[1]", 0, 4) "}", 4, NULL },
    { "{\"a\":{\"shape\":[1],\"more\":[{}],\"data_offsets\":[0,8],\"dtype\":\"I64\"}}", 8, NULL },

    { "[]", 0, "does not start with {" },
    { " {}", 0, "does not start with {" },
    { "{", 0, "is no JSON" },
    { "{}x", 0, "is no JSON" },
    { "{\"a\":1}", 0, "tensor a: is no object" },
    { "{\"a\":[]}", 0, "tensor a: is no object" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "lacks dtype, shape or data_offsets" },
    { "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "lacks dtype" },
    { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "lacks dtype" },
    { "{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype" },
    { "{\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype" },
    { "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "a key twice" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "a key twice" },
    { "{" F32("a", "[-1]", 0, 4) "}", 4, "bad shape" },
    { "{" F32("a", "[1.5]", 0, 4) "}", 4, "bad shape" },
    { "{" F32("a", "[\"1\"]", 0, 4) "}", 4, "bad shape" },
    { "{" F32("a", "1", 0, 4) "}", 4, "bad shape" },
    { "{" F32("a", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "bad shape" },
    { "{" F32("a", "[1e300]", 0, 4) "}", 4, "bad shape" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "bad data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "bad data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "bad data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{}}}", 4, "bad data_offsets" },
    { "{\"__metadata__\":[]}", 0, "__metadata__ is no object" },
    { "{\"__metadata__\":{\"a\":1}}", 0, "no string" },
    { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ twice" },

    { "{" F32("a", "[1]", 0, 4) "," F32("a", "[1]", 4, 8) "}", 8, "tensor a: is there twice" },
    { "{" F32("a", "[1]", 0, 4) "," F32("\\u0061", "[1]", 4, 8) "}", 8, "tensor a: is there twice" },
    { "{" F32("a", "[1]", 4, 0) "}", 4, "begins behind its end" },
    { "{" F32("a", "[2]", 0, 8) "}", 4, "reaches behind the end" },
    { "{" F32("a", "[2]", 0, 9007199254740992) "}", 8, "reaches behind the end" },
    { "{" F32("a", "[3]", 0, 8) "}", 8, "does not fit its data_offsets" },
    { "{" F32("a", "[1]", 0, 8) "}", 8, "does not fit its data_offsets" },
    { "{" F32("a", "[4294967296,4294967296,4]", 0, 8) "}", 8, "overflows" },
    { "{" F32("a", "[9007199254740992,9007199254740992]", 0, 0) "}", 0, "overflows" },
    { "{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 4, 12) "}", 12, "overlaps" },
    { "{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 0, 8) "}", 8, "overlaps" },
    { "{" F32("a", "[1]", 0, 4) "," F32("b", "[1]", 8, 12) "}", 12, "hole" },
    { "{" F32("a", "[1]", 4, 8) "}", 8, "hole" },
    { "{" F32("a", "[1]", 0, 4) "}", 8, "bytes after the last tensor" },
    { "{}", 1, "bytes after the last tensor" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]", 4, "is no JSON" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,", 4, "is no JSON" },
    { "{\"a\":{\"dtype\":\"F32\" \"shape\"", 4, "is no JSON" },
    { "{\"__metadata__\":{\"a\":", 0, "is no" },
    { "{" F32("\\u0007\\n\xc3\xa9", "[1]", 4, 0) "}", 4, "tensor ????: begins" },
};

static void check(const uint8_t *p, size_t size, const char *why, const char *what)
{
    struct safetensors s;
    struct fault f = { 0, "" };
    int r = safetensors_read(&s, p, size, "f.safetensors", &f);
    if (!why) cr_assert_eq(r, 0, "%s: %s", what, f.why);
    else {
        cr_assert_eq(r, -1, "%s was taken", what);
        cr_assert(strstr(f.why, why) != NULL, "%s: says %s", what, f.why);
        cr_assert(!strncmp(f.why, "f.safetensors: ", 15) && f.exit == 65, "%s: says %s", what, f.why);
        cr_assert(!strchr(f.why, '\n'), "%s: more than a line", what);
    }
    safetensors_close(&s);
}

Test(safetensors, broken_tables_are_refused_by_name)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        size_t size;
        uint8_t *p = file_of(tables[i].json, strlen(tables[i].json), tables[i].data, &size);
        check(p, size, tables[i].why, tables[i].json);
        free(p);
    }
}

Test(safetensors, header_length_is_checked_before_use)
{
    static const struct { uint64_t n; const char *why; } rows[] = {
        { 2, NULL }, { 0, "does not start" }, { 3, "beyond the end" }, { 1u << 31, "beyond the end" },
        { 100000001, "beyond the end" }, { UINT64_MAX, "beyond the end" }, { UINT64_MAX - 8, "beyond the end" },
        { (uint64_t)1 << 63, "beyond the end" }, { 1, "no JSON" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t size;
        uint8_t *p = file_of("{}", rows[i].n, 0, &size);
        check(p, size, rows[i].why, "length");
        free(p);
    }
}

Test(safetensors, header_over_100_MB_is_refused)
{
    size_t size = 8 + 100000001;
    uint8_t *p = calloc(size, 1);
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(100000001u >> 8 * i * (i < 4));
    for (int i = 4; i < 8; i++) p[i] = 0;
    p[8] = '{';
    check(p, size, "longer than 100 MB", "large header");
    free(p);
}

Test(safetensors, every_cut_of_a_file_is_refused)
{
    static const char json[] = "{" F32("a", "[2]", 0, 8) "," F32("b", "[1]", 8, 12) "}";
    size_t size;
    uint8_t *p = file_of(json, sizeof json - 1, 12, &size);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = malloc(n + 1);   /* its own block: a sanitizer sees what is read behind it */
        memcpy(cut, p, n);
        check(cut, n, "", "cut file");
        free(cut);
    }
    check(p, size, NULL, "whole file");
    free(p);
}

Test(safetensors, tensors_are_found_by_whole_name)
{
    static const char json[] = "{" F32("bb", "[1]", 4, 8) "," F32("a", "[1]", 0, 4) "," F32("b", "[1]", 8, 12) "}";
    struct safetensors s;
    struct fault f;
    size_t size;
    uint8_t *p = file_of(json, sizeof json - 1, 12, &size);
    cr_assert_eq(safetensors_read(&s, p, size, "f", &f), 0);
    cr_assert_eq(s.n, (size_t)3);
    cr_assert_eq(safetensors_find(&s, "a")->begin, (uint64_t)0);
    cr_assert_eq(safetensors_find(&s, "b")->begin, (uint64_t)8);
    cr_assert_eq(safetensors_find(&s, "bb")->begin, (uint64_t)4);
    cr_assert_null(safetensors_find(&s, "bbb"));
    cr_assert_null(safetensors_find(&s, ""));
    safetensors_close(&s);
    free(p);
}

Test(safetensors, hundreds_of_tensors_in_any_order)
{
    enum { N = 300 };
    char *json = malloc(N * 100), *at = json;
    *at++ = '{';
    for (int i = 0; i < N; i++) {
        int k = i * 7 % N;      /* their data in another order than their names */
        at += sprintf(at, "%s\"t%03d\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[%d,%d]}", i ? "," : "", i,
                      2 * k, 2 * k + 2);
    }
    strcpy(at, "}");
    struct safetensors s;
    struct fault f;
    size_t size;
    uint8_t *p = file_of(json, strlen(json), 2 * N, &size);
    cr_assert_eq(safetensors_read(&s, p, size, "f", &f), 0, "%s", f.why);
    for (int i = 0; i < N; i++) {
        char name[16];
        sprintf(name, "t%03d", i);
        const struct tensor *t = safetensors_find(&s, name);
        cr_assert(t && t->begin == 2 * (uint64_t)(i * 7 % N), "%s", name);
    }
    safetensors_close(&s);
    free(p);
    free(json);
}

Test(safetensors, more_tensors_than_anybody_has_are_refused)
{
    char *json = malloc(100001 * 60), *at = json;
    size_t size;
    for (int i = 0; i <= 100000; i++)
        at += sprintf(at, "%c\"%x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                      i ? ',' : '{', i);
    strcpy(at, "}");
    uint8_t *p = file_of(json, strlen(json), 0, &size);
    check(p, size, "more than 100,000 tensors", "100,001 tensors");
    free(p);
    free(json);
}

Test(safetensors, a_table_that_finds_no_memory_is_refused_with_71)
{
    static char json[30000]; /* 200 tensors: the table grows once */
    size_t len = 1, size;
    json[0] = '{';
    for (int i = 0; i < 200; i++)
        len += (size_t)sprintf(json + len, "%s\"t%d\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                               i ? "," : "", i, 4 * i, 4 * i + 4);
    json[len++] = '}';
    uint8_t *p = file_of(json, len, 800, &size);
    for (int k = 0; k < 4; k++) {
        struct safetensors s;
        struct fault f = { 0 };
        fails_at = k;
        int r = safetensors_read(&s, p, size, "f", &f);
        cr_assert_eq(r, k < 3 ? -1 : 0, "allocation %d: %s", k, f.why);
        if (r) cr_assert(f.exit == 71 && !strcmp(f.why, "f: out of memory"), "%d: %d %s", k, f.exit, f.why);
        else cr_assert_not_null(safetensors_find(&s, "t199"), "with memory all are there");
        safetensors_close(&s);
    }
    fails_at = -1;
    free(p);
}

Test(safetensors, names_are_told_in_printable_characters)
{
    static const char json[] = "{\"a \xc3\xa4\\u0000\\u001b~\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    size_t size;
    uint8_t *p = file_of(json, sizeof json - 1, 4, &size);
    check(p, size, "tensor a?????~: has an unknown dtype", "a terminal's commands in a name");
    free(p);
}

Test(safetensors, long_names_and_shapes_are_cut_in_messages)
{
    char json[1000], name[300], path[400];
    struct safetensors s;
    struct fault f;
    size_t size;
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = 0;
    sprintf(json, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1,1,2,1,1,1],\"data_offsets\":[0,8]}}", name);
    uint8_t *p = file_of(json, strlen(json), 8, &size);
    cr_assert_eq(safetensors_read(&s, p, size, path, &f), 0, "%s", f.why);
    cr_assert_eq(tensor_check(&s, safetensors_find(&s, name), 2, 0, &f), -1);
    cr_assert(strstr(f.why, ": tensor nnnn") && strlen(f.why) < sizeof f.why - 1, "%s", f.why);
    safetensors_close(&s);
    cr_assert_eq(safetensors_read(&s, p, size, "f", &f), 0);
    cr_assert_eq(tensor_check(&s, safetensors_find(&s, name), 2, 0, &f), -1);
    cr_assert(strstr(f.why, "nnn: shape is [1,1,2,1,..], not [2]") != NULL, "%s", f.why);
    safetensors_close(&s);
    free(p);
    p = file_of("{}", 2, 0, &size);
    cr_assert_eq(safetensors_read(&s, p, size, "f", &f), 0);
    cr_assert_null(safetensors_find(&s, "a"));
    safetensors_close(&s);
    free(p);
}

Test(safetensors, shape_and_dtype_are_held_against_what_is_wanted)
{
    static const char json[] =
        "{" F32("a", "[2,3]", 0, 24) ",\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[24,32]}}";
    struct safetensors s;
    struct fault f;
    size_t size;
    uint8_t *p = file_of(json, sizeof json - 1, 32, &size);
    cr_assert_eq(safetensors_read(&s, p, size, "f", &f), 0);
    const struct tensor *a = safetensors_find(&s, "a"), *i = safetensors_find(&s, "i");
    cr_assert_eq(tensor_check(&s, a, 2, 3, &f), 0);
    static const struct { uint64_t rows, cols; const char *says; } rows[] = {
        { 3, 2, "f: tensor a: shape is [2,3], not [3,2]" }, { 6, 0, "f: tensor a: shape is [2,3], not [6]" },
        { 2, 4, "f: tensor a: shape is [2,3], not [2,4]" },
    };
    for (size_t k = 0; k < 3; k++) {
        cr_assert_eq(tensor_check(&s, a, rows[k].rows, rows[k].cols, &f), -1);
        cr_assert_str_eq(f.why, rows[k].says);
    }
    cr_assert_eq(tensor_check(&s, i, 1, 0, &f), -1);
    cr_assert_str_eq(f.why, "f: tensor i: dtype is I64; weights must be F32, F16 or BF16");
    safetensors_close(&s);
    free(p);
}

/* One value in each type, and what it is. */
static const struct { enum dtype dtype; uint32_t bits; float value; } values[] = {
    { DTYPE_F32, 0x3f800000, 1 },   { DTYPE_F32, 0xc0490fdb, -3.14159274f }, { DTYPE_F32, 0x7f7fffff, 3.4028235e38f },
    { DTYPE_F32, 0x00000001, 0x1p-149f }, { DTYPE_F32, 0x80000000, 0 },
    { DTYPE_BF16, 0x3f80, 1 },      { DTYPE_BF16, 0xc049, -3.140625f },      { DTYPE_BF16, 0x7f7f, 3.38953139e38f },
    { DTYPE_F16, 0x3c00, 1 },       { DTYPE_F16, 0xc248, -3.140625f },       { DTYPE_F16, 0x7bff, 65504 },
    { DTYPE_F16, 0x0001, 0x1p-24f }, { DTYPE_F16, 0x83ff, -0x1.ff8p-15f },   { DTYPE_F16, 0x0400, 0x1p-14f },
    { DTYPE_F16, 0x8000, 0 },
    { DTYPE_F32, 0x7f800000, INFINITY }, { DTYPE_F32, 0xff800000, INFINITY }, { DTYPE_F32, 0x7fc00000, INFINITY },
    { DTYPE_F32, 0xff800001, INFINITY }, { DTYPE_BF16, 0x7f80, INFINITY },    { DTYPE_BF16, 0xffc0, INFINITY },
    { DTYPE_F16, 0x7c00, INFINITY },     { DTYPE_F16, 0xfe00, INFINITY },     { DTYPE_F16, 0x7c01, INFINITY },
};

Test(safetensors, numbers_are_read_exactly_and_must_be_finite)
{
    enum { N = 1100 };
    static uint8_t data[4 * N + 1];
    static float out[N];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        for (size_t at = 0; at < N; at += 1 + at / 3) {     /* at every kind of place */
            struct tensor t = { .dtype = values[i].dtype, .element_bytes = values[i].dtype == DTYPE_F32 ? 4 : 2,
                                .data = data + 1 };         /* unaligned */
            memset(data, 0, sizeof data);
            for (unsigned k = 0; k < t.element_bytes; k++)
                data[1 + at * t.element_bytes + k] = (uint8_t)(values[i].bits >> 8 * k);
            bool finite = values[i].value < INFINITY;
            cr_assert_eq(tensor_floats(&t, 0, N, out), finite, "value %zu at %zu", i, at);
            cr_assert_eq(tensor_finite(&t, 0, N), finite, "value %zu at %zu", i, at);
            cr_assert_eq(tensor_finite(&t, at + 1, N - at - 1), true);
            if (finite) cr_assert_eq(out[at], values[i].value, "value %zu: %g", i, (double)out[at]);
            cr_assert(at == 0 || out[0] == 0);
        }
    }
}

Test(safetensors, a_tensor_that_is_not_finite_is_named)
{
    static const char json[] = "{" F32("a", "[1]", 0, 4) "}";
    struct safetensors s;
    struct fault f;
    size_t size;
    float x;
    uint8_t *p = file_of(json, sizeof json - 1, 4, &size);
    memcpy(p + size - 4, "\0\0\x80\x7f", 4);
    cr_assert_eq(safetensors_read(&s, p, size, "f", &f), 0);
    cr_assert_eq(tensor_read(&s, safetensors_find(&s, "a"), 0, 1, &x, &f), -1);
    cr_assert_str_eq(f.why, "f: tensor a: holds a number that is not finite");
    safetensors_close(&s);
    free(p);
}

/* A file of one tensor of n floats on disk; its name is the caller's to unlink. */
static void write_file(char *path, size_t n)
{
    char json[200];
    int len = snprintf(json, sizeof json, "{\"a\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}",
                       n, 4 * n);
    size_t size;
    uint8_t *p = file_of(json, (uint64_t)len, 4 * n, &size);
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, p, size) == (ssize_t)size);
    close(fd);
    free(p);
}

Test(safetensors, files_are_mapped)
{
    char path[] = "/tmp/safetensors-XXXXXX";
    struct safetensors s;
    struct fault f;
    float out[3];
    write_file(path, 3000);
    cr_assert_eq(safetensors_map(&s, path, &f), 0, "%s", f.why);
    cr_assert(tensor_floats(safetensors_find(&s, "a"), 0, 3, out));
    safetensors_close(&s);
    truncate(path, 0);
    cr_assert_eq(safetensors_map(&s, path, &f), -1);
    cr_assert(strstr(f.why, "is empty") != NULL, "%s", f.why);
    safetensors_close(&s);
    unlink(path);
    cr_assert_eq(safetensors_map(&s, path, &f), -1);
    cr_assert(strstr(f.why, path) != NULL && f.exit == 65, "%s", f.why);
    safetensors_close(&s);
    cr_assert_eq(safetensors_map(&s, "/tmp", &f), -1);
    safetensors_close(&s);
    cr_assert_eq(mkfifo(path, 0600), 0);
    cr_assert_eq(safetensors_map(&s, path, &f), -1);    /* and does not wait for a writer */
    safetensors_close(&s);
    unlink(path);
}

/* Read a file after it was cut off, in a child: its exit status and what it says. */
static int read_cut_file(const char *path, char *says, size_t cap)
{
    int pipes[2], status = 0;
    cr_assert_eq(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct safetensors s;
        struct fault f;
        float out[100];
        dup2(pipes[1], 2);
        if (safetensors_map(&s, path, &f)) _exit(1);
        if (truncate(path, 4096)) _exit(2);
        tensor_floats(safetensors_find(&s, "a"), 90000, 100, out);
        _exit(3);
    }
    close(pipes[1]);
    ssize_t n = read(pipes[0], says, cap - 1);
    says[n > 0 ? n : 0] = 0;
    close(pipes[0]);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(safetensors, a_file_cut_off_under_us_ends_with_65_and_a_line)
{
    char path[] = "/tmp/safetensors-XXXXXX", says[500];
    write_file(path, 100000);
    int status = read_cut_file(path, says, sizeof says);
    unlink(path);
    cr_assert_eq(status, 65, "exit %d, %s", status, says);
    cr_assert(strstr(says, path) != NULL && strstr(says, "cut off") != NULL && strchr(says, '\n') != NULL,
              "says %s", says);
}
