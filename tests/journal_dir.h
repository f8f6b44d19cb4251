/* Directories for tests of what lies on disk. */
#ifndef JOURNAL_DIR_H
#define JOURNAL_DIR_H

#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "files.h"

/* A new directory, in memory where the machine has a place for that. */
static char *temporary(char dir[64])
{
    snprintf(dir, 64, "%s/recalld-test-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    return mkdtemp(dir) ? dir : NULL;
}

__attribute__((unused)) static void copy_file(const char *from, const char *to)
{
    size_t n;
    uint8_t *p = read_file(from, &n);
    write_file(to, p, n);
    free(p);
}

/* How many names in dir begin with prefix. */
__attribute__((unused)) static int count_files(const char *dir, const char *prefix)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) n += !strncmp(e->d_name, prefix, strlen(prefix));
    if (d) closedir(d);
    return n;
}

__attribute__((unused)) static void remove_all(const char *dir)
{
    char name[400];
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(name, sizeof name, "%s/%s", dir, e->d_name);
        unlink(name);
    }
    if (d) closedir(d);
    rmdir(dir);
}

#endif
