/* Values that JSON has no type for: times, bytes in hex, and texts without the
 * white space around them; and members of objects. Pure functions, but for time_now(). */
#ifndef VALUES_H
#define VALUES_H

#include <stdbool.h>
#include <stdint.h>

#include "json.h"

/* Milliseconds since 1970 of "2026-11-25T02:33:14.123Z" (RFC 3339: seconds, their
 * fraction and the zone may be missing, then UTC) or of a date alone, its midnight UTC. */
bool time_parse(struct slice s, int64_t *ms);

/* Of a number: seconds below 1e11, milliseconds above. */
bool time_number(double v, int64_t *ms);

/* Take the value that stands next, in either form. */
bool json_time(struct json *in, int64_t *ms);

/* Milliseconds since 1970 by the system's clock. */
int64_t time_now(void);

/* YYYY-MM-DDTHH:MM:SS.mmmZ, 24 characters, no NUL; years 0000 to 9999. */
void time_print(char out[24], int64_t ms);
void json_put_time(struct json_out *out, int64_t ms);

/* A member of an object: its name, and its value or the bracket that opens it. */
void member_text(struct json_out *out, const char *name, const char *v);
void member_int(struct json_out *out, const char *name, int64_t v);
void member_count(struct json_out *out, const char *name, uint64_t n);
void member_double(struct json_out *out, const char *name, double v);
void member_f32(struct json_out *out, const char *name, float v);
void member_bool(struct json_out *out, const char *name, bool v);
void member_open(struct json_out *out, const char *name, char bracket);

/* Index of a word of n bytes among "these|and|those", or -1. */
long word_index(const char *words, const char *s, size_t n);

/* Without white space around: ASCII's six only, or all of Unicode's (White_Space). */
struct slice trim_ascii(struct slice s);
struct slice trim_unicode(struct slice s);

/* Begin before the value that this text holds; its type. Four levels more than JSON_DEPTH are
 * read: a reply nests what a request brought, which json_check() has bounded, so much deeper. */
enum json_type json_before(struct json *in, struct slice s);

/* A cursor that has entered this object or list; anything else is found empty. */
struct json json_inside(struct slice s);

/* n bytes in lower-case hex and a NUL; returns out[2 n + 1]. */
const char *hex_text(char *out, const uint8_t *p, size_t n);

/* JSON without the white space between its tokens, over its own text. */
struct slice json_compact(struct slice s);

/* A JSON string (its text with the quotes, checked), decoded in a copy at room[cap]. p NULL: its
 * text is longer than that; each byte decoded takes up to JSON_ESCAPE of it, the quotes two. */
#define JSON_ESCAPE 6
struct slice json_decoded(struct slice raw, char *room, size_t cap);

#endif
