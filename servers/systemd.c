#include "servers/systemd.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3   /* SD_LISTEN_FDS_START */

static int     socket_fd = -1;
static int64_t watchdog_ms;

void systemd_open(void)
{
    const char *path = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    if (usec && (!pid || atol(pid) == (long)getpid())) watchdog_ms = atoll(usec) / 2000;
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof a.sun_path || (*path != '/' && *path != '@')) return;
    memcpy(a.sun_path, path, n);
    if (*path == '@') a.sun_path[0] = 0;     /* the abstract namespace */
    socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (socket_fd >= 0 && connect(socket_fd, (struct sockaddr *)&a, len)) {
        close(socket_fd);
        socket_fd = -1;
    }
}

void systemd_notify(const char *state)
{
    if (socket_fd >= 0) (void)!send(socket_fd, state, strlen(state), MSG_NOSIGNAL);
}

int64_t systemd_watchdog_ms(void) { return watchdog_ms; }

int systemd_socket(const char *name, int skip)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    if (!pid || !fds || !names || atol(pid) != (long)getpid()) return -1;
    for (int i = 0; i < atoi(fds); i++) {
        size_t len = strcspn(names, ":");
        if (len == strlen(name) && !strncmp(names, name, len) && skip-- == 0) {
            fcntl(FIRST_FD + i, F_SETFD, FD_CLOEXEC);
            return FIRST_FD + i;
        }
        if (!names[len]) break;
        names += len + 1;
    }
    return -1;
}
