/* System calls that fail on demand, once or from then on, for tests that link with
 * -Wl,--wrap of each name here. After the headers of the system. */
#ifndef CALL_FAULTS_H
#define CALL_FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

enum call { NO_CALL, OPEN, OPENAT, PREAD, PWRITE, FDATASYNC, FSYNC, RENAMEAT, LINKAT, UNLINKAT,
            FTRUNCATE, FALLOCATE, FSTAT, MKDIR, FLOCK, GETRANDOM, CALLOC, ALIGNED, CALLS };

/* Call number `skip` of this kind from now on fails with error; 0: it moves nothing,
 * -1: one byte. */
struct call_fault { enum call call; int skip, error; bool for_ever; };

static struct call_fault call_faults[2];
static int call_counts[CALLS];

/* 0: go on; above 0: fail, errno is set; -1, -2: move one byte, none. */
static int call_fails(enum call c)
{
    call_counts[c]++;
    for (int i = 0; i < 2; i++) {
        struct call_fault *f = &call_faults[i];
        if (f->call != c || f->skip-- > 0) continue;
        int error = f->error;
        if (f->for_ever) f->skip = 0;
        else f->call = NO_CALL;
        if (error > 0) errno = error;
        return error ? error : -2;
    }
    return 0;
}

__attribute__((unused)) static void call_fault(enum call c, int skip, int error)
{
    call_faults[0] = (struct call_fault){ c, skip, error, false };
    call_faults[1].call = NO_CALL;
}

/* Whether what was planned has happened; nothing fails any more. */
__attribute__((unused)) static bool calls_mended(void)
{
    bool hit = call_faults[0].for_ever || !call_faults[0].call;
    call_faults[0].call = call_faults[1].call = NO_CALL;
    return hit;
}

#if defined(__GLIBC__) && __SIZEOF_POINTER__ == 4 /* what the headers make of the names there */
#define REAL(name) __real_##name##64
#define WRAP(name) __wrap_##name##64
#else
#define REAL(name) __real_##name
#define WRAP(name) __wrap_##name
#endif

#define FAILING(c, type, real, wrap, parameters, arguments) \
    type real parameters;                                   \
    type wrap parameters;                                   \
    type wrap parameters { return call_fails(c) ? (type)-1 : real arguments; }

#define MOVING(c, name, byte)                                                           \
    ssize_t REAL(name)(int fd, byte *p, size_t n, off_t at);                            \
    ssize_t WRAP(name)(int fd, byte *p, size_t n, off_t at);                            \
    ssize_t WRAP(name)(int fd, byte *p, size_t n, off_t at)                             \
    {                                                                                   \
        int e = call_fails(c);                                                          \
        return e > 0 ? -1 : e == -2 ? 0 : REAL(name)(fd, p, e == -1 && n ? 1 : n, at);  \
    }

MOVING(PREAD, pread, void)
MOVING(PWRITE, pwrite, const void)

int REAL(open)(const char *name, int flags, ...);
int WRAP(open)(const char *name, int flags, ...);
int WRAP(open)(const char *name, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    unsigned mode = flags & O_CREAT ? va_arg(ap, unsigned) : 0;
    va_end(ap);
    return call_fails(OPEN) ? -1 : REAL(open)(name, flags, mode);
}

int REAL(openat)(int dir, const char *name, int flags, ...);
int WRAP(openat)(int dir, const char *name, int flags, ...);
int WRAP(openat)(int dir, const char *name, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    unsigned mode = flags & O_CREAT ? va_arg(ap, unsigned) : 0;
    va_end(ap);
    return call_fails(OPENAT) ? -1 : REAL(openat)(dir, name, flags, mode);
}

FAILING(FDATASYNC, int, __real_fdatasync, __wrap_fdatasync, (int fd), (fd))
FAILING(FSYNC, int, __real_fsync, __wrap_fsync, (int fd), (fd))
FAILING(RENAMEAT, int, __real_renameat, __wrap_renameat,
        (int a, const char *from, int b, const char *to), (a, from, b, to))
FAILING(LINKAT, int, __real_linkat, __wrap_linkat,
        (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
FAILING(UNLINKAT, int, __real_unlinkat, __wrap_unlinkat,
        (int dir, const char *name, int flags), (dir, name, flags))
FAILING(FTRUNCATE, int, REAL(ftruncate), WRAP(ftruncate), (int fd, off_t n), (fd, n))
FAILING(FALLOCATE, int, REAL(fallocate), WRAP(fallocate),
        (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
#if defined(__GLIBC__) && __SIZEOF_POINTER__ == 4
FAILING(FSTAT, int, __real___fstat64_time64, __wrap___fstat64_time64, (int fd, struct stat *st),
        (fd, st))
#else
FAILING(FSTAT, int, __real_fstat, __wrap_fstat, (int fd, struct stat *st), (fd, st))
#endif
FAILING(MKDIR, int, __real_mkdir, __wrap_mkdir, (const char *name, mode_t mode), (name, mode))
FAILING(FLOCK, int, __real_flock, __wrap_flock, (int fd, int how), (fd, how))
FAILING(GETRANDOM, ssize_t, __real_getrandom, __wrap_getrandom,
        (void *p, size_t n, unsigned flags), (p, n, flags))

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) { return call_fails(CALLOC) ? NULL : __real_calloc(n, size); }
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return call_fails(ALIGNED) ? NULL : __real_aligned_alloc(align, size);
}

#endif
