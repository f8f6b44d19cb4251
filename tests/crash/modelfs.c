#include "modelfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define FILES    40
#define NAMES    40
#define BYTES    (192u << 10)
#define PENDING  512
#define FD_DIR   1000
#define FD_LOCK  1001
#define FD_FIRST 1002
#define FDS      16

struct change {
    bool   length;       /* a new length, else a write */
    size_t at, n, bytes; /* bytes: where in store */
};

struct file {
    uint8_t       data[BYTES], disk[BYTES], store[BYTES];
    size_t        size, disk_size, stored, blocks;
    struct change pending[PENDING];
    int           changes;
    bool          used;
};

struct name { char text[40]; int file; }; /* file -1: free */

/* A name that is set (file >= 0) or taken away. */
struct naming { char text[40]; int file; };

static struct file   files[FILES];
static struct name   names[NAMES], on_disk[NAMES];
static struct naming pending[64];
static int           namings;
static int           fds[FDS]; /* file, -1: closed */
static int           locked, dir_open;
static bool          dir_made;

struct modelfs_faults mfs_faults = { .kind = -1 };
int      mfs_calls[CALLS], mfs_leaks, mfs_crash_at = -1;
jmp_buf  mfs_crashed;
uint64_t mfs_seed;
static int changing;
static int heap_live; /* allocations not yet freed */

const char *const call_names[CALLS] = { "open", "pread", "pwrite", "fdatasync", "fsync", "rename",
    "ftruncate", "fallocate", "unlink", "link", "fstat", "mkdir", "flock", "getrandom", "malloc",
    "mmap" };

uint32_t mfs_random(uint32_t below)
{
    mfs_seed += 0x9e3779b97f4a7c15u;
    uint64_t x = mfs_seed;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ x >> 31) >> 16) % below;
}

/* Count a call; -1 with errno when it is to fail, 1 when it is to fall short. */
static int enter(enum call c)
{
    int k = mfs_calls[c]++;
    struct modelfs_faults *f = &mfs_faults;
    if (f->kind != (int)c || k < f->k || (k > f->k && !f->forever)) return 0;
    f->hits++;
    if (!f->error) return 1;
    errno = f->error;
    return -1;
}

/* Something on disk is about to change: the power may go before that. */
static void change(void)
{
    if (mfs_crash_at >= 0 && changing++ == mfs_crash_at) longjmp(mfs_crashed, 1);
}

static int *name_of(struct name *in, const char *text)
{
    for (int i = 0; i < NAMES; i++)
        if (in[i].file >= 0 && !strcmp(in[i].text, text)) return &in[i].file;
    return NULL;
}

static void set_name(struct name *in, const char *text, int file)
{
    int *f = name_of(in, text);
    for (int i = 0; i < NAMES && !f && file >= 0; i++)
        if (in[i].file < 0) {
            f = &in[i].file;
            snprintf(in[i].text, sizeof in[i].text, "%s", text);
        }
    if (f) *f = file;
}

/* A change of the directory: in the cache now, on disk some time. */
static void rename_to(const char *text, int file)
{
    set_name(names, text, file);
    if (namings == 64) {
        memcpy(on_disk, names, sizeof names);
        namings = 0;
        return;
    }
    snprintf(pending[namings].text, sizeof pending[namings].text, "%s", text);
    pending[namings++].file = file;
}

static void wipe(struct file *f)
{
    f->size = f->disk_size = f->stored = f->blocks = 0;
    f->changes = 0;
}

/* Files that no name and no descriptor leads to. */
static void collect(void)
{
    bool held[FILES] = { false };
    for (int i = 0; i < NAMES; i++) {
        if (names[i].file >= 0) held[names[i].file] = true;
        if (on_disk[i].file >= 0) held[on_disk[i].file] = true;
    }
    for (int i = 0; i < namings; i++)
        if (pending[i].file >= 0) held[pending[i].file] = true;
    for (int i = 0; i < FDS; i++)
        if (fds[i] >= 0) held[fds[i]] = true;
    for (int i = 0; i < FILES; i++)
        if (files[i].used && !held[i]) {
            files[i].used = false; /* its bytes stay where they are: old blocks */
            wipe(&files[i]);
        }
}

static void settle(struct file *f, const struct change *c)
{
    if (c->length) {
        if (c->at > f->disk_size) memset(f->disk + f->disk_size, 0, c->at - f->disk_size);
        f->disk_size = c->at;
        return;
    }
    if (c->at > f->disk_size) memset(f->disk + f->disk_size, 0, c->at - f->disk_size);
    memcpy(f->disk + c->at, f->store + c->bytes, c->n);
    if (c->at + c->n > f->disk_size) f->disk_size = c->at + c->n;
}

static void sync_file(struct file *f)
{
    for (int i = 0; i < f->changes; i++) settle(f, &f->pending[i]);
    f->changes = 0;
    f->stored = 0;
}

static void note(struct file *f, struct change c, const void *bytes)
{
    if (f->changes == PENDING || f->stored + c.n > BYTES) sync_file(f); /* written back early */
    c.bytes = f->stored;
    if (c.n) memcpy(f->store + f->stored, bytes, c.n);
    f->stored += c.n;
    f->pending[f->changes++] = c;
}

void mfs_reset(void)
{
    for (int i = 0; i < FILES; i++) {
        files[i].used = false;
        wipe(&files[i]);
    }
    for (int i = 0; i < NAMES; i++) names[i].file = on_disk[i].file = -1;
    namings = 0;
    dir_made = false;
    mfs_start();
}

void mfs_start(void)
{
    for (int i = 0; i < FDS; i++) fds[i] = -1;
    locked = dir_open = 0;
    changing = 0;
    mfs_leaks = heap_live = 0;
    memset(mfs_calls, 0, sizeof mfs_calls);
}

void mfs_kill(void)
{
    for (int i = 0; i < FDS; i++) fds[i] = -1;
    locked = dir_open = 0;
    collect();
}

/* What lies in blocks that were given to a file and not yet written. */
static void stale(struct file *f, size_t from, size_t to)
{
    const struct file *old = &files[mfs_random(FILES)];
    bool zeros = mfs_random(3) > 0;
    for (size_t i = from; i < to; i++) f->disk[i] = zeros || old == f ? 0 : old->data[i];
}

static void longer(struct file *f, size_t size)
{
    if (size <= f->disk_size) return;
    stale(f, f->disk_size, size);
    f->disk_size = size;
}

/* Some sectors of a write. */
static void tear(struct file *f, const struct change *c, uint32_t chance, size_t sector)
{
    for (size_t at = 0; at < c->n;) {
        size_t n = sector - (c->at + at) % sector;
        if (n > c->n - at) n = c->n - at;
        if (mfs_random(100) < chance) {
            longer(f, c->at + at);
            memcpy(f->disk + c->at + at, f->store + c->bytes + at, n);
            if (c->at + at + n > f->disk_size) f->disk_size = c->at + at + n;
        }
        at += n;
    }
    if (mfs_random(4) == 0) longer(f, c->at + c->n); /* the length made it, the bytes did not */
}

static void cut_file(struct file *f)
{
    static const size_t sectors[] = { 512, 4096, 64, 16 };
    size_t sector = sectors[mfs_random(4)];
    uint32_t mode = mfs_random(5), keep = mfs_random((uint32_t)f->changes + 1);
    for (int i = 0; i < f->changes; i++) {
        const struct change *c = &f->pending[i];
        uint32_t chance = mode == 0 ? 0 : mode == 1 ? 100 : mode == 2 ? 50 : 95;
        if (mode == 4) chance = (uint32_t)i < keep ? 100 : (uint32_t)i == keep ? 60 : 0;
        if (!c->length) tear(f, c, chance, sector);
        else if (mfs_random(100) < chance) settle(f, c);
    }
    memcpy(f->data, f->disk, f->disk_size);
    f->size = f->disk_size;
    f->changes = 0;
    f->stored = f->blocks = 0;
}

void mfs_power_cut(void)
{
    uint32_t mode = mfs_random(4), keep = mfs_random((uint32_t)namings + 1);
    for (int i = 0; i < namings; i++) {
        bool made = mode == 0 ? false : mode == 1 ? true : mode == 2 ? (uint32_t)i < keep
                                                                     : mfs_random(2) == 0;
        if (made) set_name(on_disk, pending[i].text, pending[i].file);
    }
    namings = 0;
    memcpy(names, on_disk, sizeof names);
    mfs_kill();
    for (int i = 0; i < FILES; i++)
        if (files[i].used) cut_file(&files[i]);
}

uint8_t *mfs_file(const char *name, size_t *n)
{
    int *f = name_of(names, name);
    if (!f) return NULL;
    *n = files[*f].size;
    return files[*f].data;
}

static int new_file(void)
{
    collect();
    for (int i = 0; i < FILES; i++)
        if (!files[i].used) {
            files[i].used = true;
            wipe(&files[i]);
            return i;
        }
    fprintf(stderr, "modelfs: too many files\n");
    abort();
}

static int new_fd(int file)
{
    for (int i = 0; i < FDS; i++)
        if (fds[i] < 0) {
            fds[i] = file;
            mfs_leaks++;
            return FD_FIRST + i;
        }
    errno = EMFILE;
    return -1;
}

static struct file *file_of(int fd) { return &files[fds[fd - FD_FIRST]]; }

uint64_t mfs_used(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < FILES; i++)
        if (files[i].used) sum += files[i].size > files[i].blocks ? files[i].size : files[i].blocks;
    return sum;
}

static bool room_for(uint64_t more)
{
    return !mfs_faults.capacity || mfs_used() + more <= mfs_faults.capacity;
}

/* The calls. What is none of the journal's (the coverage runtime shares the link)
 * goes on to the system. */

static bool ours(int fd) { return fd >= FD_DIR; }

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    if (strlen(path) > 2) {
        va_list ap;
        va_start(ap, flags);
        int mode = va_arg(ap, int);
        va_end(ap);
        return __real_open(path, flags, mode);
    }
    if (enter(CALL_OPEN) < 0) return -1;
    dir_open++;
    mfs_leaks++;
    return FD_DIR;
}

int __wrap_openat(int dir, const char *name, int flags, ...);
int __wrap_openat(int dir, const char *name, int flags, ...)
{
    (void)dir;
    if (enter(CALL_OPEN) < 0) return -1;
    if (!strcmp(name, "LOCK")) {
        mfs_leaks++;
        return FD_LOCK;
    }
    int *f = name_of(names, name);
    if (!f && !(flags & O_CREAT)) {
        errno = ENOENT;
        return -1;
    }
    if (!f && !room_for(1)) {
        errno = ENOSPC;
        return -1;
    }
    int file = f ? *f : new_file();
    if (!f || flags & O_TRUNC) change();
    if (!f) rename_to(name, file);
    else if (flags & O_TRUNC) {
        files[file].size = files[file].blocks = 0;
        note(&files[file], (struct change){ .length = true }, NULL);
    }
    return new_fd(file);
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    if (!ours(fd)) return __real_close(fd);
    mfs_leaks--;
    if (fd == FD_LOCK) locked = 0;
    else if (fd >= FD_FIRST && fds[fd - FD_FIRST] >= 0) {
        fds[fd - FD_FIRST] = -1;
        collect();
    }
    return 0;
}

ssize_t __wrap_pread(int fd, void *p, size_t n, off_t at);
ssize_t __wrap_pread(int fd, void *p, size_t n, off_t at)
{
    int r = enter(CALL_PREAD);
    if (r < 0) return -1;
    struct file *f = file_of(fd);
    if ((size_t)at >= f->size) return 0;
    if (n > f->size - (size_t)at) n = f->size - (size_t)at;
    if (r) n = (n + 1) / 2;
    memcpy(p, f->data + at, n);
    return (ssize_t)n;
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
    int r = enter(CALL_PWRITE);
    if (r < 0) return -1;
    struct file *f = file_of(fd);
    if (r) n = (n + 1) / 2;
    size_t end = (size_t)at + n, has = f->size > f->blocks ? f->size : f->blocks;
    if (end > BYTES) abort();
    if (end > has && !room_for(end - has)) {
        if (n < 2 || !room_for(end - n / 2 - has)) {
            errno = ENOSPC;
            return -1;
        }
        n /= 2; /* what fits is written */
        end = (size_t)at + n;
    }
    change();
    if ((size_t)at > f->size) memset(f->data + f->size, 0, (size_t)at - f->size);
    memcpy(f->data + at, p, n);
    if (end > f->size) f->size = end;
    note(f, (struct change){ .at = (size_t)at, .n = n }, p);
    return (ssize_t)n;
}

/* What could not be written is clean now and gone: the next sync will say all is well. */
static int lose(struct file *f)
{
    int kept = 0;
    for (int i = 0; i < f->changes; i++)
        if (f->pending[i].length) f->pending[kept++] = f->pending[i];
    f->changes = kept;
    return -1;
}

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    change();
    if (enter(CALL_FDATASYNC) < 0) return lose(file_of(fd));
    sync_file(file_of(fd));
    return 0;
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    change();
    int r = enter(CALL_FSYNC);
    if (fd >= FD_FIRST) {
        if (r < 0) return lose(file_of(fd));
        sync_file(file_of(fd));
    } else if (r >= 0) {
        memcpy(on_disk, names, sizeof names);
        namings = 0;
    }
    return r < 0 ? -1 : 0;
}

int __wrap_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to)
{
    (void)a;
    (void)b;
    if (enter(CALL_RENAME) < 0) return -1;
    change();
    int *f = name_of(names, from);
    if (!f) {
        errno = ENOENT;
        return -1;
    }
    int file = *f;
    rename_to(to, file);
    set_name(names, from, -1);
    if (namings < 64) {
        snprintf(pending[namings].text, sizeof pending[namings].text, "%s", from);
        pending[namings++].file = -1;
    }
    collect();
    return 0;
}

int __wrap_linkat(int a, const char *from, int b, const char *to, int flags);
int __wrap_linkat(int a, const char *from, int b, const char *to, int flags)
{
    (void)a;
    (void)b;
    (void)flags;
    if (enter(CALL_LINK) < 0) return -1;
    change();
    int *f = name_of(names, from);
    errno = f ? EEXIST : ENOENT;
    if (!f || name_of(names, to)) return -1;
    rename_to(to, *f);
    return 0;
}

int __wrap_unlinkat(int dir, const char *name, int flags);
int __wrap_unlinkat(int dir, const char *name, int flags)
{
    (void)dir;
    (void)flags;
    if (enter(CALL_UNLINK) < 0) return -1;
    if (!name_of(names, name)) {
        errno = ENOENT;
        return -1;
    }
    change();
    rename_to(name, -1);
    collect();
    return 0;
}

int __wrap_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size)
{
    if (enter(CALL_FTRUNCATE) < 0) return -1;
    change();
    struct file *f = file_of(fd);
    if ((size_t)size > f->size) memset(f->data + f->size, 0, (size_t)size - f->size);
    f->size = (size_t)size;
    f->blocks = 0;
    note(f, (struct change){ .length = true, .at = (size_t)size }, NULL);
    return 0;
}

int __wrap_fallocate(int fd, int mode, off_t at, off_t n);
int __wrap_fallocate(int fd, int mode, off_t at, off_t n)
{
    (void)mode;
    if (enter(CALL_FALLOCATE) < 0) return -1;
    if (mfs_faults.no_fallocate) {
        errno = EOPNOTSUPP;
        return -1;
    }
    struct file *f = file_of(fd);
    size_t end = (size_t)(at + n), has = f->size > f->blocks ? f->size : f->blocks;
    if (end > has && !room_for(end - has)) {
        errno = ENOSPC;
        return -1;
    }
    if (end > f->blocks) f->blocks = end;
    return 0;
}

static int stat_file(int file, struct stat *st)
{
    if (enter(CALL_FSTAT) < 0) return -1;
    memset(st, 0, sizeof *st);
    st->st_size = (off_t)files[file].size;
    st->st_ino = (ino_t)file + 1;
    return 0;
}

int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st)
{
    return ours(fd) ? stat_file(fds[fd - FD_FIRST], st) : __real_fstat(fd, st);
}

int __wrap_fstatat(int dir, const char *name, struct stat *st, int flags);
int __wrap_fstatat(int dir, const char *name, struct stat *st, int flags)
{
    (void)dir;
    (void)flags;
    int *f = name_of(names, name);
    errno = ENOENT;
    return f ? stat_file(*f, st) : -1;
}

int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode)
{
    (void)path;
    (void)mode;
    if (enter(CALL_MKDIR) < 0) return -1;
    errno = EEXIST;
    if (dir_made) return -1;
    dir_made = true;
    return 0;
}

int __wrap_flock(int fd, int how);
int __wrap_flock(int fd, int how)
{
    (void)fd;
    (void)how;
    if (enter(CALL_FLOCK) < 0) return -1;
    locked = 1;
    return 0;
}

int __wrap_nanosleep(const struct timespec *t, struct timespec *rest);
int __wrap_nanosleep(const struct timespec *t, struct timespec *rest)
{
    (void)t;
    (void)rest;
    return 0;
}

ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *p, size_t n, unsigned flags)
{
    (void)flags;
    if (enter(CALL_GETRANDOM) < 0) return -1;
    for (size_t i = 0; i < n; i++) ((uint8_t *)p)[i] = (uint8_t)mfs_random(256);
    return (ssize_t)n;
}

/* Memory comes from a heap that a crash empties. */
static _Alignas(64) uint8_t heap[4u << 20];
static size_t heap_used;

static void *take(size_t n, bool zero)
{
    if (heap_live == 0) heap_used = 0;
    n = (n + 63) / 64 * 64;
    if (enter(CALL_MALLOC) < 0) return NULL;
    if (heap_used + n > sizeof heap) abort();
    void *p = heap + heap_used;
    heap_used += n;
    heap_live++;
    mfs_leaks++;
    return zero ? memset(p, 0, n) : p;
}

void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) { return take(n * size, true); }
void *__wrap_aligned_alloc(size_t align, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n)
{
    (void)align;
    return take(n, false);
}
void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p)
{
    if ((uint8_t *)p < heap || (uint8_t *)p >= heap + sizeof heap) {
        __real_free(p);
        return;
    }
    mfs_leaks--;
    heap_live--;
}

static _Alignas(64) uint8_t areas[3 * (4u << 20)];

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
    (void)at, (void)n, (void)prot, (void)flags, (void)fd, (void)off;
    if (enter(CALL_MMAP) < 0) return MAP_FAILED;
    mfs_leaks++;
    return areas;
}

int __wrap_munmap(void *p, size_t n);
int __wrap_munmap(void *p, size_t n)
{
    (void)p;
    (void)n;
    mfs_leaks--;
    return 0;
}
