// uses: servers/log.c servers/values.c json.c number.c base64.c utf8.c
#include "json.h"
#include "servers/log.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a function writes to stderr. */
static const char *caught(void (*run)(void))
{
    static char text[65536];
    int p[2], old = dup(2);
    cr_assert(!pipe2(p, O_NONBLOCK));
    dup2(p[1], 2);
    run();
    log_flush();
    dup2(old, 2);
    close(old), close(p[1]);
    ssize_t n = read(p[0], text, sizeof text - 1);
    close(p[0]);
    text[n > 0 ? n : 0] = 0;
    return text;
}

static void a_line(void)
{
    log_begin(LOG_WARN, "memory", "connection refused");
    log_text("peer", "127.0.0.1:80");
    log_int("status", 403);
    log_num("ms", 1.5, 3);
    log_str("value", (struct slice){ "a b\"\\\x01\xff\n", 8 });
    log_end();
}

Test(log_text, time_level_endpoint_message_and_keys)
{
    log_open(LOG_INFO, false);
    const char *s = caught(a_line);
    cr_assert_eq(strlen(strtok((char *)s, " ")), 24);
    cr_assert_str_eq(s + 25, "WARN memory connection refused peer=127.0.0.1:80 status=403 ms=1.500 "
                             "value=\"a b\\\"\\\\\\x01\\xff\\x0a\"\n");
}

Test(log_json, a_line_is_one_object)
{
    size_t at;
    log_open(LOG_INFO, true);
    const char *s = caught(a_line);
    cr_assert(!json_check(s, strlen(s), &at), "%s", s);
    cr_assert(strstr(s, "\"level\":\"warn\",\"endpoint\":\"memory\",\"message\":\"connection refused\""));
    cr_assert(strstr(s, "\"status\":403,\"ms\":1.500"));
}

static void below_level(void)
{
    log_say(LOG_DEBUG, "", "hidden");
    log_begin(LOG_DEBUG, "", "hidden");
    log_int("hidden", 1);
    log_end();
}

Test(log_level, what_is_below_the_level_is_not_written)
{
    log_open(LOG_INFO, false);
    cr_assert(log_on(LOG_ERROR) && log_on(LOG_INFO) && !log_on(LOG_DEBUG));
    cr_assert_str_eq(caught(below_level), "");
}

static void huge(void)
{
    static char big[5000];
    memset(big, 'x', sizeof big);
    log_begin(LOG_INFO, "memory", "m");
    for (int i = 0; i < 40; i++) log_str("key", (struct slice){ big, sizeof big });
    log_end();
    log_say(LOG_INFO, "", "next");
}

Test(log_text, a_long_line_is_cut_and_the_next_one_whole)
{
    for (int json = 0; json < 2; json++) {
        log_open(LOG_INFO, json);
        const char *s = caught(huge), *end = strchr(s, '\n');
        cr_assert(end && end - s <= 4096);
        cr_assert(strstr(end, "next"), "%s", end);
    }
}

static void flood(void)
{
    for (int i = 0; i < 5000; i++) log_say(LOG_INFO, "memory", "line %d of a flood that nobody reads in time", i);
}

Test(log_flush, a_reader_that_does_not_read_costs_lines_and_no_time)
{
    log_open(LOG_INFO, false);
    int p[2], old = dup(2);
    cr_assert(!pipe2(p, 0));
    dup2(p[1], 2);
    flood();                             /* would block for ever if it waited */
    char drop[4097];
    bool told = false;
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    for (int i = 0; i < 40; i++) {
        for (ssize_t n; (n = read(p[0], drop, sizeof drop - 1)) > 0;) {
            drop[n] = 0;
            told |= strstr(drop, "lines lost") != NULL;
        }
        log_flush();
    }
    dup2(old, 2);
    close(old);
    cr_assert(told);
}

Test(log_fault, holds_the_exit_status_and_the_sentence)
{
    struct fault f;
    cr_assert_eq(fault_set(&f, 65, "bad %s", "file"), -1);
    cr_assert_eq(f.exit, 65);
    cr_assert_str_eq(f.why, "bad file");
}

Test(log_fault, is_one_line_whatever_is_in_it)
{
    struct fault f;
    fault_set(&f, 65, "%s: no such file", "a\nb\x1b[2J\x7f/caf\xc3\xa9");
    cr_assert_str_eq(f.why, "a?b?[2J?/caf\xc3\xa9: no such file");
    fault_set(&f, 65, "%s", "\xc2\x9b" "31m \xc2\xa9");
    cr_assert_str_eq(f.why, "??31m \xc2\xa9");
}
