#include "servers/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "number.h"
#include "servers/values.h"

#define LOG_LINE 4096   /* bytes of one line; what is longer is cut */

static struct {
    enum log_level level;
    bool     as_json, on;
    size_t   len, line;      /* filled; start of the line being written */
    uint64_t lost;
} lg = { .level = LOG_INFO };

static char buf[32768];

static const char *const names[] = { "error", "warn", "info", "debug" };
static const char *const upper[] = { "ERROR", "WARN", "INFO", "DEBUG" };

void log_open(enum log_level level, bool as_json)
{
    lg.level = level;
    lg.as_json = as_json;
}

bool log_on(enum log_level level) { return level <= lg.level; }

static size_t room(void)
{
    size_t left = sizeof buf - lg.len, line = LOG_LINE - (lg.len - lg.line);
    return left < line ? left : line;
}

static void put(const char *s, size_t n)
{
    if (n > room()) n = room();
    memcpy(buf + lg.len, s, n);
    lg.len += n;
}

static void put_text(const char *s) { put(s, strlen(s)); }

/* A JSON string, or nothing where the line has no room for it. Bytes that are no UTF-8
 * cannot stand in JSON: they become question marks. */
static void put_json(struct slice s)
{
    char clean[1024];
    size_t n = s.len < sizeof clean ? s.len : sizeof clean;
    bool valid = utf8_valid((const uint8_t *)s.p, n);
    for (size_t i = 0; i < n; i++)
        clean[i] = valid || (unsigned char)s.p[i] < 128 ? s.p[i] : '?';
    struct json_out out = json_out(buf + lg.len, room() > 64 ? room() - 64 : 0);
    json_put_str(&out, clean, n);
    if (out.full) put_text("\"\"");
    else lg.len += out.len;
}

void log_begin(enum log_level level, const char *endpoint, const char *message)
{
    lg.on = log_on(level);
    if (!lg.on) return;
    if (sizeof buf - lg.len < LOG_LINE) log_flush();
    if (sizeof buf - lg.len < LOG_LINE) { lg.lost++; lg.on = false; return; }
    lg.line = lg.len;
    if (!*endpoint) endpoint = "recalld";
    char time[24];
    time_print(time, time_now());
    if (lg.as_json) put_text("{\"time\":\"");
    put(time, sizeof time);
    put_text(lg.as_json ? "\",\"level\":\"" : " ");
    put_text(lg.as_json ? names[level] : upper[level]);
    put_text(lg.as_json ? "\",\"endpoint\":\"" : " ");
    put_text(endpoint);
    put_text(lg.as_json ? "\",\"message\":" : " ");
    if (lg.as_json) put_json((struct slice){ message, strlen(message) });
    else put_text(message);
}

static void put_key(const char *key)
{
    put_text(lg.as_json ? ",\"" : " ");
    put_text(key);
    put_text(lg.as_json ? "\":" : "=");
}

/* Text form: as it is when nothing in it could be mistaken, else quoted, with
 * every byte outside printable ASCII written \xNN. */
static void put_quoted(struct slice s)
{
    bool plain = s.len > 0;
    for (size_t i = 0; plain && i < s.len; i++)
        plain = s.p[i] > ' ' && s.p[i] < 127 && s.p[i] != '"' && s.p[i] != '\\' && s.p[i] != '=';
    if (plain) { put(s.p, s.len); return; }
    put_text("\"");
    for (size_t i = 0; i < s.len && room() > 8; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char hex[8];
        if (c == '"' || c == '\\') put((char[]){ '\\', (char)c }, 2);
        else if (c >= ' ' && c < 127) put((char[]){ (char)c }, 1);
        else { snprintf(hex, sizeof hex, "\\x%02x", c); put(hex, 4); }
    }
    put_text("\"");
}

void log_str(const char *key, struct slice value)
{
    if (!lg.on) return;
    if (value.len > 200) value.len = 200;
    put_key(key);
    if (lg.as_json) put_json(value);
    else put_quoted(value);
}

void log_json(const char *key, struct slice value)
{
    if (!lg.on) return;
    put_key(key);
    if (value.len + 2 < room()) put(value.p, value.len);
    else put_text("null");
}

void log_text(const char *key, const char *value)
{
    log_str(key, (struct slice){ value, strlen(value) });
}

void log_int(const char *key, int64_t value)
{
    if (!lg.on) return;
    char s[NUMBER_ROOM];
    size_t n = number_put_int(s, value);
    put_key(key);
    put(s, n);
}

void log_num(const char *key, double value, int decimals)
{
    if (!lg.on) return;
    char s[64];
    put_key(key);
    int n = snprintf(s, sizeof s, "%.*f", decimals, value);
    put(s, n < (int)sizeof s ? (size_t)n : sizeof s - 1);
}

void log_end(void)
{
    if (!lg.on) return;
    lg.on = false;
    size_t end = lg.line + LOG_LINE - 2;      /* always room for the end of the line */
    if (lg.len > end) lg.len = end;
    if (lg.as_json) buf[lg.len++] = '}';
    buf[lg.len++] = '\n';
}

void log_clean(char *p, size_t n, bool lines)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        bool kept = lines && (c == '\n' || c == '\t');
        if ((c < ' ' && !kept) || c == 127) p[i] = '?';
        /* U+0080 to U+009F: terminals take U+009B for ESC [. */
        if (c == 0xc2 && i + 1 < n && (p[i + 1] & 0xe0) == 0x80) p[i] = p[i + 1] = '?';
    }
}

void log_say(enum log_level level, const char *endpoint, const char *fmt, ...)
{
    if (!log_on(level)) return;
    char s[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    log_clean(s, strlen(s), false);
    log_begin(level, endpoint, s);
    log_end();
}

void log_flush(void)
{
    struct pollfd p = { .fd = 2, .events = POLLOUT };
    while (lg.len && poll(&p, 1, 0) == 1 && (p.revents & POLLOUT)) {
        /* A pipe that polls writable takes 4,096 bytes (PIPE_BUF) without waiting. */
        ssize_t n = write(2, buf, lg.len < 4096 ? lg.len : 4096);
        if (n <= 0) break;
        memmove(buf, buf + n, lg.len - (size_t)n);
        lg.len -= (size_t)n;
    }
    if (p.revents & (POLLERR | POLLNVAL)) lg.len = 0;   /* nobody will ever read it */
    if (lg.lost && sizeof buf - lg.len > 2 * LOG_LINE) {
        uint64_t lost = lg.lost;
        lg.lost = 0;
        log_say(LOG_WARN, "", "log lines lost, the reader of stderr is slow lost=%llu",
                (unsigned long long)lost);
    }
}

int fault_set(struct fault *f, int exit_status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->why, sizeof f->why, fmt, ap);
    va_end(ap);
    log_clean(f->why, strlen(f->why), false);
    f->exit = exit_status;
    return -1;
}
