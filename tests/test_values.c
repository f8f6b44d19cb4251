// uses: servers/values.c json.c number.c base64.c utf8.c
#include "servers/values.h"
#include "test.h"

#include <string.h>

static struct slice str(const char *s) { return (struct slice){ s, strlen(s) }; }

static const struct { const char *text; int64_t ms; } times[] = {
    { "1970-01-01T00:00:00.000Z", 0 },
    { "1970-01-01", 0 },
    { "1970-01-01T00:00Z", 0 },
    { "1970-01-01T00:00:00", 0 },
    { "2026-11-25T02:33:14.123Z", 1795573994123 },
    { "2026-11-25t02:33:14.123z", 1795573994123 },
    { "2026-11-25 02:33:14.123", 1795573994123 },
    { "2026-11-25T02:33:14,123456789Z", 1795573994123 },
    { "2026-11-25T03:33:14.123+01:00", 1795573994123 },
    { "2026-11-24T21:03:14.123-0530", 1795573994123 },
    { "2026-11-25T03:33:14.123+01", 1795573994123 },
    { "2000-02-29T12:00:00Z", 951825600000 },
    { "1969-12-31T23:59:59.999Z", -1 },
    { "0000-01-01T00:00:00Z", -62167219200000 },
    { "9999-12-31T23:59:59.999Z", 253402300799999 },
    { "2016-12-31T23:59:60Z", 1483228800000 },
};

Test(values_time, what_rfc_3339_allows_is_read)
{
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        int64_t ms = 77;
        cr_assert(time_parse(str(times[i].text), &ms), "%s", times[i].text);
        cr_assert_eq(ms, times[i].ms, "%s gives %lld", times[i].text, (long long)ms);
    }
}

static const char *const no_times[] = {
    "", "2026", "2026-11", "2026-11-2", "26-11-25", "2026-13-01", "2026-00-01", "2026-11-00", "2026-11-31",
    "2025-02-29", "1900-02-29", "2026-11-25T", "2026-11-25T02", "2026-11-25T02:", "2026-11-25T24:00:00Z",
    "2026-11-25T02:60:00Z", "2026-11-25T02:33:61Z", "2026-11-25T02:33:14.Z", "2026-11-25T02:33:14.1x",
    "2026-11-25T02:33:14ZZ", "2026-11-25T02:33:14+24:00", "2026-11-25T02:33:14+1", "2026-11-25T02:33:14+01:60",
    "2026-11-25X02:33:14Z", " 2026-11-25", "2026-11-25 ", "yesterday", "-001-01-01", "0000-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59-01:00", "2026/11/25", "2026-11-25T2:33:14Z", "2026-11-25T02:33:14+01:",
};

Test(values_time, anything_else_is_none)
{
    for (size_t i = 0; i < sizeof no_times / sizeof *no_times; i++) {
        int64_t ms;
        cr_assert(!time_parse(str(no_times[i]), &ms), "%s", no_times[i]);
    }
}

Test(values_time, seconds_below_1e11_milliseconds_above)
{
    int64_t ms;
    cr_assert(time_number(1700000000, &ms) && ms == 1700000000000);
    cr_assert(time_number(1700000000.5, &ms) && ms == 1700000000500);
    cr_assert(time_number(1700000000000, &ms) && ms == 1700000000000);
    cr_assert(time_number(99999999999.0, &ms) && ms == 99999999999000);
    cr_assert(time_number(100000000000.0, &ms) && ms == 100000000000);
    cr_assert(time_number(0, &ms) && ms == 0);
    cr_assert(time_number(-1, &ms) && ms == -1000);
    cr_assert(!time_number(1e15, &ms));
    cr_assert(!time_number(-1e15, &ms));
}

Test(values_time, what_is_printed_is_read_again)
{
    uint64_t seed = 1;
    for (int i = 0; i < 100000; i++) {
        char s[24];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int64_t ms = (int64_t)(seed >> 16) % 315569520000000 - 62167219200000, again;
        time_print(s, ms);
        cr_assert(time_parse((struct slice){ s, 24 }, &again) && again == ms, "%.24s of %lld", s, (long long)ms);
    }
    char s[24];
    time_print(s, INT64_MAX);
    cr_assert(!memcmp(s, "9999-12-31T23:59:59.999Z", 24));
    time_print(s, INT64_MIN);
    cr_assert(!memcmp(s, "0000-01-01T00:00:00.000Z", 24));
}

static const struct { const char *text, *ascii, *unicode; } trims[] = {
    { "", "", "" },
    { "a", "a", "a" },
    { " \t\n\v\f\r a b \t\n\v\f\r ", "a b", "a b" },
    { " \t ", "", "" },
    { "\xc2\xa0x\xe3\x80\x80", "\xc2\xa0x\xe3\x80\x80", "x" },
    { "\xe2\x80\x8bx", "\xe2\x80\x8bx", "\xe2\x80\x8bx" },     /* U+200B is no white space */
    { "\xc2\x85\xe1\x9a\x80\xe2\x80\x80\xe2\x80\x8a\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaf\xe2\x81\x9f", NULL, "" },
    { "x\xc3\xa9 ", "x\xc3\xa9", "x\xc3\xa9" },
};

Test(values_trim, white_space_around_goes_and_nothing_else)
{
    for (size_t i = 0; i < sizeof trims / sizeof *trims; i++) {
        struct slice a = trim_ascii(str(trims[i].text)), u = trim_unicode(str(trims[i].text));
        const char *ascii = trims[i].ascii ? trims[i].ascii : trims[i].text;
        cr_assert(a.len == strlen(ascii) && !memcmp(a.p, ascii, a.len), "row %zu", i);
        cr_assert(u.len == strlen(trims[i].unicode) && !memcmp(u.p, trims[i].unicode, u.len), "row %zu", i);
    }
    struct slice nul = trim_ascii((struct slice){ " \0 ", 3 });
    cr_assert_eq(nul.len, 1, "U+0000 is kept");
}

static const struct { const char *raw; size_t len; } strings[] = {
    { "\"\"", 0 }, { "\"abc\"", 3 }, { "\"\\n\\\"\\\\\"", 3 }, { "\"\\u0041\"", 1 }, { "\"\\u00e9\"", 2 },
    { "\"\\u20AC\"", 3 }, { "\"\\ud83d\\ude00\"", 4 }, { "\"\xe2\x82\xac\"", 3 }, { "\"\\u0000x\"", 2 },
};

Test(values_json, a_string_is_decoded_in_a_copy_if_there_is_room)
{
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        char room[64];
        struct slice raw = str(strings[i].raw), s = json_decoded(raw, room, raw.len);
        cr_assert(s.p && s.len == strings[i].len, "%s", strings[i].raw);
        cr_assert_null(json_decoded(raw, room, raw.len - 1).p, "%s", strings[i].raw);
    }
}
