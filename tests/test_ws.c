// uses: ws.c ws_handshake.c http.c sha1.c base64.c utf8.c
/* What ws.h promises its caller: where bytes lie, what is kept, what is sent,
 * and what misuse does. The peer's side of the protocol is test_ws_conformance.c. */
#include <time.h>

#include "test.h"
#include "ws_session.h"

#ifdef SANITIZED
enum { SLOWER = 20 };
#else
enum { SLOWER = 1 };
#endif

static struct session s;

static void begin(bool client, size_t room)
{
    session_begin(&s, client, &session_defaults, room, 0);
}

static struct bytes built(const char *spec)
{
    struct bytes wire = { 0 };
    wire_build(&wire, spec, true);
    return wire;
}

static void feed(const char *spec)
{
    struct bytes wire = { 0 };
    wire_build(&wire, spec, !s.client);
    session_feed(&s, wire.p, wire.n, 0);
    bytes_free(&wire);
}

/* What has come of it since the last time is just this. */
static void expect(const char *spec)
{
    struct bytes want = { 0 };
    const char *why;
    char got[1000];
    trace_build(&want, spec);
    cr_assert(session_as_expected(&s, &want, &why), "%s: got %s, want %s", why,
              trace_text(&s.trace, got, sizeof got), spec);
    s.trace.n = 0;
    bytes_free(&want);
}

static void end(void)
{
    session_end(&s);
}

/* ---- receiving ---- */

Test(ws_rx, hello_of_rfc_6455_section_5_7_is_reported)
{
    uint8_t wire[] = { 0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58 };
    struct ws_event ev;
    begin(false, 4096);
    ws_received(&s.ws, wire, sizeof wire, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_TEXT);
    cr_assert_eq(ev.len, 5u);
    cr_assert_arr_eq(ev.data, "Hello", 5);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_NONE);
    end();
}

Test(ws_rx, idle_connection_costs_at_most_112_bytes)
{
    cr_assert(sizeof(struct ws) <= 112, "%zu", sizeof(struct ws));
}

Test(ws_rx, whole_message_is_reported_where_it_was_received)
{
    struct bytes wire = built("B:abcdefgh T:xyz");
    struct ws_event ev;
    begin(false, 4096);
    ws_received(&s.ws, wire.p, wire.n, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_BINARY);
    cr_assert_eq(ev.data, wire.p + 6);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_TEXT);
    cr_assert_eq(ev.data, wire.p + 6 + 8 + 6);
    bytes_free(&wire);
    end();
}

Test(ws_rx, fragments_are_joined_behind_the_first_one)
{
    struct bytes wire = built("b:abc P:ping c:def C:ghi T:x");
    struct ws_event ev;
    begin(false, 4096);
    ws_received(&s.ws, wire.p, wire.n, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_BINARY);
    cr_assert_eq(ev.data, wire.p + 6);
    cr_assert_eq(ev.len, 9u);
    cr_assert_arr_eq(ev.data, "abcdefghi", 9);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_TEXT);
    bytes_free(&wire);
    end();
}

Test(ws_rx, nothing_is_kept_between_messages)
{
    size_t n = 7;
    begin(false, 4096);
    cr_assert_null(ws_keep(&s.ws, &n));
    cr_assert_eq(n, 0u);
    feed("T:abc P:x t:d C:e");
    cr_assert_eq(s.kept, 0u);
    expect("T:abc O:x T:de");
    end();
}

Test(ws_rx, kept_bytes_are_the_message_so_far_and_what_was_not_parsed)
{
    static const struct { const char *wire, *kept; size_t want; } rows[] = {
        { "=81",                       "=81", WS_MAX_CTRL },
        { "=8185",                     "=8185", WS_MAX_CTRL },
        { "T+7:abc",                   "=616263", 10 },
        { "T:x T+7:abc",               "=616263", 10 },
        { "t:abc",                     "=616263", 3 + WS_MAX_CTRL },
        { "t:abc c:de",                "=6162636465", 5 + WS_MAX_CTRL },
        { "t:abc =80",                 "=61626380", 3 + WS_MAX_CTRL },
        { "t:abc c:de =8085",          "=61626364658085", 5 + WS_MAX_CTRL },
        { "t:abcdefghij C+1:k",        "=6162636465666768696a6b", 12 },
        { "t:abc P+2:x",               "=616263898337fa213d4f", 3 + WS_MAX_CTRL },
        { "t: =80",                    "=80", WS_MAX_CTRL },
        { "T+1000:a",                  "=61", 1001 },
        { "T+70000:",                  "", 70000 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bytes kept = built(rows[i].kept);
        begin(false, 4096);
        feed(rows[i].wire);
        cr_assert_eq(s.kept, kept.n, "%s: %zu kept", rows[i].wire, s.kept);
        cr_assert(!kept.n || !memcmp(s.buf, kept.p, kept.n), "%s", rows[i].wire);
        cr_assert_eq(ws_want(&s.ws), rows[i].want, "%s: %zu wanted", rows[i].wire, ws_want(&s.ws));
        bytes_free(&kept);
        end();
    }
}

/* The gap between message and rest is closed by moving the shorter of them. */
Test(ws_rx, gap_is_closed_from_its_cheaper_side)
{
    struct bytes wire = built("t:abcdefghijklmnop c:q =80");
    struct ws_event ev;
    size_t n;
    begin(false, 4096);
    ws_received(&s.ws, wire.p, wire.n, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_NONE);
    cr_assert_eq(ws_keep(&s.ws, &n), wire.p + 6, "one byte moves down to seventeen");
    cr_assert_eq(n, 18u);
    cr_assert_arr_eq(wire.p + 6, "abcdefghijklmnopq\x80", 18);
    bytes_free(&wire);
    end();

    wire = built("t:a c:b =8084aabb");
    begin(false, 4096);
    ws_received(&s.ws, wire.p, wire.n, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_NONE);
    cr_assert_eq(ws_keep(&s.ws, &n), wire.p + wire.n - 6, "two bytes move up to four");
    cr_assert_arr_eq(wire.p + wire.n - 6, "ab\x80\x84\xaa\xbb", 6);
    bytes_free(&wire);
    end();
}

Test(ws_rx, buffer_of_ws_want_bytes_is_enough_for_any_message)
{
    struct bytes wire = built("b:a*1000 P:p*125 c:b*70000 c: C:c*3 T:d*200");
    uint8_t *buf = bytes_copy(NULL, 0);
    size_t kept = 0, at = 0;
    int events = 0;
    begin(false, 4096);
    while (at < wire.n) {
        size_t want = ws_want(&s.ws), n = want - kept;
        if (n > wire.n - at) n = wire.n - at;
        buf = realloc(buf, kept + n);
        memcpy(buf + kept, wire.p + at, n);
        at += n;
        ws_received(&s.ws, buf, kept + n, 0);
        struct ws_event ev;
        enum ws_ev e;
        while ((e = ws_next(&s.ws, &ev)) != WS_EV_NONE) {
            cr_assert_eq(ev.len, events++ ? 200u : 71003u);
        }
        uint8_t *p = ws_keep(&s.ws, &kept);
        if (kept) memmove(buf, p, kept);
    }
    cr_assert_eq(events, 2);
    free(buf);
    bytes_free(&wire);
    end();
}

Test(ws_rx, slow_consumer_finds_the_rest_again)
{
    begin(false, 4096);
    s.slow = true;
    feed("T:a T:b P:c t:d C:e T+1:f");
    expect("T:a T:b O:c T:de");
    cr_assert_eq(s.kept, 1u);
    feed("=9d");
    expect("T:fg");
    end();
}

Test(ws_rx, consumer_that_stops_at_an_event_loses_nothing)
{
    struct bytes wire = built("T:one P:two T:three");
    struct ws_event ev;
    size_t n;
    begin(false, 4096);
    ws_received(&s.ws, wire.p, wire.n, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_TEXT);
    uint8_t *rest = ws_keep(&s.ws, &n);
    cr_assert_eq(rest, wire.p + 9);
    cr_assert_eq(n, wire.n - 9);
    cr_assert(ws_want(&s.ws) > n);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_NONE, "nothing is looked at after ws_keep()");
    rest = bytes_copy(rest, n);
    ws_received(&s.ws, rest, n, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_TEXT);
    cr_assert_eq(ev.len, 5u);
    cr_assert_eq(s.out.len, 5u, "the ping was answered");
    free(rest);
    bytes_free(&wire);
    end();
}

static double seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* The caller of a server: one buffer that grows, kept bytes stay where they are. */
static size_t gather(const struct bytes *wire, size_t piece, size_t *copied)
{
    size_t room = 1 << 16, kept = 0, got = 0;
    uint8_t *buf = malloc(room);
    *copied = 0;
    for (size_t at = 0; at < wire->n;) {
        size_t n = wire->n - at < piece ? wire->n - at : piece;
        size_t need = ws_want(&s.ws) > kept + n ? ws_want(&s.ws) : kept + n;
        if (need > room) buf = realloc(buf, room = need + need / 2);
        memcpy(buf + kept, wire->p + at, n);
        at += n;
        ws_received(&s.ws, buf, kept + n, 0);
        struct ws_event ev;
        while (ws_next(&s.ws, &ev) != WS_EV_NONE) got += ev.len;
        uint8_t *p = ws_keep(&s.ws, &kept);
        if (kept && p != buf) {
            memmove(buf, p, kept);
            *copied += kept;
        }
    }
    free(buf);
    return got;
}

Test(ws_rx, message_of_16_mib_in_small_pieces_takes_linear_time)
{
    struct bytes wire = { 0 };
    size_t copied, n = (size_t)16 << 20;
    uint8_t *payload = calloc(1, n);
    wire_frame(&wire, 0x82, true, 0, n, NULL, 0);
    bytes_add(&wire, payload, n);
    free(payload);
    begin(false, 4096);
    s.config.max_message = n;
    double start = seconds();
    cr_assert_eq(gather(&wire, 1000, &copied), n);
    cr_assert(seconds() - start < 1.0 * SLOWER, "%f s", seconds() - start);
    cr_assert(copied < 2000, "%zu bytes moved by the caller", copied);
    bytes_free(&wire);
    end();
}

Test(ws_rx, fragments_of_one_byte_take_linear_time)
{
    struct bytes wire = { 0 };
    size_t copied;
    enum { N = 65536 };
    for (int i = 0; i < N; i++) {
        wire_frame(&wire, i == 0 ? 0x02 : i == N - 1 ? 0x80 : 0x00, true, 0, 1, (const uint8_t *)"x", 1);
    }
    for (size_t piece = 1; piece <= 70000; piece = piece * 5 + 2) {
        begin(false, 4096);
        double start = seconds();
        cr_assert_eq(gather(&wire, piece, &copied), (size_t)N);
        cr_assert(seconds() - start < 1.0 * SLOWER, "pieces of %zu: %f s", piece, seconds() - start);
        end();
    }
    bytes_free(&wire);
}

/* Many small frames in one buffer: time grows with them, not with their square. */
Test(ws_rx, tiny_messages_in_one_buffer_take_linear_time)
{
    struct bytes wire = { 0 };
    size_t copied;
    for (int i = 0; i < 300000; i++) wire_frame(&wire, 0x81, true, 0, 1, (const uint8_t *)"x", 1);
    begin(false, 4096);
    double start = seconds();
    cr_assert_eq(gather(&wire, wire.n, &copied), 300000u);
    cr_assert(seconds() - start < 1.0 * SLOWER, "%f s", seconds() - start);
    bytes_free(&wire);
    end();
}

/* Payload at every alignment, length and distance comes out unmasked. */
Test(ws_rx, payload_is_unmasked_at_every_alignment_and_distance)
{
    uint8_t payload[180];
    for (size_t i = 0; i < sizeof payload; i++) payload[i] = (uint8_t)(i * 37 + 11);
    for (size_t first = 0; first < 40; first++) {
        for (size_t second = 0; second < 140; second += second < 40 ? 1 : 7) {
            struct bytes wire = { 0 };
            wire_frame(&wire, 0x02, true, 0, first, payload, first);
            wire_frame(&wire, 0x80, true, second % 3 == 2 ? 8 : 0, second, payload + first, second);
            if (second % 3 == 2) { bytes_free(&wire); continue; }
            begin(false, 4096);
            session_feed(&s, wire.p, wire.n, 0);
            cr_assert_eq(s.trace.n, 5 + first + second);
            cr_assert(!memcmp(s.trace.p + 5, payload, first + second), "%zu + %zu", first, second);
            bytes_free(&wire);
            end();
        }
    }
}

Test(ws_rx, wrong_byte_is_found_at_every_place_of_a_text)
{
    uint8_t text[70];
    for (size_t n = 1; n <= sizeof text; n++) {
        for (size_t at = 0; at < n; at++) {
            struct bytes wire = { 0 };
            memset(text, 'a', n);
            text[at] = 0xff;
            wire_frame(&wire, 0x81, true, 0, n, text, n);
            begin(false, 4096);
            session_feed(&s, wire.p, wire.n, 0);
            expect("!1007");
            bytes_free(&wire);
            end();
        }
    }
}

/* ---- answering with little room ---- */

Test(ws_full, ping_without_room_for_its_answer_waits)
{
    begin(false, WS_MAX_CTRL);
    s.held = true;
    feed("P:a*125 P:b T:c");
    cr_assert_eq(s.trace.n, 0u);
    cr_assert_eq(s.out.len, 127u, "the first is answered");
    session_flush(&s);
    ws_received(&s.ws, s.buf, s.kept, 0);
    session_pull(&s, 0);
    session_flush(&s);
    expect("O:a*125 T:c O:b");
    end();
}

Test(ws_full, close_without_room_for_its_answer_waits_and_is_told_once)
{
    begin(false, WS_MAX_CTRL);
    s.held = true;
    cr_assert_eq(ws_send(&s.ws, WS_BINARY, "0123456789", 10), 0);
    feed("X:1001:a*123");
    cr_assert(!s.closed);
    s.held = false;
    session_flush(&s);
    ws_received(&s.ws, s.buf, s.kept, 0);
    session_pull(&s, 0);
    expect("b:0123456789 X:1001:a*123");
    end();
}

Test(ws_full, fault_without_room_for_the_close_waits_and_is_told_once)
{
    begin(false, WS_MAX_CTRL);
    s.held = true;
    s.out.len = s.out.cap - 20;
    feed("T:x #3:");
    cr_assert(!s.closed);
    cr_assert_eq(s.kept, 0u, "nothing is looked at after a fault");
    cr_assert_eq(ws_send(&s.ws, WS_TEXT, "y", 1), WS_CLOSING);
    cr_assert_eq(ws_close(&s.ws, 1000, "", 0), WS_CLOSING);
    cr_assert_eq(ws_deadline(&s.ws), WS_NEVER);
    s.held = false;
    s.out.len = 0;
    s.trace.n = 0;
    feed("T:never");
    expect("!1002");
    feed("T:never");
    expect("");
    end();
}

/* ---- sending ---- */

Test(ws_tx, header_has_the_shortest_form)
{
    static const struct { uint64_t len; size_t n; uint8_t head[10]; } rows[] = {
        { 0, 2, { 0x82, 0 } },
        { 1, 2, { 0x82, 1 } },
        { 125, 2, { 0x82, 125 } },
        { 126, 4, { 0x82, 126, 0, 126 } },
        { 256, 4, { 0x82, 126, 1, 0 } },
        { 65535, 4, { 0x82, 126, 255, 255 } },
        { 65536, 10, { 0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0 } },
        { UINT64_C(0x0102030405060708), 10, { 0x82, 127, 1, 2, 3, 4, 5, 6, 7, 8 } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t head[10];
        cr_assert_eq(ws_head(head, WS_BINARY, rows[i].len), rows[i].n);
        cr_assert_arr_eq(head, rows[i].head, rows[i].n);
    }
}

Test(ws_tx, server_sends_unmasked_as_in_rfc_6455_section_5_7)
{
    begin(false, 4096);
    cr_assert_eq(ws_send(&s.ws, WS_TEXT, "Hello", 5), 0);
    cr_assert_eq(ws_send(&s.ws, WS_PING, "Hello", 5), 0);
    cr_assert_eq(s.out.len, 14u);
    cr_assert_arr_eq(s.out.p, "\x81\x05Hello\x89\x05Hello", 14);
    end();
}

Test(ws_tx, client_masks_every_frame_with_another_key)
{
    uint8_t keys[40][4];
    begin(true, 4096);
    for (int i = 0; i < 40; i++) {
        s.out.len = 0;
        cr_assert_eq(ws_send(&s.ws, i % 2 ? WS_TEXT : WS_BINARY, "Hello", 5), 0);
        cr_assert_eq(s.out.len, 11u);
        cr_assert_eq(s.out.p[1], 0x85);
        memcpy(keys[i], s.out.p + 2, 4);
        for (int k = 0; k < 5; k++) cr_assert_eq(s.out.p[6 + k] ^ s.out.p[2 + k % 4], "Hello"[k]);
        for (int k = 0; k < i; k++) cr_assert(memcmp(keys[i], keys[k], 4), "key %d is key %d", i, k);
    }
    end();
}

Test(ws_tx, connections_that_share_masks_use_each_key_once)
{
    struct ws other;
    begin(true, 4096);
    ws_init(&other, WS_CLIENT, &s.config, &s.out, &s.masks, 0);
    ws_send(&s.ws, WS_TEXT, "", 0);
    ws_send(&other, WS_TEXT, "", 0);
    cr_assert_eq(s.out.len, 12u);
    cr_assert(memcmp(s.out.p + 2, s.out.p + 8, 4));
    end();
}

Test(ws_tx, other_seed_gives_other_keys)
{
    uint8_t key[4];
    begin(true, 4096);
    ws_send(&s.ws, WS_TEXT, "", 0);
    memcpy(key, s.out.p + 2, 4);
    end();
    begin(true, 4096);
    s.masks.seed[15] ^= 1;
    ws_send(&s.ws, WS_TEXT, "", 0);
    cr_assert(memcmp(key, s.out.p + 2, 4));
    end();
}

Test(ws_tx, frame_that_does_not_fit_changes_nothing)
{
    uint8_t payload[300] = { 0 };
    begin(false, 200);
    cr_assert_eq(ws_send(&s.ws, WS_BINARY, payload, 187), WS_FULL);
    cr_assert_eq(ws_send(&s.ws, WS_BINARY, payload, 300), WS_FULL);
    cr_assert_eq(ws_send(&s.ws, WS_BINARY, payload, SIZE_MAX), WS_FULL);
    cr_assert_eq(s.out.len, 0u);
    cr_assert_eq(ws_send(&s.ws, WS_BINARY, payload, 186), 0, "room for the longest header is enough");
    cr_assert_eq(s.out.len, 190u);
    cr_assert_eq(ws_send(&s.ws, WS_PING, "", 0), WS_FULL);
    cr_assert_eq(ws_close(&s.ws, 1000, "", 0), WS_FULL);
    cr_assert_eq(s.out.len, 190u);
    s.out.len = 0;
    cr_assert_eq(ws_send(&s.ws, WS_TEXT, "x", 1), 0, "still open");
    end();
}

Test(ws_tx, misuse_is_refused_and_changes_nothing)
{
    uint8_t payload[126] = { 0 };
    begin(false, 4096);
    cr_assert_eq(ws_send(&s.ws, WS_CONT, "x", 1), WS_MISUSE);
    cr_assert_eq(ws_send(&s.ws, WS_CLOSE, "", 0), WS_MISUSE);
    cr_assert_eq(ws_send(&s.ws, WS_PING, payload, 126), WS_MISUSE);
    cr_assert_eq(ws_send(&s.ws, WS_PONG, payload, 126), WS_MISUSE);
    cr_assert_eq(ws_send(&s.ws, (enum ws_op)3, "", 0), WS_MISUSE);
    cr_assert_eq(ws_send(&s.ws, (enum ws_op)11, "", 0), WS_MISUSE);
    for (unsigned code = 1; code < 70000; code += code < 5100 ? 1 : 97) {
        if (!ws_code_valid(code) && code < 65536) {
            cr_assert_eq(ws_close(&s.ws, (uint16_t)code, "", 0), WS_MISUSE, "%u", code);
        }
    }
    cr_assert_eq(s.out.len, 0u);
    cr_assert_eq(ws_send(&s.ws, WS_PING, payload, 125), 0);
    cr_assert_eq(ws_send(&s.ws, WS_TEXT, NULL, 0), 0);
    end();
}

/* ---- closing ---- */

Test(ws_close, codes_are_those_of_section_7_4_and_the_registry)
{
    for (unsigned code = 0; code < 70000; code++) {
        bool valid = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                     (code >= 3000 && code <= 4999);
        cr_assert_eq(ws_code_valid(code), valid, "%u", code);
    }
    cr_assert(!ws_code_valid(65536 + 1000));
}

Test(ws_close, reason_is_cut_to_123_bytes_at_a_character)
{
    static const struct { const char *reason; int len; } rows[] = {
        { "", 0 }, { "bye", 3 }, { "a*123", 123 }, { "a*124", 123 }, { "a*1000", 123 },
        { "a*122é", 122 }, { "a*121é", 123 }, { "a*120€", 123 }, { "a*121€", 121 },
        { "a*119😀", 123 }, { "a*120😀", 120 }, { "a*121😀", 121 }, { "a*122😀", 122 }, { "(é)*62", 122 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bytes reason = { 0 };
        wire_payload(&reason, rows[i].reason);
        bytes_put(&reason, 0);
        begin(i % 2, 4096);
        cr_assert_eq(ws_close(&s.ws, 1008, (char *)reason.p, 0), 0);
        session_flush(&s);
        cr_assert_eq(s.close_len, 2 + rows[i].len, "%s: %d", rows[i].reason, s.close_len);
        cr_assert_arr_eq(s.close, "\x03\xf0", 2);
        cr_assert_arr_eq(s.close + 2, reason.p, (size_t)rows[i].len);
        bytes_free(&reason);
        end();
    }
}

Test(ws_close, code_0_sends_an_empty_close)
{
    begin(false, 4096);
    cr_assert_eq(ws_close(&s.ws, 0, "not sent", 0), 0);
    session_flush(&s);
    cr_assert_eq(s.close_len, 0);
    end();
}

Test(ws_close, nothing_can_be_sent_after_it)
{
    begin(false, 4096);
    session_close(&s, 1000, "", 0);
    cr_assert(s.ours);
    cr_assert_eq(ws_send(&s.ws, WS_TEXT, "x", 1), WS_CLOSING);
    cr_assert_eq(ws_send(&s.ws, WS_PING, "x", 1), WS_CLOSING);
    cr_assert_eq(ws_close(&s.ws, 1000, "", 0), WS_CLOSING);
    feed("P:x");
    expect("");
    feed("X:1000");
    expect("x:1000");
    cr_assert_eq(ws_send(&s.ws, WS_TEXT, "x", 1), WS_CLOSING);
    cr_assert_eq(ws_close(&s.ws, 1000, "", 0), WS_CLOSING);
    end();
}

/* Wherever our close falls into what the peer sends, its answer is found. */
Test(ws_close, answer_is_found_wherever_our_close_falls)
{
    struct bytes wire = built("T:first t:ab P:x c:cdefghij C:k B:b*200 X:1000:ok");
    for (size_t cut = 0; cut + 12 < wire.n; cut++) {
        for (size_t piece = 1; piece < 40; piece += 6) {
            begin(false, 4096);
            if (cut) session_feed(&s, wire.p, cut, 0);
            s.trace.n = 0;
            session_close(&s, 4000, "", 0);
            for (size_t at = cut; at < wire.n; at += piece) {
                session_feed(&s, wire.p + at, wire.n - at < piece ? wire.n - at : piece, 0);
            }
            expect("x:1000:ok");
            end();
        }
    }
    bytes_free(&wire);
}

Test(ws_close, unfinished_message_is_kept_no_longer)
{
    begin(false, 4096);
    feed("b:a*3000 =80");
    cr_assert_eq(s.kept, 3001u);
    session_close(&s, 1000, "", 0);
    feed("=82");
    cr_assert_eq(s.kept, 2u);
    end();
}

Test(ws_close, unfinished_message_in_hand_is_kept_no_longer)
{
    struct bytes wire = built("b:abc c:def =80");
    struct ws_event ev;
    size_t n;
    begin(false, 4096);
    ws_received(&s.ws, wire.p, wire.n, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_NONE);
    cr_assert_eq(ws_close(&s.ws, 1000, "", 0), 0);
    cr_assert_eq(ws_keep(&s.ws, &n), wire.p + wire.n - 1);
    cr_assert_eq(n, 1u);
    bytes_free(&wire);
    end();
}

Test(ws_close, handler_may_close_with_the_message_in_its_hands)
{
    struct bytes wire = built("T:bye T:never X:1000");
    struct ws_event ev;
    begin(false, 4096);
    ws_received(&s.ws, wire.p, wire.n, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_TEXT);
    cr_assert_eq(ws_close(&s.ws, 1000, "", 0), 0);
    cr_assert_arr_eq(ev.data, "bye", 3);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_CLOSED);
    cr_assert_eq(ev.code, 1000);
    cr_assert(!ev.by_peer);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_NONE);
    bytes_free(&wire);
    end();
}

Test(ws_close, fault_has_a_reason_in_words)
{
    struct bytes wire = built("uT:x");
    struct ws_event ev;
    begin(false, 4096);
    ws_received(&s.ws, wire.p, wire.n, 0);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_CLOSED);
    cr_assert_eq(ev.len, strlen("wrong masking"));
    cr_assert_arr_eq(ev.data, "wrong masking", ev.len);
    cr_assert_eq(s.out.len, 4 + ev.len);
    cr_assert_arr_eq(s.out.p + 4, ev.data, ev.len);
    bytes_free(&wire);
    end();
}

Test(ws_close, end_of_tcp_is_told_once_and_after_what_came)
{
    begin(false, 4096);
    ws_eof(&s.ws);
    feed("T:a P:b T+1:c");
    expect("T:a O:b !1006");
    ws_eof(&s.ws);
    feed("T:a");
    expect("");
    end();
}

Test(ws_close, end_of_tcp_needs_no_buffer)
{
    struct ws_event ev;
    begin(false, 4096);
    feed("t:abc");
    ws_eof(&s.ws);
    cr_assert_eq(ws_next(&s.ws, &ev), WS_EV_CLOSED);
    cr_assert_eq(ev.code, 1006);
    cr_assert(!ev.by_peer);
    cr_assert_eq(s.out.len, 0u);
    cr_assert_eq(ws_deadline(&s.ws), WS_NEVER);
    end();
}
