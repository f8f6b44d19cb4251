/* A disk whose syncs take SLOW_SYNC_MS: put before libc's calls with LD_PRELOAD.
 * It waits with poll(), which the sandbox lets through. */
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ms;

__attribute__((constructor)) static void read_it(void)
{
    const char *v = getenv("SLOW_SYNC_MS");
    ms = v ? atoi(v) : 0;
}

static int slow(long call, int fd)
{
    poll(NULL, 0, ms);
    return (int)syscall(call, fd);
}

int fdatasync(int fd) { return slow(SYS_fdatasync, fd); }
int fsync(int fd) { return slow(SYS_fsync, fd); }
