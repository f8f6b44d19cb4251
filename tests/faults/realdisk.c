/* A real disk that is full, and one whose sync fails: ext4 on a loop device, the second
 * on a sparse image in a tmpfs that is too small for it. Needs root and a loop device;
 * without, it says so and exits 0. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>

#include "../journal_dir.h"
#include "../journal_log.h"
#include "servers/memory/journal.h"

#define DIM 8
#define MOST 20000

static char work[64], data[128];
static int  bad;

/* What is there, by number of the memory; and what the journal told. */
static struct state {
    bool     there[MOST];
    uint64_t n, durable, failed_from;
    int      full, stopped;
} now, told, got;

static void expect(bool good, const char *what, bool inlined)
{
    if (!good) printf("realdisk: FAILED: %s (%s)\n", what, inlined ? "inline" : "helper");
    bad += !good;
}

static uint32_t number_of(const uint8_t *id) { return (uint32_t)id[0] | (uint32_t)id[1] << 8; }

static bool on_record(void *user, enum memory_change what, const struct memory *m)
{
    (void)user;
    bool put = what == MEMORY_PUT, known = got.there[number_of(m->id)];
    got.there[number_of(m->id)] = put;
    if (put) got.n++;
    else got.n -= known;
    return put || known;
}

static void on_durable(void *user, uint64_t seq) { (void)user, told.durable = seq; }

static void on_failed(void *user, uint64_t from, bool full, const char *why)
{
    (void)user, (void)why;
    told.failed_from = from;
    if (full) told.full++;
    else told.stopped++;
}

static struct journal *start(bool inlined)
{
    static const uint8_t print[32];
    struct fault f = { 0 };
    struct journal_config c = { .dir = data, .dimension = DIM, .fingerprint = print, .in_process = inlined,
                                .replay = { on_record, NULL },
                                .events = { NULL, on_durable, on_failed, NULL, NULL } };
    memset(&got, 0, sizeof got);
    memset(&told, 0, sizeof told);
    struct journal *j = journal_open(&c, &f);
    if (!j) printf("realdisk: %s\n", f.why);
    return j;
}

/* Store or delete number k and wait; true when it is on disk. */
static bool change(struct journal *j, enum memory_change kind, uint32_t k)
{
    static char text[6000];
    struct memory m = { .id = { (uint8_t)k, (uint8_t)(k >> 8) }, .vector = (float[DIM]){ 1 },
                        .text = { text, sizeof text }, .metadata = { "{}", 2 }, .tags = { "[]", 2 } };
    uint64_t seq;
    memset(text, 'a' + (int)(k % 26), sizeof text);
    if (journal_append(j, kind, &m, &seq) < 0) return false;
    journal_wait(j, 0);
    if (told.durable < seq || (told.failed_from && told.failed_from <= seq)) {
        told.failed_from = 0;
        return false;
    }
    now.there[k] = kind == MEMORY_PUT;
    now.n += kind == MEMORY_PUT ? 1 : (uint64_t)-1;
    return true;
}

static void same(const char *what, bool inlined)
{
    expect(got.n == now.n && !memcmp(got.there, now.there, sizeof now.there), what, inlined);
}

static int run(const char *fmt, ...)
{
    char line[500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    return system(line);
}

/* Until no more fits; then deletes go on, also after another start, and stores again
 * once there is room. */
static void full_disk(bool inlined)
{
    struct fault f;
    memset(&now, 0, sizeof now);
    if (run("truncate -s 12M %s/image && mkfs.ext4 -q -F -m 0 %s/image 2>/dev/null && mkdir -p %s/mnt && "
            "mount -o loop %s/image %s/mnt 2>/dev/null && head -c 1M /dev/zero > %s/mnt/filler", work, work,
            work, work, work, work))
        return;
    struct journal *j = start(inlined);
    uint32_t k = 0;
    while (k < MOST && change(j, MEMORY_PUT, k)) k++;
    expect(told.full == 1 && !told.stopped && k > 100, "a full disk refuses a store", inlined);
    expect(!change(j, MEMORY_PUT, k) && told.full == 2, "and the next", inlined);
    int deletes = 0;
    for (uint32_t i = 0; i < 300; i++) deletes += change(j, MEMORY_DELETE, i);
    expect(deletes == 300, "deletes use the reserve", inlined);
    expect(journal_close(j, 0, &f) == 0, "and so does a clean stop", inlined);
    j = start(inlined);
    same("what was stored is there, what was refused is not", inlined);
    deletes = 0;
    for (uint32_t i = 300; i < 400; i++) deletes += change(j, MEMORY_DELETE, i);
    expect(deletes == 100, "deletes after another start", inlined);
    run("rm %s/mnt/filler", work);
    expect(change(j, MEMORY_PUT, k), "stores work again once there is room", inlined);
    expect(journal_close(j, 0, &f) == 0, "a clean stop", inlined);
    j = start(inlined);
    same("all of it is there", inlined);
    journal_close(j, 0, &f);
    run("umount %s/mnt", work);
    printf("realdisk: full at %u, 400 deletes, room again (%s)\n", k, inlined ? "inline" : "helper");
}

/* Writes go well and the sync does not: that is the end of writing, and all that was
 * told to be on disk is there once the disk has room; but for the last, perhaps: the
 * loop device calls a write whole of which the tmpfs took only a part. */
static void failing_sync(bool inlined)
{
    struct fault f;
    memset(&now, 0, sizeof now);
    if (run("mkdir -p %s/small && mount -t tmpfs -o size=8M none %s/small && truncate -s 64M %s/small/image && "
            "mkfs.ext4 -q -F -J size=1 %s/small/image 2>/dev/null && mount -o loop,nodiscard %s/small/image %s/mnt",
            work, work, work, work, work, work))
        return;
    struct journal *j = start(inlined);
    uint32_t k = 0;
    while (k < MOST && change(j, MEMORY_PUT, k)) k++;
    expect(told.stopped == 1, "a failed sync ends the writing", inlined);
    expect(!change(j, MEMORY_PUT, k) && told.stopped == 1, "for good", inlined);
    expect(journal_close(j, 0, &f) < 0 && f.exit == 74, "and no clean stop", inlined);
    run("umount %s/mnt; mount -o remount,size=100M none %s/small && mount -o loop %s/small/image %s/mnt", work,
        work, work, work);
    j = start(inlined);
    expect(j != NULL, "it starts again", inlined);
    uint32_t found = 0;
    while (found < k && got.there[found]) found++;
    expect(found + 1 >= k && got.n <= k + 1, "all that was told to be on disk is there", inlined);
    if (j) expect(change(j, MEMORY_PUT, k + 1), "and stores work", inlined);
    if (j) journal_close(j, 0, &f);
    run("umount %s/mnt; umount %s/small", work, work);
    printf("realdisk: sync failed after %u, %u of them found (%s)\n", k, found, inlined ? "inline" : "helper");
}

int main(void)
{
    if (geteuid() != 0 || !temporary(work)) {
        puts("realdisk: skipped: not root");
        return 0;
    }
    snprintf(data, sizeof data, "%s/mnt/d", work);
    setvbuf(stdout, NULL, _IOLBF, 0);
    run("mkdir -p %s/mnt", work);
    if (run("truncate -s 12M %s/image && mkfs.ext4 -q -F %s/image 2>/dev/null && mount -o loop %s/image %s/mnt 2>/dev/null"
            " && umount %s/mnt", work, work, work, work, work)) {
        puts("realdisk: skipped: may not mount");
        bad = 0;
    } else {
        for (int inlined = 0; inlined < 2; inlined++) {
            full_disk(inlined);
            failing_sync(inlined);
        }
        puts(bad ? "realdisk: FAILED" : "realdisk: all held");
    }
    run("rm -rf --one-file-system %s", work);
    return bad != 0;
}
