/* The k-th call of every kind fails, or falls short, once or for ever: what was
 * acknowledged is there afterwards, nothing leaks, nobody crashes.
 * faults SEEDS [FIRST-SEED] */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../crash/life.h"
#include "../journal_log.h"

#define STEPS 45

static struct life life;
static uint64_t runs, hit_runs, refused_starts, failed_batches, stopped;

static const struct { int kind, error; } plans[] = {
    { CALL_OPEN, EMFILE }, { CALL_OPEN, ENOSPC }, { CALL_PREAD, EIO }, { CALL_PREAD, EINTR },
    { CALL_PREAD, 0 }, { CALL_PWRITE, EIO }, { CALL_PWRITE, ENOSPC }, { CALL_PWRITE, EINTR },
    { CALL_PWRITE, 0 }, { CALL_FDATASYNC, EIO }, { CALL_FDATASYNC, ENOSPC }, { CALL_FSYNC, EIO },
    { CALL_RENAME, EIO }, { CALL_FTRUNCATE, EIO }, { CALL_FALLOCATE, ENOSPC }, { CALL_FALLOCATE, EIO },
    { CALL_FALLOCATE, EINTR }, { CALL_FALLOCATE, EOPNOTSUPP }, { CALL_UNLINK, EIO }, { CALL_LINK, EPERM },
    { CALL_FSTAT, EIO }, { CALL_MKDIR, EACCES }, { CALL_FLOCK, EWOULDBLOCK }, { CALL_FLOCK, EIO },
    { CALL_FLOCK, EINTR }, { CALL_GETRANDOM, ENOSYS }, { CALL_MALLOC, ENOMEM }, { CALL_MMAP, ENOMEM },
};
#define PLANS (sizeof plans / sizeof *plans)

struct run {
    uint64_t seed;
    size_t   plan;
    int      k;
    bool     forever;
};

static int bad(const struct run *r, const char *what)
{
    printf("faults: VIOLATED: seed %llu, %s fails with %s at call %d %s: %s: %s\n",
           (unsigned long long)r->seed, call_names[plans[r->plan].kind],
           plans[r->plan].error ? strerror(plans[r->plan].error) : "less than asked", r->k,
           r->forever ? "and after" : "once", what, life.bad);
    return 1;
}

/* A start that is refused says why, with an exit status that fits. */
static bool explained(const struct fault *f)
{
    return (f->exit == 71 || f->exit == 74 || f->exit == 75) && f->why[0];
}

/* What a program goes on after as if nothing had been. */
static bool harmless(const struct run *r)
{
    int error = plans[r->plan].error;
    return error == 0 || error == EINTR || error == EOPNOTSUPP;
}

static void set_faults(const struct run *r)
{
    mfs_faults = (struct modelfs_faults){ .kind = r ? plans[r->plan].kind : -1 };
    if (!r) return;
    mfs_faults.k = r->k;
    mfs_faults.forever = r->forever;
    mfs_faults.error = plans[r->plan].error;
}

/* A session that is cut off by the power, which leaves torn tails. */
static void cut_off(void)
{
    mfs_crash_at = 20 + (int)mfs_random(60);
    if (setjmp(mfs_crashed) == 0)
        for (;;) life_step(&life);
    mfs_crash_at = -1;
    mfs_power_cut();
}

/* A first session in peace, so that there is something to open. Returns how many of its
 * operations must be found, or -1. */
static int prepare(uint64_t seed)
{
    struct fault f;
    mfs_seed = seed * 104729 + 3;
    mfs_reset();
    life_reset(&life, (uint32_t)seed);
    set_faults(NULL);
    if (seed % 4 == 0) return 0; /* or that nothing is there yet */
    mfs_start();
    if (life_start(&life, 0, 0, &f)) return -1;
    if (seed % 4 == 2) {
        cut_off();
        return life.durable;
    }
    for (int i = 0; i < 25; i++) life_step(&life);
    if (seed % 4 == 1) return life_close(&life, &f) ? -1 : life.durable;
    mfs_kill();
    return life.written;
}

/* One session under a plan (NULL: in peace), then a start in peace. */
static int session(const struct run *r, uint64_t seed)
{
    static const struct run peace;
    static const int64_t modes[] = { 0, 0, 40, -1 };
    const struct run *say = r ? r : &peace;
    struct fault f = { 0 };
    int least = prepare(seed);
    if (least < 0) return bad(say, "cannot prepare");
    mfs_start();
    set_faults(r);
    int refused = life_start(&life, modes[seed / 4 % 4], least, &f);
    for (int i = 0; i < STEPS && !refused; i++) life_step(&life);
    int before = life.failures;
    int closed = refused ? 0 : life_close(&life, &f);
    runs++;
    hit_runs += mfs_faults.hits > 0;
    refused_starts += refused != 0;
    failed_batches += before > 0;
    stopped += life.stopped;
    if (mfs_leaks) return bad(say, "leaks");
    if (refused && (!mfs_faults.hits || !explained(&f))) {
        snprintf(life.bad, sizeof life.bad, "exit %d: %.200s", f.exit, f.why);
        return bad(say, "start refused");
    }
    if (closed && (!mfs_faults.hits || !life.stopped)) return bad(say, "close failed");
    if (r && harmless(r) && (refused || closed || before || life.stopped))
        return bad(say, "is not tried again");
    bool stopping = life.stopped;
    set_faults(NULL);
    if (seed & 8) mfs_power_cut();
    else mfs_kill();
    if (!refused) least = seed & 8 || stopping ? life.durable : life.written;
    if (refused && seed & 8) least = life.durable;
    mfs_start();
    if (life_start(&life, 0, least, &f)) {
        snprintf(life.bad, sizeof life.bad, "%.200s", f.why);
        return bad(say, "does not start afterwards");
    }
    if (life_close(&life, &f) || mfs_leaks) return bad(say, "does not close afterwards");
    return life.bad[0] ? bad(say, "afterwards") : 0;
}

/* Wrong bytes are found and mended, whatever fails while that is done. */
static int mending(const struct run *r, uint64_t seed)
{
    static const struct run peace;
    const struct run *say = r ? r : &peace;
    struct journal_report report = { 0 };
    struct fault f = { 0 };
    char kept[64];
    size_t n;
    if (prepare(seed | 1) < 0) return bad(say, "cannot prepare");
    uint8_t *p = mfs_file("memory.log", &n);
    size_t at = JOURNAL_HEAD_BYTES + 64 + mfs_random(64);
    if (seed % 3 == 0) at = 30; /* the first header */
    if (n < JOURNAL_HEAD_BYTES + 1024) return 0;
    p[at] ^= 4;
    mfs_start();
    set_faults(r);
    int checked = journal_check("/d", &report, &f);
    if (mfs_leaks) return bad(say, "check leaks");
    if (checked == 0 || (checked < 0 && (!mfs_faults.hits || !explained(&f))))
        return bad(say, "check says nothing");
    int mended = journal_repair("/d", &report, kept, &f);
    runs++;
    hit_runs += mfs_faults.hits > 0;
    if (mfs_leaks) return bad(say, "repair leaks");
    if (mended == 0 || (mended < 0 && (!mfs_faults.hits || harmless(say)))) return bad(say, "repair does nothing");
    set_faults(NULL);
    if (seed & 8) mfs_power_cut();
    else mfs_kill();
    mfs_start();
    if (journal_repair("/d", &report, kept, &f) < 0) return bad(say, "repair does not go on");
    if (journal_check("/d", &report, &f) != 0) return bad(say, "still damaged");
    life.durable_seq = 0;
    life.bad[0] = '\0';
    if (life_start(&life, 0, 0, &f)) return bad(say, "does not start after a repair");
    life.bad[0] = '\0'; /* what is left is no state of before: its damage was reported */
    return life_close(&life, &f) || mfs_leaks ? bad(say, "does not close after a repair") : 0;
}

/* Every call of every kind that the session makes in peace. */
static int all_of(int (*what)(const struct run *, uint64_t), uint64_t seed)
{
    if (what(NULL, seed)) return 1;
    for (size_t p = 0; p < PLANS; p++)
        for (int forever = 0; forever < 2; forever++) {
            if (forever && (plans[p].error == EINTR || !plans[p].error)) continue;
            for (int k = 0;; k++) {
                struct run r = { seed, p, k, forever };
                uint64_t before = hit_runs;
                if (what(&r, seed)) return 1;
                if (hit_runs == before) break; /* there is no k-th call */
            }
        }
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t seeds = argc > 1 ? strtoull(argv[1], NULL, 10) : 2;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    int failed = 0;
    for (uint64_t s = first; s < first + seeds && !failed; s++)
        failed = all_of(session, s) || all_of(mending, s);
    printf("faults: %llu runs, %llu with a failed call: %llu starts refused, %llu sessions with "
           "failed batches, %llu stopped: %s\n", (unsigned long long)runs,
           (unsigned long long)hit_runs, (unsigned long long)refused_starts,
           (unsigned long long)failed_batches, (unsigned long long)stopped,
           failed ? "FAILED" : "all held");
    return failed;
}
