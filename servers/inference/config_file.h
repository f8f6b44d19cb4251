/* A small JSON configuration file, read member by member. What is wrong is sticky: the
 * first is reported when the file is closed, as `PATH: KEY reason`. */
#ifndef CONFIG_FILE_H
#define CONFIG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../http.h"
#include "../../json.h"

struct fault;

struct config_file {
    char path[256];
    char *text;
    struct json in;
    char wrong[200];
};

/* A whole file of at most cap bytes in malloc'd memory, which is the caller's; one zero
 * byte stands behind it. NULL: errno says why (ENOENT, EFBIG, ..). */
char *config_read(const char *dir, const char *name, size_t cap, size_t *len);

/* Open dir/name and enter its object or list: 1; 0 when there is none, -1 when it cannot be
 * read, both with f filled. */
int config_open(struct config_file *c, const char *dir, const char *name, enum json_type type,
                struct fault *f);

/* The same with its text in memory, which stays the caller's: path, for messages, and text
 * (NULL, or what config_close() frees) are set before. */
void config_text(struct config_file *c, char *text, size_t len, enum json_type type);

/* Next member of the container that was entered last, while nothing is wrong. */
bool config_next(struct config_file *c);

/* Done: 0, or -1 with what was wrong in f. */
int config_close(struct config_file *c, struct fault *f);

/* Say that something is wrong; refuse: that a text is none of those allowed. */
void config_wrong(struct config_file *c, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void config_refuse(struct config_file *c, const char *key, struct slice s, const char *allowed);

/* Index of the text that stands next among words, "these|and|those"; -1: none of them, which
 * is refused with what is allowed. */
long config_word(struct config_file *c, const char *key, const char *words, const char *allowed);

/* Go into the object that stands next; false: it is none, and that is wrong. */
bool config_enter(struct config_file *c, const char *key);

/* Take the number that stands next, from 1 to max. */
void config_count(struct config_file *c, const char *key, uint32_t max, uint32_t *out);

#endif
