// uses: ws.c ws_handshake.c http.c sha1.c base64.c utf8.c
/* Every timer of ws.h, with time as an argument: keepalive, unfinished
 * messages, unanswered closes. No sleep, no clock. */
#include "test.h"
#include "ws_session.h"

/* Silence 1000, answer 300, close 200, message 5000 ms; begun at 10,000. */
static const struct ws_config quick = { 1000, 1000, 300, 200, 5000, false };
enum { T0 = 10000 };

static struct session s;
static int64_t now;

static void begin(const struct ws_config *config)
{
    now = T0;
    session_begin(&s, false, config, 4096, now);
}

static void feed(const char *spec)
{
    struct bytes wire = { 0 };
    wire_build(&wire, spec, true);
    session_feed(&s, wire.p, wire.n, now);
    bytes_free(&wire);
}

/* What the loop does when time has passed. */
static void at(int64_t time)
{
    now = T0 + time;
    ws_tick(&s.ws, now);
    session_pull(&s, now);
}

static void expect(const char *spec)
{
    struct bytes want = { 0 };
    const char *why;
    char got[1000];
    trace_build(&want, spec);
    cr_assert(session_as_expected(&s, &want, &why), "at %d: %s: got %s, want %s", (int)(now - T0), why,
              trace_text(&s.trace, got, sizeof got), spec);
    s.trace.n = 0;
    bytes_free(&want);
}

static int64_t due(void)
{
    int64_t d = ws_deadline(&s.ws);
    return d == WS_NEVER ? -1 : d - T0;
}

static void end(void)
{
    session_end(&s);
}

Test(ws_time, quiet_peer_is_pinged_at_the_interval_and_not_before)
{
    begin(&quick);
    cr_assert_eq(due(), 1000);
    at(0);
    at(999);
    expect("");
    at(1000);
    expect("P:");
    cr_assert_eq(due(), 1300);
    end();
}

Test(ws_time, silent_peer_is_dropped_after_ping_and_pong_wait)
{
    begin(&quick);
    at(1000);
    expect("P:");
    at(1299);
    expect("");
    at(1300);
    expect("!1011");
    cr_assert_eq(due(), -1);
    at(99999);
    expect("");
    end();
}

Test(ws_time, pong_saves_the_peer)
{
    begin(&quick);
    at(1000);
    expect("P:");
    now = T0 + 1299;
    feed("O:");
    cr_assert_eq(due(), 2299);
    at(2298);
    expect("");
    at(2299);
    expect("P:");
    end();
}

Test(ws_time, any_byte_is_a_sign_of_life)
{
    static const char *const signs[][2] = {
        { "=81", "=85" }, { "=8185", "=00" }, { "T:x", "=8a" }, { "P:", "O:" }, { "t:x", "c:y" },
        { "B+100:a", "=00" }, { "O:zz", "P:" }, { "t:x =80", "=81" },
    };
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        begin(&quick);
        now = T0 + 900;
        feed(signs[i][0]);
        s.trace.n = 0;
        cr_assert_eq(due(), 1900, "%s", signs[i][0]);
        at(1900);
        expect("P:");
        now = T0 + 2000;
        feed(signs[i][1]);
        cr_assert_eq(due(), 3000, "%s", signs[i][1]);
        end();
    }
}

Test(ws_time, bytes_handed_in_again_are_no_sign_of_life)
{
    begin(&quick);
    now = T0 + 100;
    feed("T+100:a");
    cr_assert_eq(due(), 1100);
    ws_received(&s.ws, s.buf, s.kept, T0 + 1000);
    session_pull(&s, T0 + 1000);
    cr_assert_eq(due(), 1100);
    at(1100);
    expect("P:");
    ws_received(&s.ws, s.buf, s.kept, T0 + 1200);
    session_pull(&s, T0 + 1200);
    at(1400);
    expect("!1011");
    end();
}

Test(ws_time, slow_upload_is_not_pinged_while_bytes_come)
{
    begin(&quick);
    feed("B+900:a");
    for (int i = 1; i < 6; i++) {
        now = T0 + i * 900;
        feed("=5a");
        at(i * 900 + 80);
        expect("");
    }
    end();
}

Test(ws_time, stall_of_our_own_costs_one_ping_and_no_peer)
{
    begin(&quick);
    at(3600000);
    expect("P:");
    cr_assert_eq(due(), 3600300);
    at(3600299);
    expect("");
    now = T0 + 3600299;
    feed("O:");
    at(3601000);
    expect("");
    end();
}

Test(ws_time, interval_0_pings_never)
{
    struct ws_config c = quick;
    c.ping_interval_ms = 0;
    begin(&c);
    cr_assert_eq(due(), -1);
    at(1000000);
    expect("");
    end();
}

Test(ws_time, timeout_0_pings_for_ever)
{
    struct ws_config c = quick;
    c.ping_timeout_ms = 0;
    begin(&c);
    for (int i = 1; i < 50; i++) {
        cr_assert_eq(due(), i * 1000);
        at(i * 1000 - 1);
        expect("");
        at(i * 1000);
        expect("P:");
    }
    end();
}

Test(ws_time, unfinished_message_is_closed_with_1008)
{
    static const char *const begun[] = { "=81", "=8185", "T+9:", "T+9:abc", "t:abc", "t:", "t:a c:b P:x", "P+9:a", "=89" };
    struct ws_config c = quick;
    c.ping_interval_ms = 0;
    for (size_t i = 0; i < sizeof begun / sizeof *begun; i++) {
        begin(&c);
        now = T0 + 50;
        feed(begun[i]);
        s.trace.n = 0;
        cr_assert_eq(due(), 5050, "%s", begun[i]);
        at(5049);
        expect("");
        at(5050);
        expect("!1008");
        end();
    }
}

Test(ws_time, trickling_does_not_renew_the_time_of_a_message)
{
    struct bytes wire = { 0 };
    wire_build(&wire, "b:abc P:x c:d c+100:ezzz", true);
    begin(&quick);
    for (size_t i = 0; i < wire.n; i++) {
        at((int64_t)i * 100);
        session_feed(&s, wire.p + i, 1, now);
        cr_assert_eq(s.broken, NULL, "%s", s.broken);
    }
    expect("O:x");
    at(4999);
    expect("P:");
    s.trace.n = 0;
    at(5000);
    expect("!1008");
    bytes_free(&wire);
    end();
}

Test(ws_time, each_message_has_its_own_time)
{
    begin(&quick);
    feed("T+1:a");
    for (int i = 1; i < 30; i++) {
        now = T0 + i * 900;
        struct bytes wire = { 0 };
        bytes_put(&wire, 'b' ^ 0xfa);
        wire_build(&wire, "T+1:a", true);
        session_feed(&s, wire.p, wire.n, now);
        bytes_free(&wire);
        cr_assert(!s.closed);
        cr_assert_eq(s.ws.began, now);
    }
    end();
}

Test(ws_time, whole_messages_and_pings_leave_no_time_running)
{
    struct ws_config c = quick;
    c.ping_interval_ms = 0;
    begin(&c);
    feed("=81");
    feed("=8137fa213d =56");
    cr_assert_eq(due(), -1);
    feed("=89");
    cr_assert_eq(due(), 5000);
    feed("=8037fa213d");
    cr_assert_eq(due(), -1);
    feed("t:a P+1:b");
    feed("=00");
    cr_assert_eq(due(), 5000, "the message is still unfinished");
    feed("C:d");
    cr_assert_eq(due(), -1);
    end();
}

Test(ws_time, message_timeout_0_waits_for_ever)
{
    struct ws_config c = quick;
    c.ping_interval_ms = 0;
    c.message_timeout_ms = 0;
    begin(&c);
    feed("t:a");
    cr_assert_eq(due(), -1);
    at(100000000);
    expect("");
    end();
}

Test(ws_time, paused_peer_is_not_timed_out_for_silence)
{
    begin(&quick);
    ws_pause(&s.ws, true, now);
    cr_assert_eq(due(), -1);
    at(100000);
    expect("");
    ws_pause(&s.ws, true, now);
    ws_pause(&s.ws, false, now);
    cr_assert_eq(due(), 101000);
    ws_pause(&s.ws, false, now + 500);
    cr_assert_eq(due(), 101000, "only the end of a pause counts");
    at(101000);
    expect("P:");
    ws_pause(&s.ws, true, now);
    at(200000);
    expect("");
    ws_pause(&s.ws, false, now);
    at(200300);
    expect("");
    at(201000);
    expect("P:");
    end();
}

Test(ws_time, paused_message_must_still_be_whole_in_time)
{
    begin(&quick);
    feed("t:a");
    ws_pause(&s.ws, true, now);
    cr_assert_eq(due(), 5000);
    at(5000);
    expect("!1008");
    end();
}

Test(ws_time, whole_messages_that_the_caller_holds_back_run_no_time)
{
    struct bytes wire = { 0 };
    struct ws_event ev;
    struct ws_config c = quick;
    c.ping_interval_ms = 0;
    wire_build(&wire, "T:a T:b T:c", true);
    begin(&c);
    ws_received(&s.ws, wire.p, wire.n, now);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_TEXT);
    session_keep(&s);
    ws_pause(&s.ws, true, now);
    at(100);
    cr_assert_eq(due(), -1);
    at(100000);
    expect("");
    ws_received(&s.ws, s.buf, s.kept, now);
    session_pull(&s, now);
    expect("T:b T:c");
    bytes_free(&wire);
    end();
}

Test(ws_time, unanswered_close_ends_without_another_frame)
{
    begin(&quick);
    at(500);
    session_close(&s, 1000, "bye", now);
    cr_assert_eq(due(), 700);
    now = T0 + 690;
    feed("T:a P:b t:c");
    cr_assert_eq(due(), 700, "bytes do not renew it");
    ws_pause(&s.ws, true, now);
    cr_assert_eq(due(), 700);
    ws_pause(&s.ws, false, now);
    cr_assert_eq(due(), 700, "nor does a pause");
    at(699);
    expect("");
    at(700);
    expect("!1006");
    at(5000);
    expect("");
    end();
}

Test(ws_time, answered_close_leaves_no_time_running)
{
    begin(&quick);
    session_close(&s, 1000, "", now);
    feed("X:1000");
    expect("x:1000");
    cr_assert_eq(due(), -1);
    at(10000);
    expect("");
    end();
}

Test(ws_time, earlier_of_two_times_counts)
{
    begin(&quick);
    feed("t:a");
    at(1000);
    expect("P:");
    now = T0 + 1100;
    feed("O:");
    for (int64_t t = 2100; t < 5000; t += 1000) {
        cr_assert_eq(due(), t);
        at(t);
        feed("O:");
    }
    s.trace.n = 0;
    cr_assert_eq(due(), 5000);
    at(5000);
    expect("!1008");
    end();
}

Test(ws_time, ping_without_room_is_sent_when_there_is_room)
{
    begin(&quick);
    s.out.len = s.out.cap;
    ws_tick(&s.ws, T0 + 1000);
    cr_assert_eq(s.out.len, s.out.cap);
    cr_assert_eq(due(), 1000);
    s.out.len = 0;
    at(1001);
    expect("P:");
    end();
}

Test(ws_time, times_near_the_end_of_the_clock_do_not_wrap)
{
    begin(&quick);
    cr_assert_eq(ws_deadline(&s.ws), T0 + 1000);
    ws_tick(&s.ws, INT64_MIN);
    ws_tick(&s.ws, 0);
    session_pull(&s, 0);
    expect("");
    end();
}

/* A random life: a tick before the deadline never does anything, one at it always does. */
Test(ws_time, deadline_is_exact_in_a_thousand_random_lives)
{
    static const char *const words[] = { "T:a", "t:a", "C:b", "P:c", "O:", "=81", "T+3:x", "" };
    uint32_t seed = 1;
    for (int life = 0; life < 1000; life++) {
        begin(&quick);
        for (int step = 0; step < 40 && !s.closed; step++) {
            seed = seed * 1664525 + 1013904223;
            int64_t deadline = ws_deadline(&s.ws);
            if (deadline != WS_NEVER) {
                cr_assert(deadline > now || s.ws.paused);
                size_t before = s.trace.n;
                if (deadline - 1 >= now) at(deadline - 1 - T0);
                cr_assert_eq(s.trace.n, before, "a tick before the deadline did something");
                if (seed >> 28 < 6) {
                    at(deadline - T0);
                    cr_assert(s.trace.n > before, "a tick at the deadline did nothing");
                    continue;
                }
            }
            if (seed >> 28 == 7) session_close(&s, 1000, "", now);
            else if (seed >> 28 == 8) ws_pause(&s.ws, seed >> 27 & 1, now);
            else feed(words[seed >> 16 & 7]);
        }
        cr_assert_null(s.broken, "%s", s.broken);
        end();
    }
}
