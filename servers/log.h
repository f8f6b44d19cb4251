/* Log lines on stderr, and what a start that fails has to say.
 *
 * A line in text form is `TIME LEVEL endpoint message key=value…`, in JSON form
 * one object. What clients sent is escaped. Lines gather in a buffer and leave
 * with log_flush(), once a turn of the loop; a reader that does not read loses
 * lines, never the server's time: what did not fit is counted and reported. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "utf8.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Level and form for the whole process; before it is called: info, text. */
void log_open(enum log_level level, bool as_json);
bool log_on(enum log_level level);

/* One line: begin, any number of keys, end. Nothing is written between
 * begin and end when the level is off. endpoint may be "" ("recalld" stands). */
void log_begin(enum log_level level, const char *endpoint, const char *message);
void log_str(const char *key, struct slice value);
void log_text(const char *key, const char *value);
void log_int(const char *key, int64_t value);
void log_num(const char *key, double value, int decimals);
void log_json(const char *key, struct slice value);   /* one JSON value, as it stands;
                                                         too long for a line: null */
void log_end(void);

/* A line that is only a message, formatted. */
void log_say(enum log_level level, const char *endpoint, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* '?' for each control character of p[0..n), so that it begins no other line and commands no
 * terminal; lines: those and tabs stay. */
void log_clean(char *p, size_t n, bool lines);

/* Write what gathered, as much as stderr takes without waiting. */
void log_flush(void);

/* Why something cannot go on: one sentence that says what is wrong and what to do,
 * and the exit status that fits it (SPEC: 64 usage, 65 data or model, 69 port busy,
 * 71 system, 74 input/output, 75 held by another process, 78 configuration). */
struct fault {
    int  exit;
    char why[400];
};

/* Fill f, on one line whatever is in it; returns -1, so that `return fault_set(...)`
 * reads well. */
int fault_set(struct fault *f, int exit_status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
