/* Lives that end in power cuts, kills, failed syncs and wrong bytes; each end is a
 * state that the next start must read rightly. crash STATES [SEED] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../journal_log.h"
#include "life.h"

static struct life life;
static struct { uint64_t states, cuts, kills, closes, rots, failed_syncs, full, nested, twice; } count;

static int die(const char *what, uint64_t seed, int round)
{
    printf("crash: VIOLATED in life %llu, round %d (%s): %s\n", (unsigned long long)seed, round, what,
           life.bad);
    return 1;
}

static uint64_t get_le(const uint8_t *p, int n)
{
    uint64_t v = 0;
    while (n--) v = v << 8 | p[n];
    return v;
}

/* A byte of a record that a later one calls durable; NULL when there is none. */
static uint8_t *witnessed_byte(void)
{
    size_t n, at = JOURNAL_HEAD_BYTES, end = at;
    uint8_t *p = mfs_file("memory.log", &n);
    while (p && at + 64 <= n && get_le(p + at + 16, 8) <= life.witnessed) {
        at += 64 + (size_t)get_le(p + at + 8, 4);
        end = at;
    }
    if (!p || end == JOURNAL_HEAD_BYTES || end >= n) return NULL;
    return p + JOURNAL_HEAD_BYTES + mfs_random((uint32_t)(end - JOURNAL_HEAD_BYTES));
}

/* The bit must be reported; then it is turned back. */
static void rot(void)
{
    struct fault f = { 0 };
    uint8_t *p = witnessed_byte();
    if (!p) return;
    count.rots++;
    *p ^= 0x10;
    mfs_kill();
    mfs_start();
    static struct life copy;
    copy = life;
    if (life_start(&copy, 0, 0, &f) == 0)
        snprintf(life.bad, sizeof life.bad, "a wrong byte in what was acknowledged passes");
    else if (f.exit != 65)
        snprintf(life.bad, sizeof life.bad, "a wrong byte gives exit %d: %.200s", f.exit, f.why);
    mfs_kill();
    *p ^= 0x10;
}

/* Open, and perhaps be cut off in the middle of that; then again. 0 or a violation. */
static int start(int64_t sync_ms, int at_least)
{
    static struct fault f;
    static int tries, least;
    least = at_least;
    for (tries = 0;; tries++) {
        mfs_start();
        mfs_crash_at = tries < 3 && mfs_random(4) == 0 ? (int)mfs_random(8) : -1;
        if (setjmp(mfs_crashed) == 0) {
            int r = life_start(&life, sync_ms, least, &f);
            mfs_crash_at = -1;
            if (r) snprintf(life.bad, sizeof life.bad, "does not start: %.200s", f.why);
            if (r || life.bad[0] || mfs_random(16)) return life.bad[0] != 0;
            count.twice++;
            mfs_kill(); /* twice is as once: all that was found is wanted again */
            least = 0;
            continue;
        }
        count.nested++;
        count.states++;
        mfs_power_cut();
        if (least > life.durable) least = life.durable;
    }
}

/* A session until it is cut off (true) or has ended by itself. */
static bool session(void)
{
    mfs_crash_at = mfs_random(8) ? (int)mfs_random(90) : -1;
    if (setjmp(mfs_crashed)) return true;
    int steps = (int)mfs_random(120);
    for (int i = 0; i < steps && !life.bad[0] && !life.over; i++) life_step(&life);
    return false;
}

/* Returns how many of the operations must be found again: after a kill all that was
 * written. */
static int end(bool cut)
{
    struct fault f;
    uint32_t how = mfs_random(10);
    mfs_crash_at = -1;
    mfs_faults.kind = -1;
    if (!cut && how < 3) {
        if (setjmp(mfs_crashed) == 0) life_close(&life, &f);
        count.closes++;
    }
    if (!cut && how < 6) {
        mfs_kill();
        rot();
        count.kills++;
        return life.written;
    }
    mfs_power_cut();
    count.cuts++;
    return life.durable;
}

static void trouble(void)
{
    mfs_faults.kind = -1;
    mfs_faults.capacity = mfs_random(4) ? 0 : mfs_used() + mfs_random(4000);
    if (mfs_random(5)) return;
    mfs_faults.kind = mfs_random(2) ? CALL_FDATASYNC : CALL_FSYNC;
    mfs_faults.k = mfs_calls[mfs_faults.kind] + (int)mfs_random(mfs_faults.kind == CALL_FSYNC ? 3 : 30);
    mfs_faults.forever = mfs_random(2);
    mfs_faults.error = 5; /* EIO */
    count.failed_syncs++;
}

/* One life. Returns 1 when something was violated. */
static int live(uint64_t seed)
{
    static const int64_t modes[] = { 0, 0, 0, 0, 40, -1 };
    mfs_seed = seed * 7919 + 1;
    mfs_reset();
    life_reset(&life, (uint32_t)seed);
    bool no_fallocate = mfs_random(2);
    mfs_faults = (struct modelfs_faults){ .kind = -1, .no_fallocate = no_fallocate };
    int least = 0;
    for (int round = 0; round < 12; round++) {
        if (start(modes[mfs_random(6)], least)) return die("start", seed, round);
        trouble();
        bool cut = session();
        if (mfs_faults.capacity && life.failures) count.full++;
        least = end(cut);
        if (life.bad[0]) return die(cut ? "cut" : "end", seed, round);
        mfs_faults = (struct modelfs_faults){ .kind = -1, .no_fallocate = no_fallocate };
        count.states++;
    }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t states = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    int bad = 0;
    while (count.states < states && !bad) bad = live(seed++);
    printf("crash: %llu states: %llu power cuts, %llu while starting, %llu kills, %llu clean stops, "
           "%llu wrong bytes, %llu failed syncs, %llu full disks, %llu opened twice: %s\n",
           (unsigned long long)count.states, (unsigned long long)count.cuts,
           (unsigned long long)count.nested, (unsigned long long)count.kills,
           (unsigned long long)count.closes, (unsigned long long)count.rots,
           (unsigned long long)count.failed_syncs, (unsigned long long)count.full,
           (unsigned long long)count.twice, bad ? "FAILED" : "all held");
    return bad;
}
