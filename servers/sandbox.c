#include "servers/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/net.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Landlock as its documentation in the kernel has it; headers of 2022 know less. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif
#define LL_VERSION   1u
#define LL_BENEATH   1
#define LL_READ      (1ull << 2 | 1ull << 3)               /* READ_FILE, READ_DIR */
struct ll_ruleset { uint64_t fs, net, scoped; };
struct ll_beneath { uint64_t access; int32_t fd; } __attribute__((packed));

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__i386__)
#define ARCH AUDIT_ARCH_I386
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__arm__)
#define ARCH AUDIT_ARCH_ARM
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__s390x__)
#define ARCH AUDIT_ARCH_S390X
#elif defined(__mips__) && defined(_ABIO32) && _MIPS_SIM == _ABIO32
#define ARCH (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? AUDIT_ARCH_MIPS : AUDIT_ARCH_MIPSEL)
#endif

/* Sanitizers and coverage need what the filters deny. */
#ifdef SANITIZED
enum { SANITIZERS = 1 };
#else
enum { SANITIZERS = 0 };
#endif

static char state[64] = "off";

const char *sandbox_state(void) { return state; }

/* System calls. One that another C library or processor has not is left out. */

static const int common[] = {
    SYS_read, SYS_close, SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk, SYS_exit_group,
    SYS_clock_gettime, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall, SYS_getrandom,
    SYS_write, SYS_pread64, SYS_lseek,
#ifdef SYS__llseek
    SYS__llseek,
#endif
#ifdef SYS_fstat
    SYS_fstat,
#endif
#ifdef SYS_newfstatat
    SYS_newfstatat,
#endif
#ifdef SYS_fstatat64
    SYS_fstatat64, SYS_fstat64,
#endif
#if defined SYS_statx && !defined SYS_newfstatat
    SYS_statx,
#endif
#ifdef SYS_poll
    SYS_poll,
#else
    SYS_ppoll,
#endif
#ifdef SYS_recvfrom
    SYS_recvfrom, SYS_sendto,
#endif
#ifdef SYS_recv
    SYS_recv, SYS_send,
#endif
#ifdef SYS_clock_gettime64
    SYS_clock_gettime64, SYS_ppoll_time64,
#endif
};

static const int loop_calls[] = {
    SYS_writev, SYS_readv, SYS_epoll_ctl, SYS_epoll_pwait,
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
#endif
#ifdef SYS_accept4
    SYS_accept4, SYS_shutdown, SYS_getsockname, SYS_setsockopt, SYS_sendmsg, SYS_recvmsg,
#endif
    SYS_fcntl, SYS_getrusage, SYS_wait4,
#ifdef SYS_stat                          /* musl's stat() where it is */
    SYS_stat,
#endif
#ifdef SYS_fcntl64
    SYS_fcntl64,
#endif
#ifdef SYS_stat64
    SYS_stat64,
#endif
};

/* Of the process that writes: the helper, or with --inline-sync the loop. */
static const int disk_calls[] = {
    SYS_pwrite64, SYS_pwritev, SYS_fdatasync, SYS_fsync, SYS_ftruncate, SYS_fallocate,
    SYS_unlinkat,
#ifdef SYS_renameat
    SYS_renameat,
#endif
#ifdef SYS_renameat2
    SYS_renameat2,
#endif
#ifdef SYS_ftruncate64
    SYS_ftruncate64,
#endif
};

#define MAX_FILTER 160

struct filter { struct sock_filter at[MAX_FILTER]; unsigned short n; };

static void put(struct filter *f, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    if (f->n < MAX_FILTER) f->at[f->n++] = (struct sock_filter){ code, yes, no, k };
}

#define LOAD(f, field) \
    put(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field), 0, 0)
#define RETURN(f, action) put(f, BPF_RET | BPF_K, action, 0, 0)

static void allow(struct filter *f, const int *calls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
        RETURN(f, SECCOMP_RET_ALLOW);
    }
}

/* Allowed when the low word of argument `arg` has none of these bits. */
static void allow_without(struct filter *f, int call, unsigned arg, uint32_t bits)
{
    uint32_t low = (uint32_t)(offsetof(struct seccomp_data, args) + 8 * arg);
    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) low += 4;
    put(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    put(f, BPF_LD | BPF_W | BPF_ABS, low, 0, 0);
    put(f, BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0);
    RETURN(f, SECCOMP_RET_ALLOW);
    RETURN(f, SECCOMP_RET_KILL_PROCESS);
}

#ifdef SYS_socketcall
/* Where one call stands for all of sockets: allowed to send and receive, and up to
 * `last`; never to make, bind or connect one. */
static void allow_talk(struct filter *f, uint32_t last)
{
    uint32_t low = (uint32_t)offsetof(struct seccomp_data, args) +
                   (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0);
    put(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_socketcall, 0, 6);
    put(f, BPF_LD | BPF_W | BPF_ABS, low, 0, 0);
    put(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_GETSOCKNAME, 2, 0);
    put(f, BPF_JMP | BPF_JGE | BPF_K, SYS_SEND, 0, 2);
    put(f, BPF_JMP | BPF_JGT | BPF_K, last, 1, 0);
    RETURN(f, SECCOMP_RET_ALLOW);
    RETURN(f, SECCOMP_RET_KILL_PROCESS);
}
#endif

static int seccomp(bool loop, bool disk)
{
#ifndef ARCH
    (void)loop, (void)disk;
    errno = ENOSYS;
    return -1;
#else
    static struct filter f;
    f.n = 0;
    LOAD(&f, arch);
    put(&f, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
    RETURN(&f, SECCOMP_RET_KILL_PROCESS);
    LOAD(&f, nr);
    allow(&f, common, sizeof common / sizeof *common);
    if (loop) allow(&f, loop_calls, sizeof loop_calls / sizeof *loop_calls);
    if (disk) allow(&f, disk_calls, sizeof disk_calls / sizeof *disk_calls);
#ifdef SYS_socketcall
    allow_talk(&f, loop ? SYS_ACCEPT4 : SYS_RECVFROM);
#endif
    /* Memory is never code; the loop opens files to read them only. */
#ifdef SYS_mmap2
    allow_without(&f, SYS_mmap2, 2, PROT_EXEC);
#else
    allow_without(&f, SYS_mmap, 2, PROT_EXEC);
#endif
    allow_without(&f, SYS_mprotect, 2, PROT_EXEC);
    uint32_t writing = disk ? 0 : O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;
    allow_without(&f, SYS_openat, 2, writing);
#ifdef SYS_open                          /* musl's open() where it is */
    if (loop) allow_without(&f, SYS_open, 1, writing);
#endif
    RETURN(&f, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog prog = { f.n, f.at };
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
#endif
}

/* Landlock. */

static int landlock_version(void)
{
    long v = syscall(SYS_landlock_create_ruleset, NULL, 0, LL_VERSION);
    return v < 0 ? 0 : (int)v;
}

/* All rights on files that this version knows. */
static uint64_t all_rights(int version)
{
    unsigned bits = version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13;
    return (1ull << bits) - 1;
}

static void allow_path(int ruleset, const char *path, uint64_t access)
{
    int fd = path && *path ? open(path, O_PATH | O_CLOEXEC) : -1;
    if (fd < 0) return;                  /* what is not there need not be reached */
    struct ll_beneath rule = { access, fd };
    syscall(SYS_landlock_add_rule, ruleset, LL_BENEATH, &rule, 0);
    close(fd);
}

/* The directory that a file lies in: it may be replaced by another of its name. */
static void allow_parent(int ruleset, const char *file)
{
    char dir[4096];
    if (!file || strlen(file) >= sizeof dir) return;
    strcpy(dir, file);
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    allow_path(ruleset, slash ? dir : ".", LL_READ);
}

/* A file that is read again. It may be a link elsewhere, as in Hugging Face's cache. */
static void allow_file(int ruleset, const char *file)
{
    char real[PATH_MAX];
    allow_parent(ruleset, file);
    if (file && realpath(file, real)) allow_parent(ruleset, real);
}

static void allow_adapter(int ruleset, const char *dir)
{
    static const char *const files[] = { "adapter_config.json", "adapter_model.safetensors" };
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        allow_file(ruleset, path);
    }
}

static int landlock(const struct options *o, bool loop, bool disk)
{
    int version = landlock_version();
    if (!version) return -1;
    struct ll_ruleset rs = { .fs = all_rights(version), .net = version >= 4 ? 3 : 0,
                             .scoped = version >= 6 ? 3 : 0 };
    size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    int fd = (int)syscall(SYS_landlock_create_ruleset, &rs, size, 0);
    if (fd < 0) return -1;
    if (disk) allow_path(fd, o->data, rs.fs);
    if (loop) {
        if (strcmp(o->model, "builtin")) allow_path(fd, o->model, LL_READ);
        for (int64_t i = 0; i < o->adapters.n; i++) {
            const char *eq = strchr(o->adapters.v[i], '=');
            if (eq) allow_adapter(fd, eq + 1);
        }
        allow_path(fd, o->adapter_dir, LL_READ);
        allow_file(fd, o->token_file);
        allow_file(fd, o->config);
    }
    int bad = (int)syscall(SYS_landlock_restrict_self, fd, 0);
    close(fd);
    return bad;
}

static int enter(const struct options *o, bool loop, bool disk, struct fault *f)
{
    struct rlimit none = { 0, 0 };
    if (o->no_sandbox) return 0;
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return o->require_sandbox ? fault_set(f, 71, "no sandbox: no_new_privs: %s",
                                              strerror(errno)) : 0;
    if (SANITIZERS) return 0;
    bool ll = !landlock(o, loop, disk);
    if (!ll && o->require_sandbox)
        return fault_set(f, 71, "no sandbox: this kernel offers no Landlock; "
                         "leave --require-sandbox away to do without");
    /* stats tells what is on; it must be written before the filter is. */
    snprintf(state, sizeof state, "%s", ll ? "seccomp+landlock" : "seccomp");
    if (!seccomp(loop, disk)) return 0;
    snprintf(state, sizeof state, "%s", ll ? "landlock" : "off");
    return o->require_sandbox ? fault_set(f, 71, "no sandbox: seccomp: %s; leave "
                                          "--require-sandbox away to do without",
                                          strerror(errno)) : 0;
}

int sandbox_enter(const struct options *o, struct fault *f)
{
    return enter(o, true, o->inline_sync, f);
}

void sandbox_enter_helper(void *user)
{
    struct fault f;
    if (enter(user, false, true, &f)) _exit(f.exit);
}

const char *sandbox_offered(void)
{
    static char s[64];
    int v = landlock_version();
    bool filters = !prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
    snprintf(s, sizeof s, "seccomp %s, Landlock %s%.0d", filters ? "yes" : "no",
             v ? "version " : "no", v);
    return s;
}
