/* --sandbox-selftest: what must be denied is tried, each in a process of its own. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "servers/sandbox.h"

/* Each gives what the system call gave: not negative when it was let through. */
static long try_execve(void)     { char *a[] = { NULL }; return execve("/bin/true", a, a); }
static long try_fork(void)       { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static long try_inet(void)       { return socket(AF_INET, SOCK_STREAM, 0); }
static long try_unix(void)       { return socket(AF_UNIX, SOCK_STREAM, 0); }
static long try_packet(void)     { return socket(AF_INET, SOCK_RAW, 1); }
static long try_ptrace(void)     { return ptrace(PTRACE_TRACEME, 0, 0, 0); }
static long try_kill(void)       { return kill(getppid(), 0); }
static long try_passwd(void)     { return open("/etc/passwd", O_RDONLY); }
static long try_environ(void)    { return open("/proc/1/environ", O_RDONLY); }
static long try_create(void)     { return open("/tmp/recalld-selftest", O_WRONLY | O_CREAT, 0600); }
static long try_truncate(void)   { return truncate("/tmp/recalld-selftest", 0); }
static long try_unlink(void)     { return unlink("/tmp/recalld-selftest"); }
static long try_rename(void)
{
    return rename("/tmp/recalld-selftest", "/tmp/recalld-selftest2");
}
static long try_mkdir(void)      { return mkdir("/tmp/recalld-selftest", 0700); }
static long try_symlink(void)    { return symlink("/etc", "/tmp/recalld-selftest"); }
static long try_chmod(void)      { return chmod("/tmp", 01777); }
static long try_chown(void)      { return chown("/tmp", 0, 0); }
static long try_chdir(void)      { return chdir("/"); }
static long try_chroot(void)     { return chroot("/"); }
static long try_mount(void)      { return mount("none", "/tmp", "tmpfs", 0, NULL); }
static long try_setuid(void)     { return setuid(getuid()); }
static long try_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -1 : 0;
}
static long try_recode(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(p, 4096, PROT_READ | PROT_EXEC);
}
static long try_memfd(void)      { return syscall(SYS_memfd_create, "x", 0); }
static long try_ioctl(void)      { return syscall(SYS_ioctl, 0, 0x5412, "x"); }   /* TIOCSTI */
static long try_bpf(void)        { return syscall(SYS_bpf, 0, NULL, 0); }
static long try_perf(void)       { return syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0); }
static long try_keys(void)       { return syscall(SYS_keyctl, 0, 0, 0, 0, 0); }
static long try_peek(void)
{
    return syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
}
static long try_privilege(void)  { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }

static const struct { const char *what; long (*run)(void); } attempts[] = {
    { "run another program", try_execve }, { "fork", try_fork },
    { "open a TCP socket", try_inet }, { "open a Unix socket", try_unix },
    { "open a raw socket", try_packet }, { "ptrace", try_ptrace },
    { "signal another process", try_kill }, { "read /etc/passwd", try_passwd },
    { "read another process's environment", try_environ }, { "create a file", try_create },
    { "truncate a file", try_truncate }, { "delete a file", try_unlink },
    { "rename a file", try_rename }, { "make a directory", try_mkdir },
    { "make a link", try_symlink }, { "change a mode", try_chmod },
    { "change an owner", try_chown }, { "change the directory", try_chdir },
    { "chroot", try_chroot }, { "mount", try_mount }, { "change the user", try_setuid },
    { "map executable memory", try_code }, { "make memory executable", try_recode },
    { "make an anonymous file", try_memfd }, { "type into a terminal", try_ioctl },
    { "load BPF", try_bpf }, { "open performance counters", try_perf },
    { "read kernel keys", try_keys }, { "read another process's memory", try_peek },
    { "become dumpable again", try_privilege },
};

/* How one attempt ended: 0 denied, 1 let through, 2 no sandbox. */
static int attempt(const struct options *o, long (*run)(void), const char **how)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        struct fault f;
        if (sandbox_enter(o, &f) || !strcmp(sandbox_state(), "off")) _exit(2);
        errno = 0;
        long r = run();
        _exit(r >= 0 ? 1 : errno == EACCES || errno == EPERM ? 0 : 1);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return 1;
    *how = WIFSIGNALED(status) ? "killed" : "refused";
    if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGSYS ? 0 : 1;
    return WEXITSTATUS(status);
}

int sandbox_selftest(const struct options *given)
{
    struct options o = *given;
    int denied = 0, through = 0, n = (int)(sizeof attempts / sizeof *attempts);
    o.require_sandbox = o.no_sandbox = false;
    for (int i = 0; i < n; i++) {
        const char *how = "";
        int r = attempt(&o, attempts[i].run, &how);
        if (r == 2) {
            fputs("recalld: there is no sandbox here: neither seccomp nor Landlock\n", stderr);
            return 71;
        }
        printf("%-40s %s\n", attempts[i].what, r ? "LET THROUGH" : how);
        if (r) through++;
        else denied++;
    }
    printf("%d denied, %d let through\n", denied, through);
    return through ? 71 : 0;
}
