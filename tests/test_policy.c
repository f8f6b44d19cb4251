// uses: servers/policy.c servers/net.c servers/log.c servers/values.c http.c json.c number.c base64.c utf8.c
#include "servers/policy.h"
#include "test.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct options options;
static struct policy policy;
static struct net_address local;
static char request[HTTP_MAX_HEAD];
static struct http_head head;

static void setup(void)
{
    struct fault f;
    memset(&options, 0, sizeof options);
    memset(&policy, 0, sizeof policy);
    policy.options = &options;
    policy.ports[0] = 5000, policy.ports[1] = 5005;
    net_parse(&local, "127.0.0.1", 5000);
    cr_assert(!policy_load(&policy, &options, &f));
}

static const struct http_head *get(const char *target, const char *lines)
{
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n%s\r\n", target, lines);
    cr_assert_eq(http_request(&head, request, (size_t)n), 200, "%s", request);
    return &head;
}

static int host_of(const char *host)
{
    char lines[512];
    snprintf(lines, sizeof lines, "Host: %s\r\n", host);
    return policy_host(&policy, get("/", lines), &local).status;
}

static int origin_of(const char *origin)
{
    char lines[512];
    snprintf(lines, sizeof lines, "Host: localhost\r\nOrigin: %s\r\n", origin);
    return policy_origin(&policy, get("/", lines), &local).status;
}

static const struct { const char *host; int status; } hosts[] = {
    { "localhost", 0 }, { "LOCALHOST", 0 }, { "localhost.", 0 }, { "localhost:5000", 0 }, { "localhost.:9", 0 },
    { "127.0.0.1", 0 }, { "127.0.0.1:5000", 0 }, { "[::1]", 0 }, { "[::1]:5000", 0 },
    { "evil.com", 403 }, { "localhost.evil.com", 403 }, { "evil.localhost", 403 }, { "127.0.0.2", 403 },
    { "127.1", 403 }, { "2130706433", 403 }, { "0x7f000001", 403 }, { "0.0.0.0", 403 }, { "[::]", 403 },
    { "[::ffff:127.0.0.1]", 0 }, { "192.168.1.5", 403 }, { "", 400 }, { "local host", 400 }, { "a@localhost", 400 },
    { "localhost:", 400 }, { "localhost:65536", 400 }, { "localhost:x", 400 }, { "::1", 400 },
};

Test(policy_host, only_loopback_names_and_the_address_that_was_reached)
{
    setup();
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        cr_assert_eq(host_of(hosts[i].host), hosts[i].status, "%s: %d", hosts[i].host, host_of(hosts[i].host));
    cr_assert_eq(policy_host(&policy, get("/", "X: y\r\n"), &local).status, 400, "no Host");
}

Test(policy_host, on_another_interface_its_address)
{
    setup();
    net_parse(&local, "192.168.1.5", 5000);
    cr_assert_eq(host_of("192.168.1.5:5000"), 0);
    cr_assert_eq(host_of("192.168.1.6:5000"), 403);
    cr_assert_eq(host_of("0.0.0.0:5000"), 403);
}

Test(policy_host, listed_names_are_allowed_in_any_case_with_any_port)
{
    setup();
    options.hosts = (struct options_list){ { "board.lan", "other.lan:8080" }, 2, 78, 0 };
    cr_assert_eq(host_of("Board.LAN:1"), 0);
    cr_assert_eq(host_of("board.lan."), 0);
    cr_assert_eq(host_of("xboard.lan"), 403);
    cr_assert_eq(host_of("other.lan:8080"), 0);
    cr_assert_eq(host_of("other.lan:8081"), 403);
}

Test(policy_host, the_refusal_names_header_value_and_flag)
{
    setup();
    struct verdict v = policy_host(&policy, get("/", "Host: evil.com:5000\r\n"), &local);
    cr_assert_str_eq(v.header, "Host");
    cr_assert_str_eq(v.flag, "--allow-host");
    cr_assert(slice_is(v.value, "evil.com:5000"));
}

Test(policy_host, an_absolute_target_counts_before_the_header)
{
    setup();
    cr_assert_eq(policy_host(&policy, get("http://evil.com/", "Host: localhost\r\n"), &local).status, 403);
    cr_assert_eq(policy_host(&policy, get("http://localhost/", "Host: localhost\r\n"), &local).status, 0);
}

static const struct { const char *origin; int status; } origins[] = {
    { "http://localhost", 0 }, { "https://localhost", 0 }, { "http://localhost:8080", 0 }, { "HTTP://LocalHost:1", 0 },
    { "http://127.0.0.1:3000", 0 }, { "https://[::1]:3000", 0 },
    { "http://localhost.evil.com", 403 }, { "http://localhost@evil.com", 403 }, { "http://evil.com", 403 },
    { "http://evil.com:5000", 403 }, { "http://127.0.0.1.evil.com", 403 }, { "http://127.0.0.2", 403 },
    { "null", 403 }, { "*", 403 }, { "file://", 403 }, { "ftp://localhost", 403 }, { "localhost", 403 },
    { "http://localhost/", 403 }, { "http://localhost:99999", 403 }, { "http://localhost http://evil.com", 403 },
    { "chrome-extension://abcdef", 403 }, { "http://", 403 }, { "http://xlocalhost", 403 },
};

Test(policy_origin, loopback_pages_and_nobody_else)
{
    setup();
    for (size_t i = 0; i < sizeof origins / sizeof *origins; i++)
        cr_assert_eq(origin_of(origins[i].origin), origins[i].status, "%s", origins[i].origin);
    cr_assert_eq(policy_origin(&policy, get("/", "Host: localhost\r\n"), &local).status, 0, "a program has none");
}

Test(policy_origin, listed_ones_are_compared_as_scheme_host_and_port)
{
    setup();
    options.origins = (struct options_list){ { "https://app.example", "http://b.example:8080" }, 2, 78, 0 };
    cr_assert_eq(origin_of("https://app.example"), 0);
    cr_assert_eq(origin_of("https://app.example:443"), 0);
    cr_assert_eq(origin_of("HTTPS://APP.example"), 0);
    cr_assert_eq(origin_of("http://app.example"), 403);
    cr_assert_eq(origin_of("https://app.example:444"), 403);
    cr_assert_eq(origin_of("https://app.example.evil.com"), 403);
    cr_assert_eq(origin_of("http://b.example:8080"), 0);
    cr_assert_eq(origin_of("http://b.example"), 403);
    cr_assert_eq(origin_of("null"), 403);
}

Test(policy_origin, null_and_star_are_asked_for_by_name)
{
    setup();
    options.origins = (struct options_list){ { "null" }, 1, 78, 0 };
    cr_assert_eq(origin_of("null"), 0);
    cr_assert_eq(origin_of("http://evil.com"), 403);
    options.origins = (struct options_list){ { "*" }, 1, 78, 0 };
    cr_assert_eq(origin_of("http://evil.com"), 0);
}

Test(policy_origin, the_page_that_we_served_may_come_back)
{
    setup();
    options.hosts = (struct options_list){ { "board.lan" }, 1, 78, 0 };
    cr_assert_eq(origin_of("http://board.lan:5000"), 0);
    cr_assert_eq(origin_of("http://board.lan:5005"), 0);
    cr_assert_eq(origin_of("http://board.lan:5006"), 403);
    cr_assert_eq(origin_of("http://board.lan"), 403);
    cr_assert_eq(origin_of("http://evil.lan:5000"), 403);
}

static int load_token(const char *text, size_t len)
{
    char path[] = "/tmp/recalld-policy-XXXXXX";
    struct fault f;
    int fd = mkstemp(path);
    cr_assert_eq(write(fd, text, len), (ssize_t)len);
    close(fd);
    options.token_file = path;
    int bad = policy_load(&policy, &options, &f);
    unlink(path);
    options.token_file = NULL;
    return bad ? f.exit : 0;
}

static int token(const char *target, const char *lines)
{
    char all[512];
    snprintf(all, sizeof all, "Host: localhost\r\n%s", lines);
    return policy_token(&policy, get(target, all)).status;
}

Test(policy_token, three_ways_in_and_none_with_a_wrong_one)
{
    setup();
    cr_assert_eq(token("/", ""), 0, "none is wanted");
    cr_assert_eq(load_token("s3cret+x\n", 9), 0);
    cr_assert_eq(token("/", ""), 401);
    cr_assert_eq(token("/", "Authorization: Bearer s3cret+x\r\n"), 0);
    cr_assert_eq(token("/", "Authorization: bearer s3cret+x\r\n"), 0);
    cr_assert_eq(token("/", "Authorization: Bearer s3cret+y\r\n"), 401);
    cr_assert_eq(token("/", "Authorization: Bearer s3cret+\r\n"), 401);
    cr_assert_eq(token("/", "Authorization: Bearer s3cret+xx\r\n"), 401);
    cr_assert_eq(token("/", "Authorization: Basic s3cret+x\r\n"), 401);
    cr_assert_eq(token("/", "Sec-WebSocket-Protocol: a, bearer.s3cret+x\r\n"), 0);
    cr_assert_eq(token("/", "Sec-WebSocket-Protocol: bearer.s3cret\r\n"), 401);
    cr_assert_eq(token("/?a=b&token=s3cret+x", ""), 0);
    cr_assert_eq(token("/?token=s3cret%2Bx&c", ""), 0);
    cr_assert_eq(token("/?token=s3cret%2bx", ""), 0);
    cr_assert_eq(token("/?token=", ""), 401);
    cr_assert_eq(token("/?xtoken=s3cret+x", ""), 401);
}

Test(policy_token, the_bearer_that_let_in_is_the_one_to_echo)
{
    setup();
    cr_assert_eq(load_token("T", 1), 0);
    const struct http_head *h = get("/", "Host: localhost\r\nSec-WebSocket-Protocol: bearer.X, bearer.T\r\n");
    cr_assert(slice_is(policy_bearer(&policy, h), "bearer.T"));
    h = get("/", "Host: localhost\r\nSec-WebSocket-Protocol: bearer.X\r\n");
    cr_assert_eq(policy_bearer(&policy, h).len, 0);
}

Test(policy_token, a_bad_token_file_is_a_configuration_fault_and_changes_nothing)
{
    setup();
    cr_assert_eq(load_token("good", 4), 0);
    cr_assert_eq(load_token("", 0), 78);
    cr_assert_eq(load_token("two words", 9), 78);
    cr_assert_eq(load_token("comma,", 6), 78);
    char big[400];
    memset(big, 'x', sizeof big);
    cr_assert_eq(load_token(big, sizeof big), 78);
    cr_assert_eq(load_token(big, 255), 0);
    cr_assert_eq(load_token("bad token", 9), 78);
    cr_assert_eq(policy.token_len, 255);
    struct fault f;
    options.token_file = "/nowhere/at/all";
    cr_assert(policy_load(&policy, &options, &f) && f.exit == 78);
}

Test(policy_load, bad_lists_cost_what_their_source_says)
{
    static const char *const bad_origins[] = { "evil.com", "http://a/", "http://", "http://a:0x", "//a" };
    struct fault f;
    setup();
    for (size_t i = 0; i < sizeof bad_origins / sizeof *bad_origins; i++) {
        options.origins = (struct options_list){ { bad_origins[i] }, 1, 64, 0 };
        cr_assert(policy_load(&policy, &options, &f) && f.exit == 64, "%s", bad_origins[i]);
    }
    options.origins.n = 0;
    options.hosts = (struct options_list){ { "a b" }, 1, 78, 0 };
    cr_assert(policy_load(&policy, &options, &f) && f.exit == 78);
}
