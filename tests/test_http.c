// uses: http.c utf8.c
/* Heads, header lists, Origin and Host. The table of whole handshakes is
 * test_handshake.c. */
#include "test.h"
#include "../http.h"
#include "wire.h"

static struct http_head h;

static int request(const char *text)
{
    static char *copy;          /* slices of h point into it */
    free(copy);
    copy = (char *)bytes_copy((const uint8_t *)text, strlen(text));
    return http_request(&h, copy, strlen(text));
}

static struct slice of(const char *text)
{
    struct slice s = { text, strlen(text) };
    return s;
}

Test(http, slices_compare_by_bytes_or_without_ascii_case)
{
    static const struct { const char *a, *b; bool same, nocase; } rows[] = {
        { "", "", true, true }, { "a", "", false, false }, { "", "a", false, false },
        { "abc", "abc", true, true }, { "abc", "aBC", false, true }, { "abc", "abcd", false, false },
        { "abcd", "abc", false, false }, { "[", "{", false, false }, { "@", "`", false, false },
        { "a-Z_9", "A-z_9", false, true }, { "\xc3\xa4", "\xc3\x84", false, false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_assert_eq(slice_is(of(rows[i].a), rows[i].b), rows[i].same, "%s %s", rows[i].a, rows[i].b);
        cr_assert_eq(slice_is_nocase(of(rows[i].a), rows[i].b), rows[i].nocase, "%s %s", rows[i].a, rows[i].b);
    }
}

Test(http, slice_with_a_nul_is_not_the_shorter_text)
{
    struct slice s = { "ab\0c", 4 };
    cr_assert(!slice_is(s, "ab"));
    cr_assert(!slice_is_nocase(s, "ab"));
}

Test(http, target_is_split_into_authority_path_and_query)
{
    static const struct { const char *method, *target, *authority, *path, *query; } rows[] = {
        { "GET", "/", "", "/", "" },
        { "GET", "/a/b", "", "/a/b", "" },
        { "GET", "/a?b=c", "", "/a", "b=c" },
        { "GET", "/?", "", "/", "" },
        { "GET", "/a?b?c/d", "", "/a", "b?c/d" },
        { "GET", "//x", "", "//x", "" },
        { "GET", "http://h", "h", "/", "" },
        { "GET", "http://h/", "h", "/", "" },
        { "GET", "http://h:80/a?b", "h:80", "/a", "b" },
        { "GET", "http://h?b", "h", "/", "b" },
        { "GET", "ws+x.y-1://[::1]:5/w", "[::1]:5", "/w", "" },
        { "GET", "HTTPS://u@h/a", "u@h", "/a", "" },
        { "OPTIONS", "*", "", "*", "" },
        { "OPTIONS", "/x", "", "/x", "" },
        { "CONNECT", "h:443", "h:443", "", "" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[200];
        sprintf(text, "%s %s HTTP/1.1\r\n\r\n", rows[i].method, rows[i].target);
        cr_assert_eq(request(text), 200, "%s", rows[i].target);
        cr_assert(slice_is(h.method, rows[i].method));
        cr_assert(slice_is(h.target, rows[i].target));
        cr_assert(slice_is(h.authority, rows[i].authority), "%s", rows[i].target);
        cr_assert(slice_is(h.path, rows[i].path), "%s", rows[i].target);
        cr_assert(slice_is(h.query, rows[i].query), "%s", rows[i].target);
        cr_assert_eq(h.n, 0u);
        cr_assert_eq(h.size, strlen(text));
    }
}

Test(http, headers_come_in_order_and_trimmed)
{
    cr_assert_eq(request("GET / HTTP/1.0\r\nA: b\r\nC:\t d e \t\r\nF:\r\nA:  \r\n\r\nbody"), 200);
    static const char *const want[][2] = { { "A", "b" }, { "C", "d e" }, { "F", "" }, { "A", "" } };
    cr_assert_eq(h.n, 4u);
    cr_assert_eq(h.minor, 0);
    for (size_t i = 0; i < 4; i++) {
        cr_assert(slice_is(h.header[i].name, want[i][0]));
        cr_assert(slice_is(h.header[i].value, want[i][1]), "%zu", i);
    }
    cr_assert_eq(http_find(&h, "a"), &h.header[0]);
    cr_assert_eq(http_find(&h, "C"), &h.header[1]);
    cr_assert_null(http_find(&h, "B"));
    cr_assert_null(http_find(&h, ""));
}

Test(http, length_beside_encoding_is_refused_as_smuggling)
{
    cr_assert_eq(request("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    cr_assert_eq(request("POST / HTTP/1.1\r\ntransfer-encoding: x\r\nCONTENT-LENGTH: 0\r\n\r\n"), 400);
    cr_assert_eq(request("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), 200);
}

Test(http, head_that_is_not_whole_is_refused)
{
    cr_assert_eq(request(""), 400);
    cr_assert_eq(request("GET / HTTP/1.1\r\nA: b\r\n"), 400);
    cr_assert_eq(h.n, 0u);
}

Test(http, response_is_read_with_its_status)
{
    static const char text[] = "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\n\r\nmore";
    cr_assert_eq(http_response(&h, text, sizeof text - 1), 200);
    cr_assert_eq(h.status, 426);
    cr_assert_eq(h.minor, 1);
    cr_assert_eq(h.size, sizeof text - 1 - 4);
    cr_assert(slice_is(http_find(&h, "sec-websocket-version")->value, "13"));
}

Test(http, items_of_a_list_come_from_all_its_lines)
{
    static const char *const want[] = { "a", "b c", "d", "e" };
    cr_assert_eq(request("GET / HTTP/1.1\r\nL: a , b c,\r\nX: no\r\nl:\t\r\nL: ,,d,\te\t,\r\n\r\n"), 200);
    size_t pos = 0;
    for (size_t i = 0; i < 4; i++) {
        struct slice item = http_item(&h, "L", &pos);
        cr_assert(slice_is(item, want[i]), "%.*s, not %s", (int)item.len, item.p, want[i]);
    }
    cr_assert_eq(http_item(&h, "L", &pos).len, 0u);
    cr_assert_eq(http_item(&h, "L", &pos).len, 0u);
    pos = 0;
    cr_assert_eq(http_item(&h, "M", &pos).len, 0u);
    cr_assert(http_has_token(&h, "L", "D"));
    cr_assert(http_has_token(&h, "l", "b c"));
    cr_assert(!http_has_token(&h, "L", "b"));
    cr_assert(!http_has_token(&h, "X", "a"));
}

Test(http, body_is_announced_by_length_or_encoding)
{
    static const struct { const char *headers; bool body; } rows[] = {
        { "", false }, { "Content-Length: 0\r\n", false }, { "Content-Length: 0000\r\n", false },
        { "Content-Length: 1\r\n", true }, { "Content-Length: 0010\r\n", true },
        { "content-length: 18446744073709551616\r\n", true }, { "Transfer-Encoding: chunked\r\n", true },
        { "transfer-encoding:\r\n", true }, { "TE: trailers\r\n", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[200];
        sprintf(text, "GET / HTTP/1.1\r\n%s\r\n", rows[i].headers);
        cr_assert_eq(request(text), 200, "%s", text);
        cr_assert_eq(http_has_body(&h), rows[i].body, "%s", rows[i].headers);
    }
}

struct host_row { const char *text; bool valid; const char *host; int port; };

static const struct host_row hosts[] = {
    { "localhost", true, "localhost", 0 },
    { "LOCALHOST:5000", true, "LOCALHOST", 5000 },
    { "localhost.", true, "localhost", 0 },
    { "localhost.:80", true, "localhost", 80 },
    { "a.b-c.d_e.9", true, "a.b-c.d_e.9", 0 },
    { "127.0.0.1:1", true, "127.0.0.1", 1 },
    { "127.0.0.1.", true, "127.0.0.1", 0 },
    { "h:65535", true, "h", 65535 },
    { "h:00080", true, "h", 80 },
    { "[::1]", true, "[::1]", 0 },
    { "[::1]:5005", true, "[::1]", 5005 },
    { "[2001:DB8::a.0]:1", true, "[2001:DB8::a.0]", 1 },
    { "[fe80::1%eth0]", false, "", 0 },
    { "", false, "", 0 },
    { ".", false, "", 0 },
    { "..", false, "", 0 },
    { "localhost..", false, "", 0 },
    { ".localhost", false, "", 0 },
    { "a..b", false, "", 0 },
    { ":80", false, "", 0 },
    { ".:80", false, "", 0 },
    { "h:", false, "", 0 },
    { "h:65536", false, "", 0 },
    { "h:99999", false, "", 0 },
    { "h:000080", false, "", 0 },
    { "h:100000", false, "", 0 },
    { "h:8 ", false, "", 0 },
    { "h:-8", false, "", 0 },
    { "h:+8", false, "", 0 },
    { "h:8:8", false, "", 0 },
    { "h:http", false, "", 0 },
    { "u@h", false, "", 0 },
    { "u:p@h", false, "", 0 },
    { "h/", false, "", 0 },
    { "h?", false, "", 0 },
    { "h#", false, "", 0 },
    { "h h", false, "", 0 },
    { "h,h", false, "", 0 },
    { "h%2e", false, "", 0 },
    { "h\\", false, "", 0 },
    { "\xc3\xa4", false, "", 0 },
    { "*", false, "", 0 },
    { "::1", false, "", 0 },
    { "[::1", false, "", 0 },
    { "[]", false, "", 0 },
    { "[:]", false, "", 0 },
    { "[::1]x", false, "", 0 },
    { "[::1]:", false, "", 0 },
    { "[::1].", false, "", 0 },
    { "[::1]:65536", false, "", 0 },
    { "[g::1]", false, "", 0 },
    { "[[::1]]", false, "", 0 },
    { "]", false, "", 0 },
    { "[", false, "", 0 },
};

Test(http_host, forms_are_told_apart_strictly)
{
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct http_origin o;
        size_t n = strlen(hosts[i].text);
        char *copy = (char *)bytes_copy((const uint8_t *)hosts[i].text, n);
        struct slice s = { copy, n };
        bool valid = http_host(&o, s);
        cr_assert_eq(valid, hosts[i].valid, "%s", hosts[i].text);
        if (valid) {
            cr_assert(slice_is(o.host, hosts[i].host), "%s", hosts[i].text);
            cr_assert_eq(o.port, hosts[i].port, "%s", hosts[i].text);
            cr_assert_eq(o.scheme.len, 0u);
        }
        free(copy);
    }
}

/* Whatever is a host is an origin behind a scheme, and nothing else is. */
Test(http_origin, host_part_follows_the_rules_of_host)
{
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct http_origin o;
        char text[100];
        sprintf(text, "https://%s", hosts[i].text);
        cr_assert_eq(http_origin(&o, of(text)), hosts[i].valid, "%s", text);
        if (!hosts[i].valid) continue;
        cr_assert(slice_is(o.scheme, "https"));
        cr_assert(slice_is(o.host, hosts[i].host), "%s", text);
        cr_assert_eq(o.port, hosts[i].port);
    }
}

Test(http_origin, scheme_and_separator_are_needed)
{
    static const struct { const char *text; bool valid; } rows[] = {
        { "http://h", true }, { "HTTP://h", true }, { "a+b-c.1://h", true }, { "null", false }, { "", false },
        { "http", false }, { "http:", false }, { "http:/", false }, { "http:/h", false }, { "http:h", false },
        { "http:///h", false }, { "://h", false }, { "//h", false }, { "1http://h", false }, { "-a://h", false },
        { "ht_tp://h", false }, { " http://h", false }, { "http://h ", false }, { "http ://h", false },
        { "http://h:0", false }, { "http://h0", true }, { "http://h0.", true }, { "http://h:00000", false },
        { "http://h.:0", false }, { "http:\\\\h", false }, { "http://h/", false }, { "http://[::1]:0", false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_origin o;
        cr_assert_eq(http_origin(&o, of(rows[i].text)), rows[i].valid, "%s", rows[i].text);
    }
}

Test(http_host, port_0_may_be_named_to_a_server)
{
    struct http_origin o;
    cr_assert(http_host(&o, of("localhost:0")));
    cr_assert_eq(o.port, 0);
}

/* Every single octet where it may and where it may not stand. */
Test(http, every_octet_is_judged_in_method_target_name_and_value)
{
    for (int c = 0; c < 256; c++) {
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool token = alnum || (c && strchr("!#$%&'*+-.^_`|~", c));
        struct { const char *before, *behind; bool valid; } rows[] = {
            { "G", "T / HTTP/1.1\r\n\r\n", token },
            { "GET /", " HTTP/1.1\r\n\r\n", c > 0x20 && c < 0x7f && c != '#' },
            { "GET / HTTP/1.1\r\nX", "Y: a\r\n\r\n", token || c == ':' },
            { "GET / HTTP/1.1\r\nX: a", "b\r\n\r\n", c == '\t' || (c >= 0x20 && c != 0x7f) },
        };
        for (size_t i = 0; i < 4; i++) {
            char text[100];
            size_t a = strlen(rows[i].before), b = strlen(rows[i].behind);
            memcpy(text, rows[i].before, a);
            text[a] = (char)c;
            memcpy(text + a + 1, rows[i].behind, b);
            int status = http_request(&h, text, a + 1 + b);
            cr_assert_eq(status, rows[i].valid ? 200 : 400, "%s%02x: %d", rows[i].before, c, status);
        }
    }
}
