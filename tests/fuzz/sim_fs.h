/* One directory in memory, in place of the system's calls that the journal makes on
 * "/sim", so that a run costs none. Whatever else these calls are made on goes to the
 * system. Nothing here fails but for names that are not there, or there already. */
#ifndef SIM_FS_H
#define SIM_FS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIM_FILES = 16, SIM_FDS = 16, SIM_FD = 1 << 20 };

static struct sim_file {
    uint8_t *p;                     /* [cap], n of them in the file; stays over runs */
    size_t   n, cap;
    int      names, fds;            /* not in use when it has neither */
    bool     locked;
} sim_file[SIM_FILES];

static struct { char name[64]; struct sim_file *file; } sim_name[SIM_FILES];

static struct { bool used, dir, locks; struct sim_file *file; } sim_fd[SIM_FDS];

static uint8_t sim_random;

static bool sim_is(int fd) { return fd >= SIM_FD && fd < SIM_FD + SIM_FDS; }

static struct sim_file *sim_of(int fd)
{
    if (!sim_is(fd) || !sim_fd[fd - SIM_FD].used || sim_fd[fd - SIM_FD].dir) abort();
    return sim_fd[fd - SIM_FD].file;
}

static int sim_find(const char *name)
{
    for (int i = 0; i < SIM_FILES; i++)
        if (sim_name[i].file && !strcmp(sim_name[i].name, name)) return i;
    return -1;
}

static void sim_give(struct sim_file *file, const char *name)
{
    int i = 0;
    while (i < SIM_FILES && sim_name[i].file) i++;
    if (i == SIM_FILES || strlen(name) >= sizeof sim_name[i].name) abort();
    strcpy(sim_name[i].name, name);
    sim_name[i].file = file;
    file->names++;
}

static struct sim_file *sim_new(const char *name)
{
    struct sim_file *file = sim_file;
    while (file < sim_file + SIM_FILES && (file->names || file->fds)) file++;
    if (file == sim_file + SIM_FILES) abort();
    file->n = 0;
    sim_give(file, name);
    return file;
}

static void sim_forget(int i)
{
    sim_name[i].file->names--;
    sim_name[i].file = NULL;
}

static void sim_resize(struct sim_file *file, size_t n)
{
    if (n > file->cap) {
        file->cap = 2 * n + 65536;
        if (!(file->p = realloc(file->p, file->cap))) abort();
    }
    if (n > file->n) memset(file->p + file->n, 0, n - file->n);
    file->n = n;
}

static int sim_open(struct sim_file *file)
{
    int i = 0;
    while (i < SIM_FDS && sim_fd[i].used) i++;
    if (i == SIM_FDS) abort();
    sim_fd[i].used = true;
    sim_fd[i].locks = false;
    sim_fd[i].dir = !file;
    sim_fd[i].file = file;
    if (file) file->fds++;
    return SIM_FD + i;
}

/* For the target. */

static void sim_write(const char *name, const uint8_t *p, size_t n)
{
    int i = sim_find(name);
    struct sim_file *file = i < 0 ? sim_new(name) : sim_name[i].file;
    sim_resize(file, 0);
    sim_resize(file, n);
    memcpy(file->p, p, n);
}

/* Everything is removed; nothing may be open. */
static void sim_clear(void)
{
    for (int i = 0; i < SIM_FDS; i++)
        if (sim_fd[i].used) abort();
    for (int i = 0; i < SIM_FILES; i++)
        if (sim_name[i].file) sim_forget(i);
    sim_random = 0;
}

/* For the journal. */

int open(const char *path, int flags, ...)
{
    static const char root[] = "/sim";
    const size_t len = sizeof root - 1;
    if (!strcmp(path, root)) return sim_open(NULL);
    if (strncmp(path, root, len) || path[len] != '/')
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
    int i = sim_find(path + len + 1);
    if (i >= 0) return sim_open(sim_name[i].file);
    errno = ENOENT;
    return -1;
}

int openat(int dir, const char *name, int flags, ...)
{
    if (!sim_is(dir)) return (int)syscall(SYS_openat, dir, name, flags, 0600);
    int i = sim_find(name);
    if (i < 0 && !(flags & O_CREAT)) {
        errno = ENOENT;
        return -1;
    }
    struct sim_file *file = i < 0 ? sim_new(name) : sim_name[i].file;
    if (flags & O_TRUNC) sim_resize(file, 0);
    return sim_open(file);
}

int close(int fd)
{
    if (!sim_is(fd)) return (int)syscall(SYS_close, fd);
    if (!sim_fd[fd - SIM_FD].used) abort();
    struct sim_file *file = sim_fd[fd - SIM_FD].file;
    sim_fd[fd - SIM_FD].used = false;
    if (file) file->fds--;
    if (sim_fd[fd - SIM_FD].locks) file->locked = false;
    return 0;
}

int fstat(int fd, struct stat *st)
{
    if (!sim_is(fd)) return (int)syscall(SYS_fstat, fd, st);
    const struct sim_file *file = sim_of(fd);
    *st = (struct stat){ .st_size = (off_t)file->n, .st_ino = (ino_t)(file - sim_file) + 1 };
    return 0;
}

int fstatat(int dir, const char *name, struct stat *st, int flags)
{
    if (!sim_is(dir)) return (int)syscall(SYS_newfstatat, dir, name, st, flags);
    int i = sim_find(name);
    if (i < 0) {
        errno = ENOENT;
        return -1;
    }
    const struct sim_file *file = sim_name[i].file;
    *st = (struct stat){ .st_size = (off_t)file->n, .st_ino = (ino_t)(file - sim_file) + 1 };
    return 0;
}

ssize_t pread(int fd, void *p, size_t n, off_t at)
{
    if (!sim_is(fd)) return syscall(SYS_pread64, fd, p, n, at);
    const struct sim_file *file = sim_of(fd);
    if ((size_t)at >= file->n) return 0;
    if (n > file->n - (size_t)at) n = file->n - (size_t)at;
    memcpy(p, file->p + at, n);
    return (ssize_t)n;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    if (!sim_is(fd)) return syscall(SYS_pwrite64, fd, p, n, at);
    struct sim_file *file = sim_of(fd);
    if ((size_t)at + n > file->n) sim_resize(file, (size_t)at + n);
    memcpy(file->p + at, p, n);
    return (ssize_t)n;
}

int ftruncate(int fd, off_t n)
{
    if (!sim_is(fd)) return (int)syscall(SYS_ftruncate, fd, n);
    sim_resize(sim_of(fd), (size_t)n);
    return 0;
}

int fallocate(int fd, int mode, off_t from, off_t n)
{
    if (!sim_is(fd)) return (int)syscall(SYS_fallocate, fd, mode, from, n);
    if (mode != FALLOC_FL_KEEP_SIZE) abort();
    return 0;
}

int flock(int fd, int what)
{
    if (!sim_is(fd)) return (int)syscall(SYS_flock, fd, what);
    struct sim_file *file = sim_of(fd);
    if (file->locked) {
        errno = EWOULDBLOCK;
        return -1;
    }
    file->locked = sim_fd[fd - SIM_FD].locks = true;
    return 0;
}

int fsync(int fd) { return sim_is(fd) ? 0 : (int)syscall(SYS_fsync, fd); }

int fdatasync(int fd) { return sim_is(fd) ? 0 : (int)syscall(SYS_fdatasync, fd); }

int unlinkat(int dir, const char *name, int flags)
{
    if (!sim_is(dir)) return (int)syscall(SYS_unlinkat, dir, name, flags);
    int i = sim_find(name);
    if (i >= 0) {
        sim_forget(i);
        return 0;
    }
    errno = ENOENT;
    return -1;
}

int renameat(int dir, const char *from, int to_dir, const char *to)
{
    if (!sim_is(dir)) return (int)syscall(SYS_renameat, dir, from, to_dir, to);
    int i = sim_find(from), old = sim_find(to);
    if (i < 0) {
        errno = ENOENT;
        return -1;
    }
    if (old >= 0) sim_forget(old);
    sim_give(sim_name[i].file, to);
    sim_forget(i);
    return 0;
}

int linkat(int dir, const char *from, int to_dir, const char *to, int flags)
{
    if (!sim_is(dir)) return (int)syscall(SYS_linkat, dir, from, to_dir, to, flags);
    int i = sim_find(from);
    errno = i < 0 ? ENOENT : EEXIST;
    if (i < 0 || sim_find(to) >= 0) return -1;
    sim_give(sim_name[i].file, to);
    return 0;
}

int mkdir(const char *path, mode_t mode)
{
    if (strncmp(path, "/sim", 4)) return (int)syscall(SYS_mkdir, path, mode);
    errno = EEXIST;
    return -1;
}

ssize_t getrandom(void *p, size_t n, unsigned flags)
{
    (void)flags;
    memset(p, ++sim_random, n);
    return (ssize_t)n;
}

#endif
