// uses: servers/options.c servers/log.c servers/values.c json.c number.c base64.c utf8.c
#include "servers/options.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct options o;
static struct fault f;

/* Read a command line of words separated by blanks. */
static int read_line(const char *line)
{
    static char copy[1024];
    char *argv[64] = { "recalld" }, *save = NULL;
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save)) argv[argc++] = t;
    memset(&f, 0, sizeof f);
    options_free(&o);
    return options_read(&o, argc, argv, &f) ? f.exit : 0;
}

Test(options_flags, defaults_are_those_of_the_table)
{
    cr_assert_eq(read_line(""), 0);
    cr_assert_str_eq(o.host, "localhost");
    cr_assert_str_eq(o.model, "builtin");
    cr_assert_eq(o.memory_port, 5000);
    cr_assert(o.inference_port == 5005 && o.inference_last == 5014);
    cr_assert_eq(o.buffer_memory, 64 << 20);
    cr_assert(o.max_connections == 1024 && o.max_message == 1048576 && o.max_memories == 100000);
    cr_assert(o.max_reply == 4194304 && o.max_queue == 256);
    cr_assert(o.ping_interval == 20 && o.ping_timeout == 20 && o.close_timeout == 10);
    cr_assert(o.handshake_timeout == 10 && o.message_timeout == 60);
    cr_assert(o.sync == 0 && o.forget == 0 && o.rate == 0 && !o.evict && !o.int8 && !o.insecure);
    cr_assert(o.log_level == LOG_INFO && !o.log_json && o.only == ONLY_BOTH && o.mode == RUN);
}

Test(options_flags, values_stand_behind_a_blank_or_an_equals_sign)
{
    cr_assert_eq(read_line("--memory-port 1 --inference-port=7-9 --max-message 1M --sync=2.5 --when-full evict"), 0);
    cr_assert(o.memory_port == 1 && o.inference_port == 7 && o.inference_last == 9);
    cr_assert(o.max_message == 1 << 20 && o.sync == 2.5 && o.evict);
    cr_assert_eq(read_line("--inference-port 80"), 0);
    cr_assert(o.inference_port == 80 && o.inference_last == 80);
    cr_assert_eq(read_line("--sync never --quantize int8 --only memory --log-level debug --log-format json"), 0);
    cr_assert(o.sync < 0 && o.int8 && o.only == ONLY_MEMORY && o.log_level == LOG_DEBUG && o.log_json);
    cr_assert_eq(read_line("--ping-interval 0.25 --forget .5"), 0);
    cr_assert(o.ping_interval == 0.25 && o.forget == 0.5);
}

Test(options_flags, lists_gather)
{
    cr_assert_eq(read_line("--allow-origin http://a --adapter x=/d --allow-origin null --adapter y=/e"), 0);
    cr_assert(o.origins.n == 2 && o.adapters.n == 2);
    cr_assert_str_eq(o.origins.v[1], "null");
    cr_assert_str_eq(o.adapters.v[0], "x=/d");
}

Test(options_flags, who_gave_a_value_decides_what_a_bad_one_costs)
{
    cr_assert_eq(read_line("--allow-origin x --host h"), 0);
    cr_assert(o.origins.bad == 64 && o.bad_host == 64 && o.hosts.bad == 78 && o.adapters.bad == 78);
    cr_assert_eq(read_line("--adapter x --allow-host y"), 0);
    cr_assert(o.origins.bad == 78 && o.bad_host == 78 && o.hosts.bad == 64 && o.adapters.bad == 64);
}

Test(options_flags, a_bad_value_is_told_what_is_allowed)
{
    read_line("--sync 0");
    cr_assert_str_eq(f.why, "--sync: bad value '0' (want always|SECONDS|never, above 0 and at most 86400)");
}

static const struct { const char *line; int exit; } wrong[] = {
    { "--nonsense", 64 }, { "word", 64 }, { "-v", 64 }, { "--", 64 }, { "--memory-port", 64 },
    { "--memory-port x", 64 }, { "--memory-port -1", 64 }, { "--memory-port 65536", 64 }, { "--memory-port 1.5", 64 },
    { "--memory-port 0x10", 64 }, { "--memory-port 1e3", 64 }, { "--inference-port 9-8", 64 },
    { "--inference-port 5-", 64 }, { "--inference-port 70000", 64 }, { "--max-message 10", 64 },
    { "--max-message 1T", 64 }, { "--max-message 1KK", 64 }, { "--max-connections 0", 64 },
    { "--when-full drop", 64 }, { "--only none", 64 }, { "--sync 0", 64 }, { "--sync often", 64 },
    { "--sync -1", 64 }, { "--forget 1.1", 64 }, { "--ping-interval nan", 64 }, { "--ping-interval inf", 64 },
    { "--log-level loud", 64 }, { "--insecure=maybe", 64 }, { "--help=x", 64 }, { "--check --repair", 64 },
    { "--no-sandbox --require-sandbox", 64 }, { "--host=", 64 }, { "--max-queue 0", 64 }, { "--close-timeout 0", 64 },
    { "--config /nowhere", 78 },
};

Test(options_flags, wrong_ones_are_refused_with_a_sentence)
{
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_assert_eq(read_line(wrong[i].line), wrong[i].exit, "%s", wrong[i].line);
        cr_assert(strlen(f.why) > 10, "%s", wrong[i].line);
    }
}

Test(options_flags, a_range_of_ports_is_told_its_bounds)
{
    const char *const lines[] = { "--inference-port 70000", "--inference-port 10-5", "--inference-port x" };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        cr_assert_eq(read_line(lines[i]), 64);
        cr_assert(strstr(f.why, "(want N|N-M, up to 65535 and N not above M)"), "%s", f.why);
    }
}

Test(options_flags, maintenance_is_one_kind_at_a_time)
{
    cr_assert_eq(read_line("--export - --data /d"), 0);
    cr_assert(o.mode == EXPORT && !strcmp(o.file, "-") && !strcmp(o.data, "/d"));
    cr_assert_eq(read_line("--check --check"), 0);
    cr_assert_eq(o.mode, CHECK);
    cr_assert_eq(read_line("--repair --export -"), 64);
    cr_assert_str_eq(f.why, "--export: one of the flags from --check on at a time");
}

static void write_config(char path[], const char *text, size_t len)
{
    int fd = mkstemp(path);
    cr_assert_eq(write(fd, text, len), (ssize_t)len);
    close(fd);
}

static int read_config(const char *text, const char *more)
{
    char path[] = "/tmp/recalld-options-XXXXXX", line[200];
    write_config(path, text, strlen(text));
    snprintf(line, sizeof line, "--config %s %s", path, more);
    int r = read_line(line);
    unlink(path);
    return r;
}

Test(options_sources, a_flag_wins_over_the_environment_and_that_over_the_file)
{
    setenv("RECALLD_MAX_QUEUE", "20", 1);
    setenv("RECALLD_RATE", "30", 1);
    cr_assert_eq(read_config("max-queue = 10\nrate=11\nforget = 0.5\n", "--rate 99"), 0);
    cr_assert(o.max_queue == 20 && o.rate == 99 && o.forget == 0.5);
    unsetenv("RECALLD_RATE");
    setenv("RECALLD_MAX_QUEUE", "many", 1);
    cr_assert_eq(read_line(""), 78);
    unsetenv("RECALLD_MAX_QUEUE");
}

Test(options_sources, maintenance_too_and_a_flag_wins)
{
    setenv("RECALLD_CHECK", "yes", 1);
    cr_assert_eq(read_line(""), 0);
    cr_assert_eq(o.mode, CHECK);
    cr_assert_eq(read_line("--import -"), 0);
    cr_assert(o.mode == IMPORT && !strcmp(o.file, "-"));
    setenv("RECALLD_EXPORT", "lines", 1);
    cr_assert_eq(read_line(""), 78, "two of one source contradict each other");
    cr_assert(strstr(f.why, "RECALLD_EXPORT: one of the flags"), "%s", f.why);
    setenv("RECALLD_CHECK", "no", 1);
    cr_assert_eq(read_line(""), 0);
    cr_assert(o.mode == EXPORT && !strcmp(o.file, "lines"));
    setenv("RECALLD_EXPORT", "", 1);
    cr_assert_eq(read_line(""), 78);
    unsetenv("RECALLD_EXPORT");
    cr_assert_eq(read_line(""), 0);
    cr_assert_eq(o.mode, RUN);
    setenv("RECALLD_CHECK", "perhaps", 1);
    cr_assert_eq(read_line(""), 78);
    cr_assert(strstr(f.why, "RECALLD_CHECK: bad value 'perhaps' (want true or false)"), "%s", f.why);
    unsetenv("RECALLD_CHECK");
    setenv("RECALLD_SANDBOX_SELFTEST", "1", 1);
    cr_assert_eq(read_line(""), 0);
    cr_assert_eq(o.mode, SELFTEST);
    unsetenv("RECALLD_SANDBOX_SELFTEST");
    setenv("RECALLD_VERSION", "1.0", 1);
    cr_assert_eq(read_line(""), 0, "images of containers set it");
    cr_assert_eq(o.mode, RUN);
    unsetenv("RECALLD_VERSION");
}

Test(options_sources, a_list_of_a_later_source_replaces_the_earlier)
{
    setenv("RECALLD_ALLOW_HOST", "b.lan,c.lan", 1);
    cr_assert_eq(read_config("allow-host = a.lan\n", ""), 0);
    cr_assert(o.hosts.n == 2 && !strcmp(o.hosts.v[0], "b.lan") && !strcmp(o.hosts.v[1], "c.lan"));
    cr_assert_eq(read_config("allow-host = a.lan\n", "--allow-host d.lan"), 0);
    cr_assert(o.hosts.n == 1 && !strcmp(o.hosts.v[0], "d.lan"));
    unsetenv("RECALLD_ALLOW_HOST");
    cr_assert_eq(read_config("allow-host = a.lan\nallow-host = e.lan\n", ""), 0);
    cr_assert_eq(o.hosts.n, 2);
}

Test(options_sources, a_file_has_blank_lines_comments_and_switches)
{
    cr_assert_eq(read_config("# comment\n\n  insecure\n\tmax-reply =  8K \r\nno-sandbox = yes\n", ""), 0);
    cr_assert(o.insecure && o.max_reply == 8192 && o.no_sandbox);
    cr_assert_eq(read_config("insecure = no\n", ""), 0);
    cr_assert(!o.insecure);
}

static const char *const bad_files[] = {
    "nonsense = 1\n", "rate\n", "rate = \n", "rate = fast\n", "check\n", "export = x\n", "config = y\n", "= 3\n", "insecure = perhaps\n",
};

Test(options_sources, errors_of_a_file_name_the_line)
{
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        char text[100];
        snprintf(text, sizeof text, "# first\n%s", bad_files[i]);
        cr_assert_eq(read_config(text, ""), 78, "%s", bad_files[i]);
        cr_assert(strstr(f.why, "line 2"), "%s", f.why);
    }
    char path[] = "/tmp/recalld-options-XXXXXX", line[100];
    write_config(path, "rate = 1\0\n", 10);
    snprintf(line, sizeof line, "--config %s", path);
    cr_assert_eq(read_line(line), 78);
    unlink(path);
}

Test(options_config, the_command_shows_limits_and_nobodys_secrets)
{
    char text[8192];
    size_t at;
    struct json_out out;
    cr_assert_eq(read_line("--token-file /secret/path --allow-origin http://friend --data /home/me --sync 3"), 0);
    out = json_out(text, sizeof text - 1);
    json_open(&out, '{');
    options_put(&o, &out);
    json_close(&out, '}');
    text[out.len] = 0;
    cr_assert(!out.full && !json_check(text, out.len, &at));
    cr_assert(strstr(text, "\"max_message\":1048576") && strstr(text, "\"when_full\":\"refuse\""));
    cr_assert(strstr(text, "\"sync\":3") && strstr(text, "\"inference_port\":\"5005-5014\""));
    cr_assert(strstr(text, "\"ping_interval\":20") && strstr(text, "\"quantize\":\"none\""));
    cr_assert(!strstr(text, "secret") && !strstr(text, "friend") && !strstr(text, "/home/me"));
}
