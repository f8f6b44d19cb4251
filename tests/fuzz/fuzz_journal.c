// uses: servers/memory/journal.c servers/memory/journal_open.c servers/memory/journal_compact.c servers/memory/journal_tools.c servers/memory/walk.c servers/memory/record.c servers/memory/disk_work.c json.c number.c utf8.c base64.c
/* Any bytes as a log: opening, checking and repairing never crash, opening twice is
 * as once, and a check calls damage what a start refuses for that, no more and no less.
 * What is handed over can be sent: it is UTF-8 and JSON. Nothing stays open. The files are in memory: a run makes no system call.
 *
 * The first byte says what is put right before, so that the bytes behind a checksum
 * are reached: 1 a file header is set in front, 2 headers' checksums, 4 payloads',
 * 8 numbers and chain. */
#include <sys/mman.h>

/* The areas between us and the disk are mapped once: each run would touch fresh pages. */
static void *areas(void);
#define mmap(...) areas()
#define munmap(p, n) ((void)0)
#include "../../servers/memory/disk.c"
#undef mmap
#undef munmap

/* What plays the file system is not what is explored. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#include "sim_fs.h"
#include "fuzz.h"

#include "../journal_log.h"
#include "../../servers/crc32c.c"
#include "json.h"
#include "servers/memory/journal.h"
#include "servers/memory/journal_tools.h"

#define DIM 2
#define MOST 65536

static uint8_t        log_bytes[JOURNAL_HEAD_BYTES + MOST + 64];
static const uint8_t  print[32];
static const char     dir[] = "/sim", name[] = "memory.log";

static void *areas(void)
{
    static _Alignas(4096) uint8_t bytes[DISK_AREAS * DISK_AREA_BYTES];
    return bytes;
}

struct seen { uint64_t n, hash; };

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
    return h;
}

static bool on_record(void *user, enum memory_change what, const struct memory *m)
{
    struct seen *s = user;
    s->n++;
    s->hash = mix(mix(mix(s->hash, &what, sizeof what), m->id, MEMORY_ID), &m->f.time_ms, 8);
    if (what != MEMORY_PUT) return s->n % 2;
    size_t at;
    if (!utf8_valid((const uint8_t *)m->text.p, m->text.len) || m->text.len > MEMORY_TEXT ||
        json_check(m->metadata.p, m->metadata.len, &at) || json_check(m->tags.p, m->tags.len, &at))
        abort();
    s->hash = mix(mix(mix(s->hash, m->text.p, m->text.len), m->metadata.p, m->metadata.len), m->tags.p,
                  m->tags.len);
    s->hash = mix(s->hash, m->vector, 4 * DIM);
    return true;
}

static bool open_once(struct seen *s, struct journal_state *st, struct fault *f)
{
    *s = (struct seen){ 0, 7 };
    struct journal_config c = { .dir = dir, .dimension = DIM, .fingerprint = print, .in_process = true,
                                .replay = { on_record, s } };
    struct journal *j = journal_open(&c, f);
    if (!j) return false;
    *st = journal_state(j);
    /* as a kill: no close record */
    size_t n = sim_name[sim_find(name)].file->n;
    journal_close(j, 0, f);
    sim_resize(sim_name[sim_find(name)].file, n);
    return true;
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* Put right what `what` names, record by record as their lengths say. */
static void put_right(uint8_t *p, size_t n, uint8_t what)
{
    struct record_seal s = { .seq = 0 };
    if (n < JOURNAL_HEAD_BYTES) return;
    memcpy(s.file_id, p + 24, 16);
    for (size_t at = JOURNAL_HEAD_BYTES; at + 64 <= n;) {
        uint8_t *r = p + at;
        size_t len = (r[8] | (size_t)r[9] << 8) / 64 * 64;
        if (len > n - at - 64) len = (n - at - 64) / 64 * 64;
        if (what & 4) put32(r + 24, crc32c(0, r + 64, len));
        if (what & 8) {
            memcpy(r + 4, "REC1", 4);
            put32(r + 8, (uint32_t)len);
            uint64_t mark = 0;
            for (int i = 8; i-- > 0;) mark = mark << 8 | r[32 + i];
            s.watermark = mark;
            record_seal(r, &s);
        } else if (what & 2) {
            put32(r, crc32c(crc32c(0, s.file_id, 16), r + 4, 60));
        }
        at += 64 + len;
    }
}

static void write_log(const uint8_t *data, size_t size)
{
    struct journal_head h = { .major = 1, .dimension = DIM };
    size_t n = 0;
    uint8_t what = data[0];
    if (what & 1) {
        head_put(log_bytes, &h);
        n = JOURNAL_HEAD_BYTES;
    }
    memcpy(log_bytes + n, data + 1, size - 1);
    n += size - 1;
    put_right(log_bytes, n, what);
    sim_write(name, log_bytes, n);
}

#pragma clang attribute pop

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fault f = { 0 };
    struct seen once, twice;
    struct journal_state a, b;
    struct journal_report r = { 0 };
    char kept[64];
    if (!size || size > MOST) return 0;
    write_log(data, size);
    int whole = journal_check(dir, &r, &f);
    if (open_once(&once, &a, &f)) {
        if (whole != 0) abort();
        if (!open_once(&twice, &b, &f) || once.n != twice.n || once.hash != twice.hash || a.seq != b.seq)
            abort();
    } else if (f.exit != 65 || !f.why[0] || (!whole && strstr(f.why, "is damaged"))) {
        abort();
    } else if (journal_repair(dir, &r, kept, &f) >= 0 && whole == 1) {
        if (journal_check(dir, &r, &f) != 0) abort();
        if (!open_once(&once, &a, &f) && f.exit != 65) abort();
    }
    sim_clear();
    return 0;
}
