/* Directories of damaged models for tests: a copy of a small one, with one thing changed. */
#ifndef MODEL_DIR_H
#define MODEL_DIR_H

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "test.h"

static inline char *dir_read(const char *dir, const char *name, size_t *len)
{
    char path[600];
    snprintf(path, sizeof path, "%.290s/%.290s", dir, name);
    return (char *)read_file(path, len);
}

static inline void dir_put(const char *dir, const char *name, const void *p, size_t len)
{
    char path[600];
    snprintf(path, sizeof path, "%.290s/%.290s", dir, name);
    cr_assert_eq(write_file(path, p, len), 0, "%s", path);
}

/* Copy these files of a directory into a new one below /tmp. */
static inline char *dir_copy(const char *from, const char *const *names)
{
    static char dir[40];
    strcpy(dir, "/tmp/model-XXXXXX");
    cr_assert(mkdtemp(dir) != NULL);
    char pooling[60];
    snprintf(pooling, sizeof pooling, "%s/1_Pooling", dir);
    mkdir(pooling, 0700);
    for (; *names; names++) {
        size_t len;
        char *text = dir_read(from, *names, &len);
        if (text) dir_put(dir, *names, text, len);
        free(text);
    }
    return dir;
}

static inline void dir_remove(const char *dir)
{
    const char *const inside[] = { "1_Pooling", "" };
    for (int i = 0; i < 2; i++) {
        char at[300], path[600];
        snprintf(at, sizeof at, "%.200s/%s", dir, inside[i]);
        DIR *d = opendir(at);
        for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
            snprintf(path, sizeof path, "%.290s/%.290s", at, e->d_name);
            unlink(path);
        }
        if (d) closedir(d);
        rmdir(at);
    }
}

/* Replace the first `from` in a file by `to`; from NULL: the file becomes `to`; to NULL:
 * the file goes away. */
static inline void dir_edit(const char *dir, const char *name, const char *from, const char *to)
{
    char path[600];
    size_t len;
    snprintf(path, sizeof path, "%.290s/%.290s", dir, name);
    if (!to) {
        unlink(path);
        return;
    }
    if (!from) {
        dir_put(dir, name, to, strlen(to));
        return;
    }
    char *text = dir_read(dir, name, &len), *at = text;
    cr_assert(text != NULL, "%s", path);
    while (at < text + len && (size_t)(text + len - at) >= strlen(from) &&
           memcmp(at, from, strlen(from)) != 0)
        at++;
    cr_assert((size_t)(text + len - at) >= strlen(from), "%s holds no %s", path, from);
    char *out = malloc(len + strlen(to) + 1);
    size_t before = (size_t)(at - text), after = len - before - strlen(from);
    memcpy(out, text, before);
    memcpy(out + before, to, strlen(to));
    memcpy(out + before + strlen(to), at + strlen(from), after);
    dir_put(dir, name, out, before + strlen(to) + after);
    free(out);
    free(text);
}

#endif
