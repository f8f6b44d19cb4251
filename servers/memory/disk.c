#include "servers/memory/disk.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "servers/memory/disk_work.h"

struct disk {
    struct disk_work   work;
    uint8_t           *shared;  /* [DISK_AREAS * DISK_AREA_BYTES] */
    pid_t              helper;  /* 0: inline */
    int                sock;    /* to the helper, -1: inline or gone */
    int                owed;    /* answers outstanding */
    int                first;   /* inline: the oldest of them */
    struct disk_answer answers[DISK_ORDERS];
};

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Every descriptor but stderr and our own: clients' sockets must not live on in
 * here. Started early, so the low numbers are all there are. */
static void close_others(const struct disk *d)
{
    for (int fd = 0; fd < 1024; fd++)
        if (fd != 2 && fd != d->sock && fd != d->work.dir && fd != d->work.lock &&
            fd != d->work.log)
            close(fd);
}

/* The helper: ends when we do, not when a terminal or an impatient hand says so. */
static void serve(struct disk *d, const struct disk_files *files)
{
    static const int deaf[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE };
    for (size_t i = 0; i < sizeof deaf / sizeof *deaf; i++) signal(deaf[i], SIG_IGN);
    prctl(PR_SET_NAME, "recalld-disk");
    close_others(d);
    if (files->child) files->child(files->user);
    struct disk_order o;
    struct disk_answer a;
    for (;;) {
        ssize_t n = recv(d->sock, &o, sizeof o, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n != sizeof o) break;
        disk_do(&d->work, &o, &a);
        if (send(d->sock, &a, sizeof a, MSG_NOSIGNAL) != sizeof a && errno != EPIPE) break;
    }
    _exit(0);
}

static int start_helper(struct disk *d, const struct disk_files *files)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return -1;
    d->helper = fork();
    if (d->helper == 0) {
        d->sock = pair[1];
        serve(d, files);
    }
    close(pair[1]);
    d->sock = pair[0];
    return d->helper < 0 ? -1 : 0;
}

static void let_go(struct disk *d)
{
    close_fd(&d->sock);
    if (d->shared) munmap(d->shared, DISK_AREAS * DISK_AREA_BYTES);
    free(d);
}

struct disk *disk_start(const struct disk_files *files, bool in_process, struct fault *f)
{
    struct disk *d = calloc(1, sizeof *d);
    if (!d) {
        fault_set(f, 71, "No memory for the disk's buffers");
        return NULL;
    }
    d->sock = -1;
    d->work = (struct disk_work){ .dir = files->dir, .lock = files->lock, .log = files->log,
                                  .tmp = -1, .dimension = files->dimension };
    void *p = mmap(NULL, DISK_AREAS * DISK_AREA_BYTES, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) d->shared = p;
    for (int i = 0; i < DISK_AREAS && d->shared; i++)
        d->work.area[i] = d->shared + (size_t)i * DISK_AREA_BYTES;
    if (!d->shared || (!in_process && start_helper(d, files) < 0)) {
        fault_set(f, 71, "Cannot start the disk helper: %s", strerror(errno));
        let_go(d);
        return NULL;
    }
    return d;
}

void disk_release(struct disk *d)
{
    if (!d->helper) return;
    close_fd(&d->work.dir);
    close_fd(&d->work.lock);
    close_fd(&d->work.log);
}

uint8_t *disk_area(struct disk *d, int area)
{
    return d->work.area[area];
}

int disk_order(struct disk *d, const struct disk_order *o)
{
    if (!d->helper) {
        disk_do(&d->work, o, &d->answers[(d->first + d->owed++) % DISK_ORDERS]);
        return 0;
    }
    ssize_t n;
    do n = send(d->sock, o, sizeof *o, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n != sizeof *o) return -1;
    d->owed++;
    return 0;
}

int disk_answer(struct disk *d, bool wait, struct disk_answer *a)
{
    if (!d->owed && (wait || !d->helper)) return 0;
    if (d->helper) {
        ssize_t n;
        do n = recv(d->sock, a, sizeof *a, wait ? 0 : MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n != sizeof *a) return -1;
    } else {
        *a = d->answers[d->first];
        d->first = (d->first + 1) % DISK_ORDERS;
    }
    d->owed--;
    return 1;
}

int disk_fd(const struct disk *d)
{
    return d->sock;
}

int disk_stop(struct disk *d)
{
    int status = 0;
    close_fd(&d->sock);
    if (d->helper) {
        while (waitpid(d->helper, &status, 0) < 0)
            if (errno != EINTR) break;
    } else {
        close_fd(&d->work.tmp);
    }
    close_fd(&d->work.log);
    close_fd(&d->work.dir);
    close_fd(&d->work.lock);
    let_go(d);
    return status ? -1 : 0;
}
