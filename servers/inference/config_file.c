#include "servers/offsets.h"
#include "config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../log.h"
#include "../values.h"

#define CONFIG_MAX (1u << 20)

char *config_read(const char *dir, const char *name, size_t cap, size_t *len)
{
    char path[1024];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name), fd;
    struct stat st;
    char *text = NULL;
    if (n < 0 || (size_t)n >= sizeof path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0) return NULL;
    if (!fstat(fd, &st)) {
        size_t size = st.st_size > 0 ? (size_t)st.st_size : 0, at = 0;
        if (!S_ISREG(st.st_mode)) errno = EISDIR;
        else if ((uint64_t)st.st_size > cap) errno = EFBIG;
        else if ((text = malloc(size + 1)) != NULL) {
            ssize_t got = 1;
            while (at < size && (got = read(fd, text + at, size - at)) > 0) at += (size_t)got;
            text[at] = 0;
            *len = at;
            if (got < 0) {
                free(text);
                text = NULL;
            }
        }
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return text;
}

void config_wrong(struct config_file *c, const char *key, const char *fmt, ...)
{
    va_list ap;
    if (*c->wrong) return;
    size_t n = (size_t)snprintf(c->wrong, sizeof c->wrong, "%.80s%s", key, *key ? " " : "");
    va_start(ap, fmt);
    vsnprintf(c->wrong + n, sizeof c->wrong - n, fmt, ap);
    va_end(ap);
    for (char *p = c->wrong; *p; p++)   /* it may hold what the file said */
        if (*p < ' ' || *p > '~') *p = '?';
}

void config_text(struct config_file *c, char *text, size_t len, enum json_type type)
{
    *c->wrong = 0;
    json_init(&c->in, text, len);
    if (json_next(&c->in) != type && !c->in.err)
        config_wrong(c, "", type == JSON_ARRAY ? "is no JSON list" : "is no JSON object");
    else json_enter(&c->in);
}

int config_open(struct config_file *c, const char *dir, const char *name, enum json_type type,
                struct fault *f)
{
    size_t len = 0;
    memset(c, 0, sizeof *c);
    snprintf(c->path, sizeof c->path, "%s/%s", dir, name);
    if (!(c->text = config_read(dir, name, CONFIG_MAX, &len))) {
        bool missing = errno == ENOENT || errno == ENOTDIR;
        fault_set(f, 65, "%s: %s", c->path, missing ? "no such file" : strerror(errno));
        return missing ? 0 : -1;
    }
    config_text(c, c->text, len, type);
    return 1;
}

bool config_next(struct config_file *c)
{
    return !*c->wrong && json_next(&c->in) > JSON_END;
}

int config_close(struct config_file *c, struct fault *f)
{
    int r = 0;
    if (!*c->wrong && !c->in.err) json_next(&c->in);
    if (c->in.err)
        r = fault_set(f, 65, "%s: no JSON: %s at byte %zu", c->path, c->in.err, c->in.err_at);
    else if (*c->wrong) r = fault_set(f, 65, "%s: %s", c->path, c->wrong);
    free(c->text);
    return r;
}

void config_count(struct config_file *c, const char *key, uint32_t max, uint32_t *out)
{
    int64_t v;
    if (!json_int(&c->in, &v) || v < 1 || v > max)
        config_wrong(c, key, "must be a whole number from 1 to %u", max);
    else *out = (uint32_t)v;
}

long config_word(struct config_file *c, const char *key, const char *words, const char *allowed)
{
    struct slice s = json_slice(&c->in);
    long i = word_index(words, s.p, s.len);
    if (i < 0) config_refuse(c, key, s, allowed);
    return i;
}

bool config_enter(struct config_file *c, const char *key)
{
    if (c->in.type != JSON_OBJECT) config_wrong(c, key, "must be an object");
    json_enter(&c->in);
    return !*c->wrong;
}

void config_refuse(struct config_file *c, const char *key, struct slice s, const char *allowed)
{
    config_wrong(c, key, "\"%.*s\" is not supported, only %s", (int)(s.len < 40 ? s.len : 40),
                 s.len ? s.p : "", allowed);
}
