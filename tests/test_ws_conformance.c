// uses: ws.c ws_handshake.c http.c sha1.c base64.c utf8.c
/* Every row of ws_rows.h at every chunk size: the same events, the same
 * answers, the same close, wherever the wire is cut and wherever its bytes lie. */
#include "test.h"
#include "ws_rows.h"
#include "ws_session.h"

struct pieces { size_t size, room; bool slow; };

static void run(struct session *s, const struct ws_table *t, const struct bytes *wire, bool eof,
                struct pieces how)
{
    struct ws_config config = session_defaults;
    config.max_message = t->max_message;
    config.text_only = t->text_only;
    session_begin(s, t->client, &config, how.room, 0);
    s->slow = how.slow;
    if (t->closing) session_close(s, 1000, "", 0);
    for (size_t at = 0; at < wire->n; at += how.size) {
        session_feed(s, wire->p + at, wire->n - at < how.size ? wire->n - at : how.size, 0);
    }
    if (eof) {
        ws_eof(&s->ws);
        ws_received(&s->ws, s->buf, s->kept, 0);
        session_pull(s, 0);
    }
}

static void check(const struct ws_table *t, const struct ws_row *row, const struct bytes *wire,
                  bool eof, struct pieces how)
{
    struct session s;
    struct bytes expect = { 0 };
    const char *why;
    char got[1000], want[1000];
    trace_build(&expect, row->expect);
    run(&s, t, wire, eof, how);
    cr_assert(session_as_expected(&s, &expect, &why),
              "%s: %s: in pieces of %zu%s: %s\n  got  %s\n  want %s", t->name, row->name, how.size,
              how.slow ? ", one event at a time" : "", why,
              trace_text(&s.trace, got, sizeof got), trace_text(&expect, want, sizeof want));
    session_end(&s);
    bytes_free(&expect);
}

/* Sizes of pieces: every one for short wires, telling ones for long. */
static size_t next_size(size_t size, size_t n)
{
    if (size < (n > 40000 ? n / 40 : n > 300 ? 9 : n)) return n > 40000 ? n / 40 : size + 1;
    if (size < n / 3) return n / 3;
    if (size < n / 2) return n / 2 + 1;
    return size < n - 1 ? n - 1 : n;
}

static void run_table(const struct ws_table *t)
{
    for (unsigned i = 0; i < t->n; i++) {
        struct bytes wire = { 0 };
        bool eof = wire_build(&wire, t->row[i].wire, !t->client);
        for (size_t size = 0; size < wire.n || !size;) {
            size = wire.n ? next_size(size, wire.n) : 1;
            struct pieces how = { size, 4096, false };
            check(t, &t->row[i], &wire, eof, how);
            how.slow = true;
            how.room = WS_MAX_CTRL;
            check(t, &t->row[i], &wire, eof, how);
        }
        bytes_free(&wire);
    }
}

static void run_named(const char *name)
{
    for (unsigned i = 0; i < WS_TABLES; i++) {
        if (!strcmp(ws_tables[i].name, name)) { run_table(&ws_tables[i]); return; }
    }
    cr_assert_fail("no table %s", name);
}

Test(ws_conformance, framing_rows_hold_at_every_chunk_size)    { run_named("framing"); }
Test(ws_conformance, fragments_rows_hold_at_every_chunk_size)  { run_named("fragments"); }
Test(ws_conformance, control_rows_hold_at_every_chunk_size)    { run_named("control"); }
Test(ws_conformance, close_rows_hold_at_every_chunk_size)      { run_named("close"); }
Test(ws_conformance, utf8_rows_hold_at_every_chunk_size)       { run_named("utf8"); }
Test(ws_conformance, limit_rows_hold_at_every_chunk_size)      { run_named("limit"); }
Test(ws_conformance, nothing_rows_hold_at_every_chunk_size)    { run_named("nothing"); }
Test(ws_conformance, text_only_rows_hold_at_every_chunk_size)  { run_named("text_only"); }
Test(ws_conformance, client_rows_hold_at_every_chunk_size)     { run_named("client"); }
Test(ws_conformance, closing_rows_hold_at_every_chunk_size)    { run_named("closing"); }

Test(ws_conformance, there_are_at_least_500_rows_and_none_is_left_out)
{
    unsigned n = 0;
    for (unsigned i = 0; i < WS_TABLES; i++) n += ws_tables[i].n;
    cr_assert(n >= 500, "%u rows", n);
    cr_assert_eq((int)WS_TABLES, 10, "a table without a test above");
}

/* A fault that the last byte of a wire proves is not told before it, but with it. */
Test(ws_conformance, wrong_byte_of_a_text_is_told_when_it_comes)
{
    static const struct { const char *good, *bad; } rows[] = {
        { "", "%80" }, { "", "%c0" }, { "", "%ff" }, { "%c3", "%28" }, { "%e0", "%9f" },
        { "%ed", "%a0" }, { "%f0", "%8f" }, { "%f4", "%90" }, { "%f0%9f%98", "%c0" },
        { "(é)*3000", "%fe" }, { "a*4095%c3", "%c3" }, { "a*4096", "%81" }, { "a*8191%e2", "%00" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int fragment = 0; fragment < 2; fragment++) {
            char spec[100];
            struct bytes wire = { 0 };
            struct session s;
            sprintf(spec, "%s+50000:%s%s", fragment ? "t:x c" : "T", rows[i].good, rows[i].bad);
            wire_build(&wire, spec, true);
            session_begin(&s, false, &session_defaults, 4096, 0);
            session_feed(&s, wire.p, wire.n - 1, 0);
            cr_assert(!s.closed, "%s: told too early", spec);
            session_feed(&s, wire.p + wire.n - 1, 1, 0);
            cr_assert(s.closed && s.close[0] == 1007 >> 8 && s.close[1] == (1007 & 255), "%s", spec);
            session_end(&s);
            bytes_free(&wire);
        }
    }
}

/* What is decided from a header is told when the header is whole. */
Test(ws_conformance, fault_in_a_header_is_told_with_its_last_byte)
{
    static const char *const specs[] = { "4T+9:", "#3+9:", "uT+300:", "C+9:", "p+9:", "P@126:",
                                         "T~2@125:", "B~8@65535:", "B@1048577:", "B@9223372036854775808:" };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct bytes wire = { 0 };
        struct session s;
        wire_build(&wire, specs[i], true);
        session_begin(&s, false, &session_defaults, 4096, 0);
        session_feed(&s, wire.p, wire.n - 1, 0);
        cr_assert(!s.closed, "%s", specs[i]);
        session_feed(&s, wire.p + wire.n - 1, 1, 0);
        cr_assert(s.closed, "%s", specs[i]);
        session_end(&s);
        bytes_free(&wire);
    }
}
