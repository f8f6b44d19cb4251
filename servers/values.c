#include "servers/offsets.h"
#include "servers/values.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define TIME_MAX 253402300799999   /* 9999-12-31T23:59:59.999Z */
#define TIME_MIN (-62167219200000) /* 0000-01-01T00:00:00.000Z */

/* Days since 1970-01-01 of a date of the proleptic Gregorian calendar, counted in
 * 400-year cycles from a March, so that the leap day is a year's last. */
static int64_t days_of(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_of(int64_t days, int64_t *y, int64_t *m, int64_t *d)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097, doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    *d = doy - (153 * mp + 2) / 5 + 1;
    *m = mp < 10 ? mp + 3 : mp - 9;
    *y = yoe + era * 400 + (*m <= 2);
}

/* Exactly n digits. */
static bool digits(struct slice *s, int n, int64_t *v)
{
    *v = 0;
    if (s->len < (size_t)n) return false;
    for (int i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9') return false;
        *v = *v * 10 + (s->p[i] - '0');
    }
    s->p += n, s->len -= (size_t)n;
    return true;
}

static bool take(struct slice *s, char c)
{
    if (!s->len || *s->p != c) return false;
    s->p++, s->len--;
    return true;
}

/* ".123456": milliseconds, what is finer is dropped. */
static bool fraction(struct slice *s, int64_t *ms)
{
    int64_t unit = 100, v;
    if (!take(s, '.') && !take(s, ',')) return true;
    if (!digits(s, 1, &v)) return false;
    do {
        *ms += v * unit;
        unit /= 10;
    } while (digits(s, 1, &v));
    return true;
}

static bool zone(struct slice *s, int64_t *minutes)
{
    int64_t h, m = 0;
    *minutes = 0;
    if (!s->len || take(s, 'Z') || take(s, 'z')) return s->len == 0;
    bool minus = *s->p == '-';
    if (!take(s, '+') && !take(s, '-')) return false;
    if (!digits(s, 2, &h)) return false;
    if ((take(s, ':') || s->len) && !digits(s, 2, &m)) return false;
    *minutes = (h * 60 + m) * (minus ? -1 : 1);
    return !s->len && h < 24 && m < 60;
}

static bool clock_time(struct slice *s, int64_t *ms)
{
    int64_t h, m, sec = 0, off;
    if (!digits(s, 2, &h) || !take(s, ':') || !digits(s, 2, &m)) return false;
    *ms = 0;
    if (take(s, ':') && (!digits(s, 2, &sec) || !fraction(s, ms))) return false;
    if (h > 23 || m > 59 || sec > 60 || !zone(s, &off)) return false;
    *ms += ((h * 60 + m - off) * 60 + sec) * 1000;
    return true;
}

bool time_parse(struct slice s, int64_t *ms)
{
    static const int8_t month[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int64_t y, m, d, of_day = 0;
    if (!digits(&s, 4, &y) || !take(&s, '-') || !digits(&s, 2, &m) || !take(&s, '-') ||
        !digits(&s, 2, &d) || m < 1 || m > 12)
        return false;
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    if (d < 1 || d > month[m - 1] + (leap && m == 2)) return false;
    if (s.len && ((!take(&s, 'T') && !take(&s, 't') && !take(&s, ' ')) || !clock_time(&s, &of_day)))
        return false;
    int64_t v = days_of(y, m, d) * 86400000 + of_day;
    if (v < TIME_MIN || v > TIME_MAX) return false;
    *ms = v;
    return true;
}

bool time_number(double v, int64_t *ms)
{
    if (fabs(v) < 1e11) v *= 1000;
    if (!(v >= (double)TIME_MIN && v <= (double)TIME_MAX)) return false;
    *ms = (int64_t)floor(v + 0.5);
    return true;
}

bool json_time(struct json *in, int64_t *ms)
{
    if (in->type == JSON_NUMBER) return time_number(json_number(in), ms);
    return in->type == JSON_STRING && time_parse(json_slice(in), ms);
}

int64_t time_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void print(char *p, int n, int64_t v)
{
    while (n--) p[n] = (char)('0' + v % 10), v /= 10;
}

void time_print(char out[24], int64_t ms)
{
    int64_t y, m, d;
    if (ms < TIME_MIN) ms = TIME_MIN;
    if (ms > TIME_MAX) ms = TIME_MAX;
    int64_t days = (ms - TIME_MIN) / 86400000 + TIME_MIN / 86400000, rest = ms - days * 86400000;
    date_of(days, &y, &m, &d);
    memcpy(out, "YYYY-MM-DDTHH:MM:SS.mmmZ", 24);
    print(out, 4, y), print(out + 5, 2, m), print(out + 8, 2, d);
    print(out + 11, 2, rest / 3600000), print(out + 14, 2, rest / 60000 % 60);
    print(out + 17, 2, rest / 1000 % 60), print(out + 20, 3, rest % 1000);
}

void json_put_time(struct json_out *out, int64_t ms)
{
    char s[24];
    time_print(s, ms);
    json_put_str(out, s, 24);
}

void member_text(struct json_out *out, const char *name, const char *v)
{
    json_put_key(out, name);
    json_put_text(out, v);
}

void member_int(struct json_out *out, const char *name, int64_t v)
{
    json_put_key(out, name);
    json_put_int(out, v);
}

void member_count(struct json_out *out, const char *name, uint64_t n)
{
    member_int(out, name, (int64_t)n);
}

void member_double(struct json_out *out, const char *name, double v)
{
    json_put_key(out, name);
    json_put_double(out, v);
}

void member_f32(struct json_out *out, const char *name, float v)
{
    json_put_key(out, name);
    json_put_f32(out, v);
}

void member_bool(struct json_out *out, const char *name, bool v)
{
    json_put_key(out, name);
    json_put_bool(out, v);
}

void member_open(struct json_out *out, const char *name, char bracket)
{
    json_put_key(out, name);
    json_open(out, bracket);
}

long word_index(const char *words, const char *s, size_t n)
{
    for (long i = 0; n; i++) {
        size_t len = strcspn(words, "|");
        if (len == n && !strncmp(words, s, n)) return i;
        if (!words[len]) break;
        words += len + 1;
    }
    return -1;
}

static bool is_space(uint32_t c, bool unicode)
{
    if (c == ' ' || (c >= '\t' && c <= '\r')) return true;
    return unicode && (c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
                       c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000);
}

static struct slice trim(struct slice s, bool unicode)
{
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.len;
    while (p < end) {
        const uint8_t *next = p;
        if (!is_space(utf8_get(&next), unicode)) break;
        p = next;
    }
    while (end > p) {
        const uint8_t *last = end - 1, *next;
        while (last > p && (*last & 0xc0) == 0x80) last--;
        next = last;
        if (!is_space(utf8_get(&next), unicode)) break;
        end = last;
    }
    return (struct slice){ (const char *)p, (size_t)(end - p) };
}

struct slice trim_ascii(struct slice s) { return trim(s, false); }
struct slice trim_unicode(struct slice s) { return trim(s, true); }

enum json_type json_before(struct json *in, struct slice s)
{
    json_init(in, (char *)s.p, s.len);
    in->most = JSON_DEPTH + 4;
    return json_next(in);
}

struct json json_inside(struct slice s)
{
    struct json in;
    json_before(&in, s);
    json_enter(&in);
    return in;
}

const char *hex_text(char *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 2 * n; i++) out[i] = digits[p[i / 2] >> (i % 2 ? 0 : 4) & 15];
    out[2 * n] = 0;
    return out;
}

struct slice json_compact(struct slice s)
{
    char *out = (char *)s.p;
    size_t n = 0;
    bool string = false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        if (!string && (c == ' ' || c == '\t' || c == '\n' || c == '\r')) continue;
        out[n++] = c;
        if (string && c == '\\') out[n++] = s.p[++i];
        else if (c == '"') string = !string;
    }
    return (struct slice){ s.p, n };
}

struct slice json_decoded(struct slice raw, char *room, size_t cap)
{
    struct json in;
    if (raw.len > cap) return (struct slice){ 0 };
    json_before(&in, (struct slice){ memcpy(room, raw.p, raw.len), raw.len });
    return json_slice(&in);
}
