// uses: sha1.c base64.c utf8.c number.c json.c
/* The small things: SHA-1, base64, UTF-8 and JSON, in throughput or time a call,
 * as the median of 31 rounds and the spread of the middle half. With jansson
 * (-DHAVE_JANSSON -ljansson) its figures stand beside, measured in turn.
 * `small --csv` prints "name",median,low,high,unit,peer,goal, for run.py. */
#include <locale.h>

#include "base64.h"
#include "bench/bench.h"
#include "json.h"
#include "sha1.h"
#include "utf8.h"
#include "tests/jansson_beside.h"

enum { ROUNDS = 31, DIMENSION = 384, BIG = 65536 };

static uint8_t bytes[BIG], out[2 * BIG];
static char ascii[BIG], mixed[BIG], two_byte[1024], coded[2 * BIG], store[16384], text[16384];
static char long_string[BIG];
static size_t coded_len, store_len;
static float vector[DIMENSION], floats[DIMENSION];
static volatile size_t sink;

static double now_s(void) { return cpu_ms() / 1e3; }

static void run_sha1(void)       { sha1(out, bytes, BIG); }
static void run_sha1_key(void)   { sha1(out, bytes, 60); }
static void run_encode(void)     { sink += base64_encode(coded, bytes, BIG); }
static void run_decode(void)     { sink += base64_decode(out, coded, coded_len); }
static void run_vector64(void)   { sink += base64_encode(text, (const uint8_t *)vector, sizeof vector); }
static void run_ascii(void)      { sink += (size_t)utf8_valid((const uint8_t *)ascii, BIG); }
static void run_mixed(void)      { sink += (size_t)utf8_valid((const uint8_t *)mixed, BIG); }
static void run_two_byte(void)   { sink += (size_t)utf8_valid((const uint8_t *)two_byte, sizeof two_byte); }

static void run_check(void)
{
    size_t at;
    sink += json_check(store, store_len, &at) == NULL;
}

static void run_string(void)
{
    size_t at;
    sink += json_check(long_string, BIG, &at) == NULL;
}

static void run_read(void)
{
    struct json in;
    json_init(&in, store, store_len);
    json_next(&in);
    json_enter(&in);
    while (json_next(&in) > JSON_END)
        if (json_key(&in, "embedding")) sink += (size_t)json_f32s(&in, floats, DIMENSION);
}

static void run_both(void)
{
    run_check();
    run_read();
}

static void run_print(void)
{
    struct json_out o = json_out(text, sizeof text);
    json_put_f32s(&o, vector, DIMENSION);
    sink += o.len;
}

#ifdef HAVE_JANSSON
static void peer_read(void)
{
    json_t *tree = json_loadb(store, store_len, 0, NULL), *list = json_object_get(tree, "embedding");
    for (size_t i = 0; i < DIMENSION; i++) floats[i] = (float)json_number_value(json_array_get(list, i));
    json_decref(tree);
}

static void peer_print(void)
{
    json_t *list = json_array();
    for (int i = 0; i < DIMENSION; i++) json_array_append_new(list, json_real((double)vector[i]));
    sink += json_dumpb(list, text, sizeof text, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(list);
}
#else
#define peer_read  NULL
#define peer_print NULL
#endif

/* Seconds a call, one round of about 2 ms. */
static double round_of(void (*run)(void))
{
    int calls = 1;
    for (;;) {
        double from = now_s();
        for (int i = 0; i < calls; i++) run();
        double took = now_s() - from;
        if (took > 2e-3) return took / calls;
        calls = took > 1e-4 ? (int)(calls * 2.2e-3 / took) + 1 : calls * 16;
    }
}

/* bytes 0: in microseconds; else in MB/s. */
struct row {
    const char *name;
    void (*run)(void), (*peer)(void);
    size_t bytes;
    const char *goal;
};

static double figure(const struct row *r, double s) { return r->bytes ? (double)r->bytes / s / 1e6 : s * 1e6; }

static void measure(const struct row *r, int csv)
{
    double ours[ROUNDS], theirs[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        ours[i] = figure(r, round_of(r->run));
        theirs[i] = r->peer ? figure(r, round_of(r->peer)) : 0;
    }
    qsort(ours, ROUNDS, sizeof *ours, by_value);
    qsort(theirs, ROUNDS, sizeof *theirs, by_value);
    double mid = ours[ROUNDS / 2], low = ours[ROUNDS / 4], high = ours[ROUNDS * 3 / 4], peer = theirs[ROUNDS / 2];
    const char *unit = r->bytes ? "MB/s" : "us";
    if (csv) {
        printf("\"%s\",%.4g,%.4g,%.4g,%s,%.4g,%s\n", r->name, mid, low, high, unit, peer, r->goal);
        return;
    }
    printf("| %-34s | %9.2f %-4s | %9.2f..%-9.2f | %-12s |", r->name, mid, unit, low, high, r->goal);
    if (r->peer) printf(" jansson %.1f, %.1f x |\n", peer, r->bytes ? mid / peer : peer / mid);
    else printf(" |\n");
}

static void fill(char *to, size_t n, const char *pattern)
{
    size_t len = strlen(pattern), i = 0;
    for (; i + len <= n; i += len) memcpy(to + i, pattern, len);
    memset(to + i, ' ', n - i);
}

static void prepare(void)
{
    uint32_t seed = 1;
    for (size_t i = 0; i < BIG; i++) bytes[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
    for (int i = 0; i < DIMENSION; i++)
        vector[i] = (float)((int32_t)(seed = seed * 1664525u + 1013904223u) >> 8) / (1 << 23) * 0.2f;
    fill(ascii, BIG, "The quick brown fox jumps over the lazy dog. ");
    fill(mixed, BIG, "Gr\xc3\xbc\xc3\x9f" "e, \xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, \xe4\xbd\xa0\xe5\xa5\xbd, hello \xf0\x9f\x98\x80 ");
    fill(two_byte, sizeof two_byte, "\xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82");
    memcpy(long_string, ascii, BIG);
    long_string[0] = long_string[BIG - 1] = '"';
    coded_len = base64_encode(coded, bytes, BIG);
    struct json_out o = json_out(store, sizeof store);
    json_open(&o, '{');
    json_put_key(&o, "type");
    json_put_text(&o, "store");
    json_put_key(&o, "embedding");
    json_put_f32s(&o, vector, DIMENSION);
    json_close(&o, '}');
    store_len = o.len;
}

int main(int argc, char **argv)
{
    int csv = argc > 1 && !strcmp(argv[1], "--csv");
    setlocale(LC_ALL, "C");
    prepare();
    const struct row rows[] = {
        { "SHA-1, 64 KiB", run_sha1, NULL, BIG, "" },
        { "SHA-1, a handshake's 60 bytes", run_sha1_key, NULL, 0, "" },
        { "base64 encode, 64 KiB", run_encode, NULL, BIG, "" },
        { "base64 decode, 64 KiB", run_decode, NULL, coded_len, "" },
        { "base64 of a vector of 384", run_vector64, NULL, 0, "" },
        { "UTF-8, ASCII, 64 KiB", run_ascii, NULL, BIG, ">= 8000" },
        { "UTF-8, mixed, 64 KiB", run_mixed, NULL, BIG, ">= 1000" },
        { "UTF-8, 1 KiB of two-byte text", run_two_byte, NULL, 0, "<= 0.1" },
        { "JSON check, string of 64 KiB", run_string, NULL, BIG, ">= 1000" },
        { "JSON check, store of 384 floats", run_check, NULL, store_len, "" },
        { "JSON parse, store of 384 floats", run_read, peer_read, store_len, ">= 400" },
        { "JSON check + parse", run_both, peer_read, store_len, "" },
        { "JSON print, vector of 384", run_print, peer_print, 0, "<= 25" },
    };
    if (!csv) printf("| what | median | middle half | goal | beside |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) measure(&rows[i], csv);
    return 0;
}
