/* Real power cuts: ext4 on a loop device, shut down under the journal's feet
 * (EXT4_IOC_SHUTDOWN without flushing its own log), mounted again and read.
 *
 * A process stores through the real helper and tells each number that it was told to
 * be on disk; only what was read from it before the cut counts. With `control` it
 * runs without sync and tells what is written, until that has lost something.
 *
 * powercut CUTS [control] [SEED]. Needs root and a loop device; without, it says so
 * and exits 0. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>

#include "../journal_dir.h"
#include "../journal_log.h"
#include "../journal_model.h"

#define SHUTDOWN _IOR('X', 125, uint32_t) /* EXT4_IOC_SHUTDOWN */
#define NO_LOG_FLUSH 2u
#define OPS 3000

static char work[64], image[96], at[96], data[128];
static bool control;

static int command(const char *fmt, const char *a, const char *b)
{
    char line[400];
    snprintf(line, sizeof line, fmt, a, b);
    return system(line);
}

/* What the storing process tells: how many of its operations are safe. */
struct teller { int fd; uint64_t seq[OPS + 1]; int sent; };

static void tell(void *user, uint64_t seq)
{
    struct teller *t = user;
    int n = 0;
    while (n < t->sent && t->seq[n + 1] <= seq) n++;
    if (write(t->fd, &n, sizeof n) != sizeof n) _exit(1);
}

static void ignore(void *user, uint64_t seq) { (void)user, (void)seq; }

/* Store until killed. */
static void store(uint32_t seed, int fd)
{
    static struct model s;
    static struct teller t;
    struct fault f;
    struct journal_config c = model_config(&s, data);
    t.fd = fd;
    c.in_process = seed % 4 == 3;
    c.sync_ms = control ? JOURNAL_SYNC_NEVER : JOURNAL_SYNC_ALWAYS;
    c.events = (struct journal_events){ control ? tell : ignore, control ? ignore : tell, NULL, NULL, &t };
    struct journal *j = journal_open(&c, &f);
    if (!j) _exit(2);
    for (uint32_t k = 0; k < OPS; k++) {
        struct item i;
        enum memory_change kind = model_op(&s, seed, k, &i);
        struct item *row = kind == MEMORY_DELETE ? model_find(&s, i.m.id) : NULL;
        if (row && row->flagged && journal_compacting(j)) {
            row->flagged = false;
            journal_compact_keep(j, &row->m);
        }
        if (journal_append(j, kind, &i.m, &t.seq[t.sent + 1]) < 0) _exit(3);
        t.sent++;
        model_apply(&s, kind, &i);
        if (roll(seed, k + 1) % 64 == 0 && !journal_compacting(j)) {
            struct journal_living living = model_flag(&s);
            journal_compact_begin(j, &living);
        }
        journal_ready(j, k);
        journal_compact_step(j, k);
        journal_flush(j, k);
        if (roll(seed, k) % 3) journal_wait(j, k);
    }
    pause();
}

/* Let it store for a while, cut; returns what it told before. */
static int cut(uint32_t seed, int mount_fd)
{
    int pipes[2], told = 0, n;
    if (pipe(pipes) < 0) exit(71);
    pid_t pid = fork();
    if (pid == 0) {
        close(pipes[0]);
        store(seed, pipes[1]);
    }
    close(pipes[1]);
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    int64_t us = (int64_t)(roll(seed, 0xfffff) % 25000);
    end.tv_nsec += us * 1000;
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t left = (end.tv_sec - now.tv_sec) * 1000 + (end.tv_nsec - now.tv_nsec) / 1000000;
        struct pollfd p = { .fd = pipes[0], .events = POLLIN };
        if (left < 0 || poll(&p, 1, (int)left + 1) <= 0) break;
        if (read(pipes[0], &n, sizeof n) != sizeof n) break;
        told = n;
    }
    uint32_t how = NO_LOG_FLUSH;
    if (ioctl(mount_fd, SHUTDOWN, &how) < 0) {
        perror("powercut: shutdown");
        exit(71);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(pipes[0]);
    return told;
}

static struct model base, got;

/* Which of the states since `base` was recovered; -1: none of them. */
static int recovered(uint32_t seed)
{
    static struct model s;
    uint64_t want = model_digest(&got);
    s = base;
    for (int i = 0; i < s.n; i++) model_refit(&s.items[i]);
    int found = -1;
    for (uint32_t k = 0; k <= OPS; k++) {
        if (model_digest(&s) == want) found = (int)k;
        struct item i;
        enum memory_change kind = model_op(&s, seed, k, &i);
        model_apply(&s, kind, &i);
    }
    return found;
}

static int verify(uint32_t seed, int told)
{
    struct fault f = { 0 };
    memset(&got, 0, sizeof got);
    struct journal_config c = model_config(&got, data);
    struct journal *j = journal_open(&c, &f);
    if (!j) {
        printf("powercut: cut %u: does not start: %s\n", seed, f.why);
        return 1;
    }
    int k = recovered(seed);
    base = got;
    for (int i = 0; i < base.n; i++) {
        model_refit(&base.items[i]);
        base.items[i].flagged = false;
    }
    base.next = 0;
    journal_close(j, 0, &f);
    if (k >= told && !got.unknown) return 0;
    if (!control) printf("powercut: cut %u: VIOLATED: %d recovered, %d told\n", seed, k, told);
    return 1;
}

static int skip(const char *why)
{
    printf("powercut: skipped: %s\n", why);
    remove_all(work);
    return 0;
}

int main(int argc, char **argv)
{
    uint32_t cuts = argc > 1 ? (uint32_t)atoi(argv[1]) : 50, seed = 1;
    control = argc > 2 && !strcmp(argv[2], "control");
    if (argc > 3) seed = (uint32_t)atoi(argv[3]);
    if (geteuid() != 0) return skip("not root");
    if (!temporary(work)) return 71;
    snprintf(image, sizeof image, "%s/image", work);
    snprintf(at, sizeof at, "%s/mnt", work);
    snprintf(data, sizeof data, "%s/d", at);
    mkdir(at, 0700);
    if (command("truncate -s 24M %s && mkfs.ext4 -q -F -J size=4 %s 2>/dev/null", image, image)) return skip("no mkfs.ext4");
    if (command("mount -o loop %s %s 2>/dev/null", image, at)) return skip("may not mount");
    int bad = 0;
    uint64_t told_all = 0;
    uint32_t done = 0;
    for (uint32_t i = seed; i < seed + cuts && !bad; i++) {
        int fd = open(at, O_RDONLY | O_DIRECTORY);
        int told = cut(i, fd);
        told_all += (uint64_t)told;
        close(fd);
        while (command("umount %s 2>/dev/null%s", at, "")) usleep(10000); /* the helper may hold it still */
        if (command("mount -o loop %s %s", image, at)) return skip("cannot mount again");
        bad += verify(i, told);
        done++;
    }
    printf("powercut: %u cuts%s, %llu operations told, %d violations: %s\n", done,
           control ? " without sync" : "", (unsigned long long)told_all, bad,
           control ? bad ? "lost, as it must" : "FAILED: nothing was lost" : bad ? "FAILED" : "all held");
    command("umount %s%s", at, "");
    rmdir(at);
    remove_all(work);
    return control ? !bad : bad != 0;
}
