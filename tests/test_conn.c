// uses: servers/conn.c servers/conn_http.c servers/conn_out.c servers/conn_pool.c servers/server.c servers/net.c servers/loop.c servers/loop_poll.c servers/loop_epoll.c ws.c ws_handshake.c http.c sha1.c base64.c utf8.c number.c
/* Connections over real sockets, server and client in one process: the client
 * side is read while the loop turns. Timers are short. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "conn_rig.h"
#include "test.h"

/* What comes of a request. */

static const struct { const char *name, *send, *answer, *told; bool stays; } requests[] = {
    { "upgrade", UPGRADE, "HTTP/1.1 101 ", "opened ", true },
    { "unknown path", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 404 ", "refused(404) ", false },
    { "/ws without upgrade", "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 426 ", "refused(426) ", false },
    { "wrong version", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 12\r\n\r\n",
      "HTTP/1.1 426 ", "refused(426) ", false },
    { "bare LF", "GET / HTTP/1.1\nHost: a\n\n", "HTTP/1.1 400 ", "refused(400) ", false },
    { "something else", "\x16\x03\x01\x02\x00\x01", "HTTP/1.1 400 ", "refused(400) ", false },
    { "HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "HTTP/1.1 505 ", "refused(505) ", false },
};

Test(conn_http, requests_are_answered_and_refusals_end_the_connection)
{
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        for (size_t piece = 1; piece < 200; piece += piece < 3 ? 1 : 60) {
            struct rig r;
            rig_open(&r, &rig_echo);
            int fd = rig_dial(&r);
            rig_send_pieces(&r, fd, requests[i].send, strlen(requests[i].send), piece);
            rig_read(&r, fd, 30);
            cr_assert(rig_begins(&r, requests[i].answer), "%s in pieces of %zu: %s",
                      requests[i].name, piece, r.got);
            cr_assert_str_eq(r.told, requests[i].told, "%s: %s", requests[i].name, r.told);
            cr_assert_eq(r.ended, !requests[i].stays, "%s", requests[i].name);
            rig_close(&r);
        }
    }
}

Test(conn_http, refusals_carry_what_their_status_asks_for)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    int fd = rig_dial(&r);
    rig_send(&r, fd, requests[3].send, strlen(requests[3].send));
    rig_read(&r, fd, 50);
    cr_assert(strstr(r.got, "\r\nSec-WebSocket-Version: 13\r\n"), "%s", r.got);
    cr_assert(strstr(r.got, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"), "%s", r.got);
    cr_assert(strstr(r.got, "\r\nConnection: close\r\n"), "%s", r.got);
    rig_close(&r);
}

static struct slice large;   /* the body of /large */

static void answer_all(struct conn *c, const struct http_head *h)
{
    struct conn_answer a = { .status = 200, .type = "text/plain", .headers = "X-Y: z\r\n",
                             .body = h->path };
    if (slice_is(h->path, "/large")) a.body = large;
    if (slice_is(h->path, "/no")) a.status = 404;
    if (slice_is(h->path, "/silent")) return;
    if (ws_is_upgrade(h)) conn_upgrade(c, h, (struct slice){ "p1", 2 }, NULL);
    else conn_answer(c, &a);
}

static const struct server_ops answering = {
    .request = answer_all, .message = rig_message, .opened = rig_opened, .closed = rig_closed,
    .refused = rig_refused,
};

static const struct { const char *name, *send, *got; bool stays; } answers[] = {
    { "kept alive", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: keep-alive\r\n\r\n/a", true },
    { "HEAD", "HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: keep-alive\r\n\r\n", true },
    { "asked to close", "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: close\r\n\r\n/a", false },
    { "HTTP/1.0", "GET /a HTTP/1.0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: close\r\n\r\n/a", false },
    { "an error", "GET /no HTTP/1.1\r\nHost: a\r\n\r\n",
      "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: close\r\n\r\n/no", false },
    { "a body announced", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: close\r\n\r\n/a", false },
    { "pipelined", "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /bc HTTP/1.1\r\nHost: a\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: keep-alive\r\n\r\n/a"
      "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: keep-alive\r\n\r\n/bc", true },
    { "HEAD, malformed behind the request line, after another",
      "HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nno colon\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: keep-alive\r\n\r\n"
      "HTTP/1.1 400 Bad Request\r\nContent-Length: 35\r\n"
      "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n", false },
    { "what is no request behind a HEAD", "HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\nGET /\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: text/plain\r\nX-Y: z\r\n"
      "Connection: keep-alive\r\n\r\n"
      "HTTP/1.1 400 Bad Request\r\nContent-Length: 35\r\n"
      "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
      "400 Bad Request: malformed request\n", false },
    { "never answered", "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n",
      "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 40\r\n"
      "Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
      "500 Internal Server Error: not answered\n", false },
};

Test(conn_http, answers_are_exact_in_any_pieces)
{
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        size_t n = strlen(answers[i].send);
        for (size_t piece = 1; piece <= n; piece += piece < 2 || piece + 37 > n ? n - piece ? n - piece : 1 : 37) {
            struct rig r;
            rig_open(&r, &answering);
            int fd = rig_dial(&r);
            rig_send_pieces(&r, fd, answers[i].send, n, piece);
            rig_read(&r, fd, 25);
            cr_assert_str_eq(r.got, answers[i].got, "%s in pieces of %zu: %s", answers[i].name, piece, r.got);
            cr_assert_eq(r.ended, !answers[i].stays, "%s", answers[i].name);
            rig_close(&r);
        }
    }
}

Test(conn_http, upgrade_may_follow_a_plain_request_and_names_the_subprotocol)
{
    struct rig r;
    rig_open(&r, &answering);
    int fd = rig_dial(&r);
    static const char both[] = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n" UPGRADE "\x81\x82\0\0\0\0hi";
    rig_send(&r, fd, both, sizeof both - 1);
    rig_read(&r, fd, 30);
    cr_assert(strstr(r.got, "\r\n\r\n/aHTTP/1.1 101 "), "%s", r.got);
    cr_assert(strstr(r.got, "\r\nSec-WebSocket-Protocol: p1\r\n"), "%s", r.got);
    cr_assert_str_eq(r.told, "opened text(hi) ");
    rig_close(&r);
}

Test(conn_http, large_answer_reaches_a_slow_reader_whole)
{
    enum { N = 9000000 };
    struct rig r;
    large = (struct slice){ malloc(N), N };
    memset((char *)(uintptr_t)large.p, 'b', N);
    rig_open(&r, &answering);
    int fd = rig_dial(&r);
    rig_send(&r, fd, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n", 32);
    rig_turn(&r, HANDSHAKE_MS / 2);
    rig_await(&r, fd, N);
    rig_read(&r, fd, 10);
    cr_assert_eq(r.got[r.n - 1], 'b');
    size_t head = (size_t)(strstr(r.got, "\r\n\r\n") - r.got) + 4;
    cr_assert_eq(r.n, head + N);
    rig_send(&r, fd, answers[0].send, strlen(answers[0].send));
    rig_read(&r, fd, 10);
    cr_assert(r.n > head + N, "the connection lives on");
    rig_close(&r);
}

/* Time before the handshake. */

Test(conn_time, silent_client_is_closed_without_a_word_after_the_handshake_timeout)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    rig_hurry(&r);
    int fd = rig_dial(&r);
    int64_t began = loop_clock();
    rig_read(&r, fd, 400);
    int64_t took = loop_clock() - began;
    cr_assert(r.ended && !r.n, "got %zu bytes", r.n);
    cr_assert(took >= HANDSHAKE_MS - 2 && took < HANDSHAKE_MS + SLACK_MS, "%d ms", (int)took);
    cr_assert_str_eq(r.told, "refused(0) ");
    rig_close(&r);
}

Test(conn_time, trickled_request_is_answered_408_however_steadily_it_comes)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    rig_hurry(&r);
    int fd = rig_dial(&r);
    int64_t began = loop_clock();
    for (size_t i = 0; i < 400 && !r.n && !r.ended; i++) {
        rig_send(&r, fd, i < 100 ? &UPGRADE[i] : "x", 1);
        rig_read(&r, fd, 5);
    }
    rig_read(&r, fd, 50);
    cr_assert(rig_begins(&r, "HTTP/1.1 408 "), "%s", r.got);
    cr_assert(loop_clock() - began < HANDSHAKE_MS + SLACK_MS);
    cr_assert(r.ended);
    cr_assert_str_eq(r.told, "refused(408) ");
    rig_close(&r);
}

Test(conn_time, kept_alive_connection_is_closed_after_the_handshake_timeout)
{
    struct rig r;
    rig_open(&r, &answering);
    rig_hurry(&r);
    int fd = rig_dial(&r);
    rig_send(&r, fd, answers[0].send, strlen(answers[0].send));
    rig_read(&r, fd, HANDSHAKE_MS / 2);
    rig_send(&r, fd, answers[0].send, strlen(answers[0].send));
    rig_read(&r, fd, HANDSHAKE_MS / 2 + 10);
    cr_assert(!r.ended, "the second request came in time");
    rig_read(&r, fd, 400);
    cr_assert(r.ended);
    cr_assert_str_eq(r.told, "");
    rig_close(&r);
}

/* Messages. */

static const size_t sizes[] = {
    0, 1, 125, 126, 127, 1000, 4095, 16383, 16384, 16385, 65535, 65536, 65537, 200000, 524288,
    524289, 1000000, 3000000
};

Test(conn_message, any_size_comes_back_the_same_and_nothing_stays_held)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct rig r;
        rig_open(&r, &rig_echo);
        int fd = rig_upgrade(&r);
        rig_echo_one(&r, fd, sizes[i], 1 << 30);
        cr_assert_eq(conn_pool_held(r.pool), 0, "%zu bytes held after %zu", conn_pool_held(r.pool), sizes[i]);
        rig_close(&r);
    }
}

Test(conn_message, any_pieces_give_the_same_message)
{
    static const size_t pieces[] = { 1, 2, 3, 7, 100, 1000, 4096, 65536 };
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct rig r;
        rig_open(&r, &rig_echo);
        int fd = rig_upgrade(&r);
        size_t n = pieces[i] < 10 ? 300 : pieces[i] < 5000 ? 70000 : 1000000;
        rig_echo_one(&r, fd, n, pieces[i]);
        cr_assert_eq(conn_pool_held(r.pool), 0);
        rig_close(&r);
    }
}

Test(conn_message, frames_in_the_packet_of_the_handshake_are_served)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    int fd = rig_dial(&r);
    static const char both[] = UPGRADE "\x81\x82\0\0\0\0hi" "\x89\x81\0\0\0\0p";
    for (size_t piece = 1; piece < sizeof both; piece += 29) {
        struct rig q;
        rig_open(&q, &rig_echo);
        int client = rig_dial(&q);
        rig_send_pieces(&q, client, both, sizeof both - 1, piece);
        rig_read(&q, client, 25);
        const char *end = strstr(q.got, "\r\n\r\n");
        cr_assert(end && !memcmp(end + 4, "\x81\x02hi\x8a\x01p", 7), "in pieces of %zu", piece);
        rig_close(&q);
    }
    (void)fd;
    rig_close(&r);
}

Test(conn_message, messages_of_one_read_leave_with_one_send)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r);
    static char many[200 * 12];
    for (int i = 0; i < 200; i++) memcpy(many + 12 * i, "\x81\x86\0\0\0\0abcdef", 12);
    rig_send(&r, fd, many, sizeof many);
    loop_turn(r.loop, 50);
    rig_read_now(&r, fd);
    cr_assert_eq(r.n, 200 * 8, "the first turn sent %zu bytes", r.n);
    rig_close(&r);
}

static void on_ask(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    size_t cap;
    for (int i = 0; i < 3; i++) {
        char *reply = conn_reply_begin(c, &cap);
        cr_assert(reply && cap >= RIG_REPLY);
        size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        memset(reply, 'a' + i, len);
        if (i == 1 && n > 3) continue;      /* begun and given up */
        conn_reply_end(c, op, len);
    }
}

static const struct server_ops asked = { .message = on_ask };

Test(conn_reply, is_framed_in_place_whatever_its_length)
{
    static const size_t lens[] = { 0, 1, 125, 126, 65535, 65536, RIG_REPLY };
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        for (size_t given_up = 0; given_up < 2; given_up++) {
            struct rig r;
            rig_open(&r, &asked);
            int fd = rig_upgrade(&r);
            uint8_t ask[4] = { (uint8_t)(lens[i] >> 16), (uint8_t)(lens[i] >> 8), (uint8_t)lens[i], 0 };
            rig_frame(&r, fd, 0x82, ask, 3 + given_up);
            for (int k = 0; k < 3; k++)
                if (k != 1 || !given_up) rig_expect_run(&r, fd, 2, 'a' + k, lens[i]);
            cr_assert_eq(conn_pool_held(r.pool), 0);
            rig_close(&r);
        }
    }
}

/* Everybody gets what anybody sends, between two words to the sender. */
static void on_broadcast(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    struct server *s = conn_server(c);
    struct conn *other;
    conn_send(c, WS_TEXT, "before", 6);
    for (uint32_t i = 0; (other = rig_each(s, &i)); )
        if (other != c) conn_send(other, op, p, n);
    conn_send(c, WS_TEXT, "behind", 6);
}

static const struct server_ops broadcasting = { .message = on_broadcast };

Test(conn_message, others_are_sent_to_from_within_a_message_and_take_their_time)
{
    static const size_t lens[] = { 10, 3000, 5000000 };
    for (size_t k = 0; k < sizeof lens / sizeof *lens; k++) {
        struct rig r;
        rig_open(&r, &broadcasting);
        r.server.ws.max_message = 10000000;
        int fd = rig_upgrade(&r), others[3];
        char *payload = calloc(1, lens[k]);
        memset(payload, 'p', lens[k]);
        for (int i = 0; i < 3; i++) others[i] = rig_upgrade(&r);
        rig_frame(&r, fd, 0x82, payload, lens[k]);
        rig_await(&r, fd, 16);
        cr_assert_arr_eq(r.got, "\x81\6before\x81\6behind", 16);
        for (int i = 0; i < 3; i++) {
            rig_fresh(&r);
            rig_expect_run(&r, others[i], 2, 'p', lens[k]);
        }
        rig_turn(&r, 5);
        cr_assert_eq(conn_pool_held(r.pool), 0);
        free(payload);
        rig_close(&r);
    }
}

/* Ends. */

static const struct { const char *name, *send; size_t n; const char *got; size_t got_n; const char *told; bool ends; } ends[] = {
    { "close is answered with its code", "\x88\x85\0\0\0\0\x03\xe8" "bye", 11, "\x88\x02\x03\xe8", 4,
      "closed(1000 by peer bye) ", true },
    { "close without code", "\x88\x80\0\0\0\0", 6, "\x88\0", 2, "closed(1005 by peer) ", true },
    { "what came before a close is answered", "\x81\x81\0\0\0\0a\x88\x80\0\0\0\0", 13, "\x81\1a\x88\0", 5,
      "text(a) closed(1005 by peer) ", true },
    { "unmasked frame", "\x81\x01x", 3, "\x88\x0f\x03\xeawrong masking", 17,
      "closed(1002 wrong masking) ", true },
    { "messages and pings before a fault are answered",
      "\x81\x81\0\0\0\0a\x89\x81\0\0\0\0p\x83\x80\0\0\0\0", 20,
      "\x81\1a\x8a\1p\x88\x11\x03\xeareserved opcode", 25, "text(a) closed(1002 reserved opcode) ", true },
    { "bad UTF-8 inside an unfinished frame", "\x81\x85\0\0\0\0a\xff", 8,
      "\x88\x13\x03\xeftext is not UTF-8", 21, "closed(1007 text is not UTF-8) ", true },
    { "too large, from the header", "\x82\xff\0\0\0\0\x10\0\0\0\0\0\0\0", 14,
      "\x88\x13\x03\xf1message too large", 21, "closed(1009 message too large) ", true },
};

Test(conn_end, faults_and_closes_are_answered_and_the_server_ends_tcp)
{
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        for (size_t piece = 1; piece < 40; piece += 38) {
            struct rig r;
            rig_open(&r, &rig_echo);
            int fd = rig_upgrade(&r);
            rig_send_pieces(&r, fd, ends[i].send, ends[i].n, piece);
            rig_read(&r, fd, 30);
            cr_assert_eq(r.n, ends[i].got_n, "%s: %zu bytes", ends[i].name, r.n);
            cr_assert_arr_eq(r.got, ends[i].got, r.n, "%s", ends[i].name);
            cr_assert(r.ended, "%s", ends[i].name);
            cr_assert_str_eq(r.told + strlen("opened "), ends[i].told, "%s: %s", ends[i].name, r.told);
            rig_close(&r);
        }
    }
}

Test(conn_end, after_a_fault_what_still_comes_is_thrown_away_without_a_reset)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r);
    static char junk[300000];
    rig_send(&r, fd, "\x81\x01x", 3);
    for (int i = 0; i < 4; i++) {
        loop_turn(r.loop, 2);
        cr_assert_eq(send(fd, junk, 100000, MSG_NOSIGNAL), 100000);
    }
    rig_read(&r, fd, 30);
    cr_assert_eq(r.n, 17, "the close frame was lost: %zu bytes", r.n);
    cr_assert(r.ended && !r.reset);
    cr_assert_eq(r.server.n.active, 1, "waits for the client to end, or for the close timeout");
    close(fd);
    rig_turn(&r, 20);
    cr_assert_eq(r.server.n.active, 0);
    rig_close(&r);
}

Test(conn_end, throws_away_no_more_than_a_mebibyte_and_no_longer_than_the_close_timeout)
{
    for (int much = 0; much < 2; much++) {
        struct rig r;
        rig_open(&r, &rig_echo);
        rig_hurry(&r);
        int fd = rig_upgrade(&r);
        static char junk[65536];
        size_t sent = 0;
        int64_t began = loop_clock();
        rig_send(&r, fd, "\x81\x01x", 3);
        while (r.server.n.active && loop_clock() < began + 9000) {
            ssize_t n = much ? send(fd, junk, sizeof junk, MSG_NOSIGNAL) : 0;
            if (n > 0) sent += (size_t)n;
            loop_turn(r.loop, much ? 0 : 5);
        }
        int64_t took = loop_clock() - began;
        if (much) cr_assert(sent >= CONN_LINGER && sent < 8 * CONN_LINGER, "%zu", sent);
        else cr_assert(took >= CLOSE_MS - 20 && took < CLOSE_MS + SLACK_MS, "%d ms", (int)took);
        rig_close(&r);
    }
}

Test(conn_end, client_that_ends_tcp_without_a_close_is_1006)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r);
    rig_frame(&r, fd, 0x81, "last", 4);
    shutdown(fd, SHUT_WR);
    rig_read(&r, fd, 50);
    cr_assert_eq(r.n, 6, "what it asked before is answered: %zu", r.n);
    cr_assert(r.ended);
    cr_assert_str_eq(r.told, "opened text(last) closed(1006 connection lost) ");
    cr_assert_eq(r.server.n.active, 0);
    rig_close(&r);
}

Test(conn_end, reset_is_1006)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r);
    struct linger hard = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
    rig_turn(&r, 30);
    cr_assert_str_eq(r.told, "opened closed(1006 connection lost) ");
    cr_assert_eq(r.server.n.active, 0);
    rig_close(&r);
}

Test(conn_end, our_close_waits_for_the_answer_then_ends)
{
    for (int answered = 0; answered < 2; answered++) {
        struct rig r;
        rig_open(&r, &rig_echo);
        rig_hurry(&r);
        int fd = rig_upgrade(&r);
        int64_t began = loop_now(r.loop);
        uint32_t i = 0;
        conn_close(rig_each(&r.server, &i), 1001, "going");
        rig_read(&r, fd, 15);
        cr_assert_eq(r.n, 9);
        cr_assert_arr_eq(r.got, "\x88\7\x03\xe9going", 9);
        cr_assert(!r.ended);
        rig_frame(&r, fd, 0x81, "late", 4);
        if (answered) rig_frame(&r, fd, 0x88, "\x03\xe9", 2);
        rig_read(&r, fd, 4 * CLOSE_MS);
        cr_assert(r.ended);
        cr_assert_eq(r.n, 9, "nothing is sent after a close");
        int64_t took = loop_clock() - began;
        cr_assert(answered || took >= CLOSE_MS - 2, "%d ms", (int)took);
        cr_assert_str_eq(r.told, answered ? "opened closed(1001) " : "opened closed(1006 no answer to close) ");
        rig_close(&r);
    }
}

Test(conn_end, shutdown_says_1001_and_leaves_nobody)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    rig_hurry(&r);
    int open = rig_upgrade(&r), idle = rig_dial(&r), begun = rig_dial(&r);
    rig_send(&r, begun, "GET / HT", 8);
    rig_turn(&r, 10);
    cr_assert_eq(r.server.n.active, 3);
    server_stop_accepting(&r.server);
    server_shutdown(&r.server, 1001, "");
    rig_read(&r, open, 15);
    cr_assert_arr_eq(r.got, "\x88\2\x03\xe9", 4);
    rig_frame(&r, open, 0x88, "\x03\xe9", 2);
    rig_turn(&r, CLOSE_MS + 60);
    cr_assert_eq(r.server.n.active, 0);
    cr_assert(rig_dial(&r) < 0, "still listens");
    (void)idle;
    rig_close(&r);
}

/* Keepalive. */

Test(conn_time, quiet_client_is_pinged_and_lives_while_it_answers)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    rig_hurry(&r);
    int fd = rig_upgrade(&r);
    for (int i = 0; i < 3; i++) {
        r.n = 0;
        rig_read(&r, fd, PING_MS + 25);
        cr_assert(r.n >= 2 && !memcmp(r.got, "\x89\0", 2), "%zu bytes", r.n);
        rig_frame(&r, fd, 0x8a, "", 0);
    }
    cr_assert(!r.ended);
    rig_close(&r);
}

Test(conn_time, client_that_answers_no_ping_is_closed_with_1011)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    rig_hurry(&r);
    int fd = rig_upgrade(&r);
    int64_t began = loop_clock();
    while (!r.ended && loop_clock() < began + 9000) rig_read(&r, fd, 5);
    int64_t took = loop_clock() - began;
    cr_assert(r.ended && took >= 2 * PING_MS - 4 && took < 2 * PING_MS + SLACK_MS, "%d ms", (int)took);
    cr_assert_str_eq(r.told, "opened closed(1011 no answer to ping) ");
    rig_close(&r);
}

Test(conn_time, after_a_stall_nobody_is_timed_out_whose_answer_is_already_here)
{
    enum { N = 600 };                    /* more than are served in a turn */
    struct rig r;
    static int fd[N];
    rig_open(&r, &rig_echo);
    net_raise_descriptors();
    for (int i = 0; i < N; i++) fd[i] = rig_upgrade(&r);
    r.server.ws.ping_interval_ms = 100;
    r.server.ws.ping_timeout_ms = 2000;
    for (int i = 0; i < N; i++) rig_frame(&r, fd[i], 0x8a, "", 0);
    rig_turn(&r, 500);                   /* all are pinged */
    for (int i = 0; i < N; i++) rig_frame(&r, fd[i], 0x8a, "", 0);
    poll(NULL, 0, 2200);
    for (int i = 0; i < 5; i++) loop_turn(r.loop, 0);
    cr_assert_eq(r.server.n.open, N, "%d of %d were lost", N - (int)r.server.n.open, N);
    rig_close(&r);
}

Test(conn_time, begun_message_must_be_whole_in_time)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    rig_hurry(&r);
    int fd = rig_upgrade(&r);
    rig_send(&r, fd, "\x01\x81\0\0\0\0a", 7);
    for (int i = 0; i < 60 && !r.ended; i++) {
        rig_read(&r, fd, 10);
        if (!r.ended) rig_frame(&r, fd, 0x8a, "", 0);
    }
    cr_assert(strstr(r.told, "closed(1008 message not whole in time)"), "%s", r.told);
    rig_close(&r);
}

/* Pressure. */

Test(conn_pressure, client_that_does_not_read_is_not_read_and_all_comes_once_it_reads)
{
    struct rig r;
    enum { N = 3000, LEN = 10000 };
    static char payload[LEN];
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r);
    size_t made = 0, sent = 0;
    struct bytes wire = { 0 };
    for (int i = 0; i < N; i++) {
        memset(payload, i, LEN);
        rig_put_frame(&wire, 0x82, payload, LEN);
        made++;
    }
    for (int still = 0; still < 50; still++) {
        ssize_t n = send(fd, wire.p + sent, wire.n - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) { sent += (size_t)n; still = 0; }
        loop_turn(r.loop, 1);
    }
    cr_assert(sent < wire.n, "the server took %zu bytes from one that reads nothing", sent);
    cr_assert(conn_pool_held(r.pool) < 3 * CONN_HIGH_WATER + 2 * 524288, "%zu held", conn_pool_held(r.pool));
    rig_echoes(&r, fd, &wire, sent, N, LEN);
    cr_assert_eq(conn_pool_held(r.pool), 0);
    bytes_free(&wire);
    rig_close(&r);
}

Test(conn_pressure, client_that_takes_nothing_is_ended_with_1013)
{
    struct rig r;
    static char payload[100000];
    rig_open(&r, &rig_echo);
    rig_hurry(&r);
    int fd = rig_upgrade(&r);
    int64_t began = loop_clock();
    struct bytes wire = { 0 };
    rig_put_frame(&wire, 0x82, payload, sizeof payload);
    for (size_t at = 0; !strstr(r.told, "closed") && loop_clock() < began + 9000; ) {
        ssize_t n = send(fd, wire.p + at, wire.n - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) at = (at + (size_t)n) % wire.n;
        loop_turn(r.loop, 1);
        r.told[sizeof r.told / 2] = '\0';
        if (!strstr(r.told, "closed")) r.told[0] = '\0';
    }
    cr_assert(strstr(r.told, "closed(1013 "), "%s", r.told);
    loop_turn(r.loop, 0);
    cr_assert_eq(r.server.n.active, 0);
    cr_assert_eq(conn_pool_held(r.pool), 0);
    bytes_free(&wire);
    rig_close(&r);
}

Test(conn_pressure, pings_of_one_that_does_not_read_are_not_hoarded)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r);
    struct bytes wire = { 0 };
    char payload[125] = { 0 };
    for (int i = 0; i < 500; i++) rig_put_frame(&wire, 0x89, payload, 125);
    size_t sent = 0;
    for (int still = 0; still < 30; still++) {
        ssize_t n = send(fd, wire.p + sent % wire.n, wire.n - sent % wire.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) { sent += (size_t)n; still = 0; }
        loop_turn(r.loop, 1);
        cr_assert(conn_pool_held(r.pool) < 4 * CONN_HIGH_WATER, "%zu held", conn_pool_held(r.pool));
    }
    bytes_free(&wire);
    rig_close(&r);
}

static unsigned heard[256], heard_n;
static uint8_t heard_of[256];         /* [heard_n] whose, one after the other; the first ones */

static void spend(int64_t us)
{
    int64_t end = loop_clock_us() + us;
    while (loop_clock_us() < end) {}
}

/* One that costs half a millisecond; its first byte says whose it is, its second which. */
static void hear(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    (void)op, (void)n;
    spend(500);
    cr_assert_eq(p[1], (uint8_t)heard[p[0]]++, "out of order");
    if (heard_n < sizeof heard_of) heard_of[heard_n++] = p[0];
    conn_took_long(c);
}

static const struct server_ops hearing = { .message = hear };

/* So many messages of a client, numbered; all of them lie in the kernel's buffer when it returns. */
static void say_many(int fd, unsigned who, unsigned many, size_t len)
{
    struct bytes wire = { 0 };
    uint8_t *payload = calloc(1, len);
    payload[0] = (uint8_t)who;
    for (unsigned i = 0; i < many; i++) {
        payload[1] = (uint8_t)i;
        rig_put_frame(&wire, 0x82, payload, len);
    }
    cr_assert_eq(send(fd, wire.p, wire.n, MSG_NOSIGNAL), (ssize_t)wire.n);
    free(payload);
    bytes_free(&wire);
}

Test(conn_pressure, what_takes_long_is_handled_in_short_turns_and_all_are_served_by_turns)
{
    enum { CLIENTS = 3, MANY = 60, LEN = 1000, LONGEST = 2 * 9 + CLIENTS };
    struct rig r;
    int fd[CLIENTS];
    unsigned turns = 0, longest = 0;
    rig_open(&r, &hearing);
    memset(heard, 0, sizeof heard);
    heard_n = 0;
    for (int i = 0; i < CLIENTS; i++) fd[i] = rig_upgrade(&r);
    for (unsigned i = 0; i < CLIENTS; i++) say_many(fd[i], i, MANY, LEN);
    for (; turns < 1000 && heard_n < CLIENTS * MANY; turns++) {
        unsigned before = heard_n;
        loop_turn(r.loop, 100);
        if (heard_n - before > longest) longest = heard_n - before;
        if (turns < 4) continue;
        for (int i = 0; i < CLIENTS; i++)
            cr_assert(heard[i], "client %d has not been served in %u turns", i, turns);
    }
    cr_assert_eq(heard_n, CLIENTS * MANY);
    cr_assert(longest <= LONGEST, "%u messages in a turn", longest);
    cr_assert(turns >= CLIENTS * MANY / LONGEST, "%u turns", turns);
    for (unsigned i = 2 * LONGEST; i < CLIENTS * MANY / 2; i++) {
        unsigned same = 1;
        while (heard_of[i + same] == heard_of[i]) same++;
        cr_assert(same <= LONGEST, "%u messages of one while others wait", same);
    }
    rig_turn(&r, 5);
    cr_assert_eq(conn_pool_held(r.pool), 0);
    rig_close(&r);
}

Test(conn_pressure, those_that_wait_are_not_all_served_in_one_turn)
{
    enum { CLIENTS = 40, MANY = 8 };
    struct rig r;
    int fd[CLIENTS];
    rig_open(&r, &hearing);
    memset(heard, 0, sizeof heard);
    heard_n = 0;
    for (int i = 0; i < CLIENTS; i++) fd[i] = rig_upgrade(&r);
    for (unsigned i = 0; i < CLIENTS; i++) say_many(fd[i], i, MANY, 100);
    loop_turn(r.loop, 100);
    for (int i = 0; i < CLIENTS; i++) cr_assert(heard[i], "client %d was passed over", i);
    while (heard_n < sizeof heard_of && heard_n < CLIENTS * MANY) {
        unsigned before = heard_n;
        loop_turn(r.loop, 100);
        cr_assert(heard_n > before && heard_n - before <= 10, "%u messages in a turn", heard_n - before);
    }
    rig_close(&r);
}

Test(conn_pressure, those_that_wait_have_time_of_their_own_beside_those_that_are_read)
{
    enum { MANY = 100, BESIDE = 8 };
    struct rig r;
    int fd[2], turns = 0;
    rig_open(&r, &hearing);
    memset(heard, 0, sizeof heard);
    for (int i = 0; i < 2; i++) fd[i] = rig_upgrade(&r);
    say_many(fd[0], 0, MANY, 100);
    for (loop_turn(r.loop, 100); heard[0] < MANY; turns++) {
        if (heard[1] % BESIDE == 0) {
            heard[1] = 0;
            say_many(fd[1], 1, BESIDE, 100);
        }
        loop_turn(r.loop, 100);
    }
    cr_assert(turns < MANY / 2, "%d turns", turns);
    rig_close(&r);
}

Test(conn_pressure, what_was_read_of_one_that_is_gone_meanwhile_is_handled)
{
    enum { MANY = 30 };
    struct rig r;
    struct linger hard = { 1, 0 };
    rig_open(&r, &hearing);
    memset(heard, 0, sizeof heard);
    int fd = rig_upgrade(&r);
    say_many(fd, 0, MANY, 100);
    loop_turn(r.loop, 100);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(r.fd[--r.fds]);
    for (int i = 0; i < 1000 && r.server.n.active; i++) loop_turn(r.loop, 10);
    cr_assert_eq(heard[0], MANY);
    cr_assert_eq(r.server.n.active, 0);
    rig_close(&r);
}

/* What waits for its turn comes before a ping, a close and the end of TCP behind it, and before
 * what comes later. */
Test(conn_pressure, what_waits_for_its_turn_keeps_its_order_and_is_not_lost)
{
    enum { MANY = 250 };                 /* they take longer than silence may */
    static const uint8_t late[] = { 0, MANY, 'x' };
    for (int closed = 0; closed < 2; closed++) {
        struct rig r;
        rig_open(&r, &hearing);
        rig_hurry(&r);                   /* it is not silent, it is not read */
        memset(heard, 0, sizeof heard);
        int fd = rig_upgrade(&r);
        say_many(fd, 0, MANY, 100);
        loop_turn(r.loop, 100);
        cr_assert(heard[0] && heard[0] < 30, "%u messages in the first turn", heard[0]);
        rig_frame(&r, fd, 0x82, late, sizeof late);
        rig_frame(&r, fd, 0x89, "p", 1);
        if (closed) rig_frame(&r, fd, 0x88, "\x03\xe8", 2);
        shutdown(fd, SHUT_WR);
        for (int i = 0; i < 1000 && !r.ended; i++) {
            loop_turn(r.loop, 10);
            rig_read_now(&r, fd);
            cr_assert(!r.n || heard[0] == MANY + 1, "sent something after %u messages", heard[0]);
        }
        cr_assert_eq(heard[0], MANY + 1);
        cr_assert_arr_eq(r.got, "\x8a\1p", 3);
        if (closed) cr_assert_arr_eq(r.got + 3, "\x88\2\x03\xe8", 4);
        cr_assert(r.ended);
        rig_close(&r);
    }
}

static void hear_request(struct conn *c, const struct http_head *h)
{
    (void)h;
    spend(500);
    heard[0]++;
    conn_answer(c, &(struct conn_answer){ .status = 204 });
}

static const struct server_ops hearing_requests = { .request = hear_request, .message = hear };

Test(conn_pressure, requests_in_one_piece_are_answered_in_short_turns)
{
    enum { MANY = 60 };
    static const char one[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    static const char answer[] = "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n";
    struct rig r;
    struct bytes wire = { 0 };
    rig_open(&r, &hearing_requests);
    memset(heard, 0, sizeof heard);
    int fd = rig_dial(&r);
    for (int i = 0; i < MANY; i++) bytes_add(&wire, one, sizeof one - 1);
    rig_send(&r, fd, wire.p, wire.n);
    for (unsigned before = 0; heard[0] < MANY; before = heard[0]) {
        loop_turn(r.loop, 100);
        cr_assert(heard[0] - before <= 20, "%u requests in a turn", heard[0] - before);
    }
    rig_await(&r, fd, MANY * (sizeof answer - 1));
    cr_assert(rig_begins(&r, answer), "%s", r.got);
    bytes_free(&wire);
    rig_close(&r);
}

/* What costs the endpoint nothing, pings and fragments, is read in small pieces then. */
Test(conn_pressure, where_a_turn_has_taken_long_little_is_read_of_the_others)
{
    enum { MANY = 20, LEN = 1000, FRAME = LEN + 8 };
    struct rig r;
    struct bytes wire = { 0 };
    char payload[125] = { 0 };
    int fd[2];
    rig_open(&r, &hearing);
    memset(heard, 0, sizeof heard);
    for (int i = 0; i < 2; i++) fd[i] = rig_upgrade(&r);
    for (int i = 0; i < 200; i++) rig_put_frame(&wire, 0x89, payload, sizeof payload);
    loop_turn(r.loop, 0);                /* the first to say something is the first to be read */
    uint64_t before = r.server.n.bytes_in;
    say_many(fd[0], 0, MANY, LEN);
    cr_assert_eq(send(fd[1], wire.p, wire.n, MSG_NOSIGNAL), (ssize_t)wire.n);
    loop_turn(r.loop, 100);
    uint64_t came = r.server.n.bytes_in - before;
    cr_assert_eq(came, MANY * FRAME + 4096, "%zu bytes of the second", (size_t)came - MANY * FRAME);
    rig_await(&r, fd[1], 200 * 127);
    for (int i = 0; i < 1000 && heard[0] < MANY; i++) loop_turn(r.loop, 10);
    cr_assert_eq(heard[0], MANY);
    bytes_free(&wire);
    rig_close(&r);
}

static void linger_silently(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    (void)c, (void)op, (void)p, (void)n;
    spend(5000);
}

static const struct server_ops lingering = { .message = linger_silently };

Test(conn_pressure, where_much_is_read_the_time_that_it_takes_is_seen)
{
    enum { PINGS = 300, BYTES = PINGS * 131 };
    struct rig r;
    struct bytes wire = { 0 };
    char payload[125] = { 0 };
    int fd[3];
    rig_open(&r, &lingering);
    for (int i = 0; i < 3; i++) fd[i] = rig_upgrade(&r);
    for (int i = 0; i < PINGS; i++) rig_put_frame(&wire, 0x89, payload, sizeof payload);
    loop_turn(r.loop, 0);
    uint64_t before = r.server.n.bytes_in;
    rig_frame(&r, fd[0], 0x82, "x", 1);
    for (int i = 1; i < 3; i++) cr_assert_eq(send(fd[i], wire.p, wire.n, MSG_NOSIGNAL), BYTES);
    loop_turn(r.loop, 100);
    uint64_t came = r.server.n.bytes_in - before;
    cr_assert_eq(came, 7 + BYTES + 4096, "%zu bytes", (size_t)came);
    rig_await(&r, fd[2], PINGS * 127);
    bytes_free(&wire);
    rig_close(&r);
}

/* A few kept bytes go before what is read. */
Test(conn_pressure, no_read_goes_beyond_the_shared_buffer)
{
    enum { LEN = 1000, KEPT = 600, HEAD = 8 };
    static uint8_t payload[LEN], rest[2 * CONN_IN];
    const uint64_t so_far = sizeof UPGRADE - 1 + HEAD + KEPT;
    struct rig r;
    int room = 2 * CONN_IN;
    rig_open(&r, &rig_echo);
    setsockopt(r.server.listener[0].watch.fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    int fd = rig_upgrade(&r);
    struct bytes wire = { 0 };
    rig_put_frame(&wire, 0x82, payload, LEN);
    rig_send(&r, fd, wire.p, HEAD + KEPT);
    for (int i = 0; i < 1000 && r.server.n.bytes_in < so_far; i++) loop_turn(r.loop, 1);
    cr_assert_eq(r.server.n.bytes_in, so_far);
    while (send(fd, rest, sizeof rest, MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {}
    loop_turn(r.loop, 1000);
    uint64_t came = r.server.n.bytes_in - so_far;
    cr_assert(came && came <= CONN_IN - KEPT, "%zu bytes behind %d", (size_t)came, KEPT);
    bytes_free(&wire);
    rig_close(&r);
}

/* Holding. */

static void hold_at_two(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    rig_message(c, op, p, n);
    if (n == 1 && *p == '2') conn_hold(c, true);
}

static const struct server_ops holding = {
    .message = hold_at_two, .opened = rig_opened, .closed = rig_closed,
};

Test(conn_hold, held_connection_delivers_nothing_until_it_is_let_go)
{
    struct rig r;
    rig_open(&r, &holding);
    int fd = rig_upgrade(&r);
    for (int i = 1; i < 5; i++) {
        char digit = (char)('0' + i);
        rig_frame(&r, fd, 0x81, &digit, 1);
    }
    rig_turn(&r, 10);
    cr_assert_str_eq(r.told, "opened text(1) text(2) ");
    rig_frame(&r, fd, 0x89, "late", 4);
    rig_frame(&r, fd, 0x81, "5", 1);
    rig_turn(&r, 10);
    cr_assert_str_eq(r.told, "opened text(1) text(2) ");
    uint32_t i = 0;
    conn_hold(rig_each(&r.server, &i), false);
    cr_assert_str_eq(r.told, "opened text(1) text(2) ", "delivered inside the call");
    rig_turn(&r, 10);
    cr_assert_str_eq(r.told, "opened text(1) text(2) text(3) text(4) text(5) ");
    rig_read(&r, fd, 10);
    cr_assert(memmem(r.got, r.n, "\x8a\4late", 6), "the ping behind was answered");
    rig_close(&r);
}

Test(conn_hold, held_connection_is_not_timed_out_for_silence)
{
    struct rig r;
    rig_open(&r, &holding);
    rig_hurry(&r);
    int fd = rig_upgrade(&r);
    rig_frame(&r, fd, 0x81, "2", 1);
    rig_frame(&r, fd, 0x81, "3", 1);
    rig_turn(&r, 4 * PING_MS + MESSAGE_MS);
    cr_assert_str_eq(r.told, "opened text(2) ");
    uint32_t i = 0;
    conn_hold(rig_each(&r.server, &i), false);
    rig_turn(&r, 5);
    cr_assert_str_eq(r.told, "opened text(2) text(3) ");
    rig_close(&r);
}

static void hold_late(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    linger_silently(c, op, p, n);
    conn_hold(c, true);
    conn_took_long(c);
}

Test(conn_hold, one_that_is_held_where_the_turn_is_over_is_not_timed_out_either)
{
    static const struct server_ops holding_late = { .message = hold_late, .closed = rig_closed };
    struct rig r;
    rig_open(&r, &holding_late);
    rig_hurry(&r);
    int fd = rig_upgrade(&r);
    rig_frame(&r, fd, 0x81, "x", 1);
    rig_read(&r, fd, 4 * PING_MS);
    cr_assert_eq(r.n, 0, "it was pinged");
    cr_assert_str_eq(r.told, "");
    rig_close(&r);
}

Test(conn_hold, held_connection_can_be_closed_and_its_loss_is_noticed)
{
    for (int lost = 0; lost < 2; lost++) {
        struct rig r;
        rig_open(&r, &holding);
        int fd = rig_upgrade(&r);
        rig_frame(&r, fd, 0x81, "2", 1);
        rig_turn(&r, 5);
        uint32_t i = 0;
        struct conn *c = rig_each(&r.server, &i);
        if (lost) {
            struct linger hard = { 1, 0 };
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
            close(fd);
        } else {
            conn_close(c, 1000, "");
            rig_frame(&r, fd, 0x88, "\x03\xe8", 2);
        }
        rig_turn(&r, 20);
        cr_assert_str_eq(r.told, lost ? "opened text(2) closed(1006 connection lost) "
                                      : "opened text(2) closed(1000) ");
        rig_close(&r);
    }
}

/* References. */

Test(conn_ref, leads_to_its_connection_and_to_no_later_one_in_its_place)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r);
    uint32_t i = 0;
    struct conn *c = rig_each(&r.server, &i);
    struct conn_ref ref = conn_ref(c), nowhere = { 4000000, 1 };
    cr_assert_eq(conn_get(&r.server, ref), c);
    cr_assert_null(conn_get(&r.server, nowhere));
    cr_assert_null(rig_each(&r.server, &i));
    close(fd);
    rig_turn(&r, 20);
    cr_assert_null(conn_get(&r.server, ref));
    fd = rig_upgrade(&r);
    i = 0;
    cr_assert_eq(rig_each(&r.server, &i), c, "the place is used again");
    cr_assert_null(conn_get(&r.server, ref));
    rig_close(&r);
}

/* Limits. */

Test(server_limit, connections_over_it_get_503_and_the_others_live_on)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    r.server.max_connections = 3;
    int fd[3];
    for (int i = 0; i < 3; i++) fd[i] = rig_upgrade(&r);
    for (int i = 0; i < 5; i++) {
        int over = rig_dial(&r);
        rig_send(&r, over, UPGRADE, sizeof UPGRADE - 1);
        rig_read(&r, over, 20);
        cr_assert(rig_begins(&r, "HTTP/1.1 503 "), "%s", r.got);
        cr_assert(strstr(r.got, "\r\nRetry-After: "), "%s", r.got);
        cr_assert(r.ended);
        close(over);
    }
    for (int i = 0; i < 3; i++) rig_echo_one(&r, fd[i], 100, 1000);
    close(fd[1]);
    rig_turn(&r, 20);
    rig_upgrade(&r);
    rig_close(&r);
}

Test(server_limit, used_up_descriptors_do_not_spin_and_accepting_goes_on_later)
{
    struct rig r;
    struct loop_lag lag, after;
    if (!rig_has_real_limits()) return;
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r), waiting = rig_dial(&r);
    int last = rig_use_up_descriptors();
    rig_turn(&r, 10);
    lag = loop_lag(r.loop);
    int64_t end = loop_clock() + 250;
    while (loop_clock() < end) loop_turn(r.loop, (int)(end - loop_clock()));
    after = loop_lag(r.loop);
    cr_assert(after.turns - lag.turns < 40, "%d turns", (int)(after.turns - lag.turns));
    rig_frame(&r, fd, 0x81, "x", 1);
    rig_read(&r, fd, 20);
    cr_assert(r.n >= 3, "the others are served");
    rig_give_back_descriptors(last);
    rig_fresh(&r);
    rig_send(&r, waiting, UPGRADE, sizeof UPGRADE - 1);
    rig_read(&r, waiting, 100);
    cr_assert(rig_begins(&r, "HTTP/1.1 101 "), "%s", r.got);
    rig_close(&r);
}

Test(server_limit, a_listening_socket_that_was_shut_down_does_not_spin)
{
    struct rig r;
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r);
    shutdown(r.server.listener[0].watch.fd, SHUT_RDWR);
    loop_turn(r.loop, 0);
    int64_t began = loop_clock();
    for (int i = 0; i < 5; i++) loop_turn(r.loop, 20);
    cr_assert(loop_clock() - began >= 90, "%d ms", (int)(loop_clock() - began));
    rig_send(&r, fd, "\x81\x80\0\0\0\0", 6);
    rig_read(&r, fd, 20);
    cr_assert_eq(r.n, 2);
    rig_close(&r);
}

Test(server_limit, a_descriptor_given_back_is_used_at_once)
{
    struct rig r;
    if (!rig_has_real_limits()) return;
    rig_open(&r, &rig_echo);
    int fd = rig_upgrade(&r), waiting = rig_dial(&r), last = rig_use_up_descriptors();
    loop_turn(r.loop, 10);
    cr_assert_eq(r.server.n.active, 1);
    rig_frame(&r, fd, 0x88, "", 0);
    for (int i = 0; i < 20 && r.server.n.attempts < 2; i++) loop_turn(r.loop, 1);
    cr_assert_eq(r.server.n.attempts, 2);
    rig_give_back_descriptors(last);
    (void)waiting;
    rig_close(&r);
}

/* Budget. */

Test(conn_budget, one_that_wants_more_is_read_again_when_there_is_room)
{
    struct rig r;
    rig_open_budget(&r, &rig_echo, 300000);
    int hog = rig_upgrade(&r), other = rig_upgrade(&r), small = rig_upgrade(&r);
    struct bytes wire = { 0 };
    static char payload[290000];
    rig_put_frame(&wire, 0x82, payload, sizeof payload);
    rig_send(&r, hog, wire.p, wire.n - 1);
    rig_turn(&r, 20);
    rig_send_some(&r, other, wire.p, wire.n);
    rig_turn(&r, 20);
    cr_assert(conn_pool_held(r.pool) <= 300000 + 3 * CONN_RESERVE + 8192, "%zu held", conn_pool_held(r.pool));
    rig_echo_one(&r, small, 2000, 10000);
    rig_send(&r, hog, wire.p + wire.n - 1, 1);
    rig_fresh(&r);
    rig_expect_run(&r, hog, 2, 0, sizeof payload);
    rig_send_rest(&r, other, wire.p, wire.n);
    rig_fresh(&r);
    rig_expect_run(&r, other, 2, 0, sizeof payload);
    cr_assert_eq(conn_pool_held(r.pool), 0);
    bytes_free(&wire);
    rig_close(&r);
}

Test(conn_budget, where_nothing_moves_the_greatest_holder_is_closed_with_1013)
{
    struct rig r;
    rig_open_budget(&r, &rig_echo, 300000);
    rig_hurry(&r);
    r.server.ws.message_timeout_ms = 0;
    r.server.ws.ping_interval_ms = 0;
    int hog = rig_upgrade(&r), other = rig_upgrade(&r);
    struct bytes wire = { 0 };
    static char payload[290000];
    rig_put_frame(&wire, 0x82, payload, sizeof payload);
    rig_send(&r, hog, wire.p, wire.n - 1);
    rig_turn(&r, 20);
    rig_send_some(&r, other, wire.p, wire.n);
    rig_read(&r, hog, 4 * PING_MS);
    cr_assert(r.n >= 4 && !memcmp(r.got + 2, "\x03\xf5", 2), "%zu bytes", r.n);
    cr_assert(r.ended);
    cr_assert(strstr(r.told, "closed(1013 "), "%s", r.told);
    rig_send_rest(&r, other, wire.p, wire.n);
    rig_fresh(&r);
    rig_expect_run(&r, other, 2, 0, sizeof payload);
    bytes_free(&wire);
    rig_close(&r);
}

Test(conn_budget, one_that_waits_for_room_and_has_lost_its_peer_lets_go_at_once)
{
    struct rig r;
    rig_open_budget(&r, &rig_echo, 300000);
    int hog = rig_upgrade(&r), gone = rig_upgrade(&r);
    struct bytes wire = { 0 };
    static char payload[290000];
    rig_put_frame(&wire, 0x82, payload, sizeof payload);
    rig_send(&r, hog, wire.p, wire.n - 1);
    rig_turn(&r, 20);
    rig_send(&r, gone, wire.p, 30000);
    rig_turn(&r, 20);
    cr_assert_eq(r.server.n.open, 2);
    shutdown(gone, SHUT_WR);
    rig_turn(&r, 20);
    cr_assert_eq(r.server.n.open, 1, "told: %s", r.told);
    bytes_free(&wire);
    rig_close(&r);
}

static void on_greedy(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    size_t cap;
    char *reply = conn_reply_begin(c, &cap);
    (void)p;
    (void)n;
    if (!reply) return;
    memset(reply, 'g', RIG_REPLY);
    conn_reply_end(c, op, RIG_REPLY);
}

static const struct server_ops greedy = { .message = on_greedy, .closed = rig_closed };

Test(conn_budget, beyond_the_overdraft_the_greatest_holder_goes_at_once)
{
    enum { N = 40 };
    struct rig r;
    int fd[N];
    rig_open_budget(&r, &greedy, 100000);
    for (int i = 0; i < N; i++) {
        int small = 4096;
        fd[i] = rig_upgrade(&r);
        setsockopt(fd[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    }
    size_t most = 0;
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < N; i++) {
            if (send(fd[i], "\x81\x81\0\0\0\0a", 7, MSG_NOSIGNAL) < 0) continue;
            loop_turn(r.loop, 0);
            if (conn_pool_held(r.pool) > most) most = conn_pool_held(r.pool);
        }
    }
    cr_assert(most > 100000, "the kernel took it all");
    cr_assert(most < 100000 + 2 * (RIG_REPLY + CONN_OUT_SLACK), "%zu bytes held", most);
    cr_assert(strstr(r.told, "closed(1013 ") || most < 100000 + RIG_REPLY + CONN_OUT_SLACK, "%zu bytes held, but nobody went", most);
    rig_close(&r);
}

enum { FRAME = 100000 };
static char frame[FRAME];

/* One whose queue is dropped may be within a frame, and what follows would be its payload. */
static void expect_no_close_within(struct rig *r)
{
    size_t at = 0;
    const uint8_t *p = (const uint8_t *)r->got;
    while (r->n - at >= 10 && p[at] == 0x82 && r->n - at - 10 >= FRAME) at += 10 + FRAME;
    cr_assert(at < r->n);
    for (at += 10; at < r->n; at++) cr_assert_eq(p[at], 'p', "%02x at %zu of %zu", p[at], at, r->n);
}

Test(conn_budget, who_goes_within_a_frame_is_not_told_in_it)
{
    struct rig r;
    uint32_t i = 0;
    rig_open_budget(&r, &rig_echo, 100000);
    int fd = rig_upgrade(&r);
    struct conn *c = rig_each(&r.server, &i);
    memset(frame, 'p', FRAME);
    for (int n = 0; n < 500 && !c->overrun; n++) {
        if (conn_queued(c)) rig_read_now(&r, fd);
        conn_send(c, WS_BINARY, frame, FRAME);
    }
    cr_assert(c->overrun);
    rig_read(&r, fd, SLACK_MS);
    cr_assert(r.ended);
    cr_assert(strstr(r.told, "closed(1013 "), "%s", r.told);
    expect_no_close_within(&r);
    rig_close(&r);
}

static bool on_long_step(struct job *job)
{
    int64_t began = loop_clock();
    (void)job;
    while (loop_clock() < began + 2 * LOOP_SLICE_US / 1000 + 1) {}
    return true;
}

static bool on_last_step(struct job *job)
{
    (void)job;
    return false;
}

/* The budget ends where the header of its last message is queued. */
static void on_flooded(struct conn *c, enum ws_op op, uint8_t *p, size_t n)
{
    struct conn_pool *pool = c->server->pool;
    (void)p;
    (void)n;
    while (conn_queued(c) < 2 * pool->out_cap) conn_send(c, op, frame, FRAME);
    pool->budget = pool->held - pool->out_cap;
    conn_send(c, op, frame, FRAME);
}

static const struct server_ops flooded = { .message = on_flooded, .closed = rig_closed };

Test(conn_budget, nor_where_the_end_comes_a_turn_later)
{
    struct rig r;
    struct job job = { .step = on_long_step };
    rig_open(&r, &flooded);
    int fd = rig_upgrade(&r);
    memset(frame, 'p', FRAME);
    loop_job(r.loop, &job);
    send(fd, "\x82\x81\0\0\0\0a", 7, MSG_NOSIGNAL);
    for (int n = 0; n < 2000 && !strstr(r.told, "closed"); n++) {
        loop_turn(r.loop, 0);
        rig_read_now(&r, fd);
    }
    job.step = on_last_step;
    loop_turn(r.loop, 0);
    rig_read(&r, fd, SLACK_MS);
    cr_assert(r.ended);
    cr_assert(strstr(r.told, "closed(1013 "), "%s", r.told);
    expect_no_close_within(&r);
    rig_close(&r);
}

Test(conn_budget, what_the_endpoint_takes_counts_and_is_given_back)
{
    struct rig r;
    rig_open_budget(&r, &rig_echo, 100000);
    int fd = rig_upgrade(&r);
    uint32_t i = 0;
    struct conn *c = rig_each(&r.server, &i);
    cr_assert(conn_take(c, 60000));
    cr_assert(conn_take(c, 60000), "it is there already: counted above the budget, too");
    cr_assert_eq(conn_pool_held(r.pool), 120000);
    conn_give(c, 60000);
    conn_give(c, 60000);
    conn_give(c, 0);
    cr_assert_eq(conn_pool_held(r.pool), 0);
    cr_assert(conn_take(c, 100 << 20), "beyond the overdraft whoever holds most goes");
    conn_give(c, 100 << 20);
    rig_read(&r, fd, SLACK_MS);
    cr_assert(strstr(r.told, "closed(1013 "), "%s", r.told);
    rig_close(&r);
}

static void on_leaving(struct conn *c, const struct conn_end *end)
{
    (void)end;
    cr_assert_eq(conn_leave(c, 100), CONN_RESERVE);
    cr_assert_eq(conn_leave(c, 60000 - CONN_RESERVE), 60000 - CONN_RESERVE);
}

static const struct server_ops leaving = { .message = rig_message, .closed = on_leaving };

Test(conn_budget, what_the_endpoint_leaves_counts_until_it_is_given_back)
{
    struct rig r;
    rig_open_budget(&r, &leaving, 100000);
    for (int n = 1; n <= 2; n++) {
        int fd = rig_upgrade(&r);
        uint32_t i = 0;
        struct conn *c = rig_each(&r.server, &i);
        cr_assert(conn_take(c, 60000 - CONN_RESERVE + 100));
        shutdown(fd, SHUT_WR);
        for (int k = 0; k < 1000 && r.server.n.open; k++) loop_turn(r.loop, 1);
        cr_assert_eq(conn_pool_held(r.pool), (size_t)n * 60000);
        cr_assert_eq(conn_pool_crowded(r.pool), n == 2);
    }
    conn_pool_give(r.pool, 60000);
    cr_assert_not(conn_pool_crowded(r.pool));
    conn_pool_give(r.pool, 60000);
    cr_assert_eq(conn_pool_held(r.pool), 0);
    rig_close(&r);
}

Test(conn_budget, a_message_in_pieces_counts_as_what_it_takes_and_comes_through_when_nothing_is_left)
{
    static const char wire[] = "\x81\x85\0\0\0\0hello";
    struct rig r;
    uint32_t i = 0;
    rig_open_budget(&r, &rig_echo, 100000);
    rig_upgrade(&r);
    struct conn *hog = rig_each(&r.server, &i);
    int fd = rig_upgrade(&r);
    rig_send(&r, fd, wire, 1);
    rig_turn(&r, 5);
    size_t held = conn_pool_held(r.pool);
    cr_assert(held && held < 300, "%zu bytes held for one", held);
    cr_assert(conn_take(hog, 100000));
    for (size_t at = 1; at < sizeof wire - 1; at++) {
        rig_send(&r, fd, wire + at, 1);
        rig_turn(&r, 5);
    }
    for (int n = 0; n < 200 && r.n < 7; n++) {
        loop_turn(r.loop, 1);
        rig_read_now(&r, fd);
    }
    cr_assert(rig_begins(&r, "\x81\5hello"), "%zu bytes came", r.n);
    conn_give(hog, 100000);
    rig_close(&r);
}

Test(conn_budget, a_server_that_goes_leaves_those_of_another_in_line)
{
    struct rig r;
    struct net_listeners l;
    struct conn *c[3];
    uint32_t i = 0, k = 0;
    rig_open(&r, &rig_echo);
    struct server other = { .loop = r.loop, .pool = r.pool, .ops = &lingering, .ws = r.server.ws,
                            .handshake_timeout_ms = 30000, .max_connections = 9 };
    cr_assert_eq(net_listen(&l, "127.0.0.1", 0, 0), 0);
    cr_assert_eq(server_listen(&other, &l), 0);
    rig_upgrade(&r);
    int fd = rig_upgrade(&r);
    r.port = l.port;
    rig_upgrade(&r);
    for (int n = 0; n < 3; n++) c[n] = n < 2 ? rig_each(&r.server, &i) : rig_each(&other, &k);
    for (int n = 0; n < 3; n++) conn_hold(c[n], true);
    conn_hold(c[0], false);
    conn_hold(c[2], false);
    server_free(&other);
    conn_hold(c[1], false);
    rig_frame(&r, fd, 0x81, "still there", 11);
    rig_await(&r, fd, 13);
    rig_close(&r);
}

/* The portable loop keeps a struct pollfd and a pointer more. */
Test(conn_size, idle_connection_takes_at_most_256_bytes)
{
    size_t bytes = rig_idle_bytes(), most = ON_EPOLL ? 256 : 256 + 40;
    cr_assert(bytes <= most, "%zu bytes", bytes);
}
