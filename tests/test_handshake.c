// uses: ws.c ws_handshake.c http.c sha1.c base64.c utf8.c
/* The opening handshake of both roles: every row of handshake_rows.h at every
 * chunk size, and what is answered. */
#include "test.h"
#include "../ws.h"
#include "handshake_rows.h"
#include "wire.h"

/* What a server does with a head that comes in pieces: a status, or 0. */
static int receive(struct http_head *h, const char *p, size_t n, size_t piece, const char **why)
{
    struct http_scan scan = { 0 };
    for (size_t have = 0; have < n;) {
        have = n - have < piece ? n : have + piece;
        char *copy = (char *)bytes_copy((const uint8_t *)p, have);
        int status = http_scan(&scan, copy, have);
        free(copy);
        if (!status) continue;
        if (status != 200) return status;
        static char *head;
        free(head);
        head = (char *)bytes_copy((const uint8_t *)p, have);
        status = http_request(h, head, have);
        if (h->size != scan.at) return -1;
        return status == 200 ? ws_check_request(h, why) : status;
    }
    return 0;
}

Test(handshake, every_row_is_answered_alike_at_every_chunk_size)
{
    char *wire = malloc(120000);
    for (size_t i = 0; i < HANDSHAKE_ROWS; i++) {
        const struct handshake_row *row = &handshake_rows[i];
        size_t n = handshake_bytes(row, wire);
        for (size_t piece = 1; piece <= n || piece == 1; piece += piece < 20 || n < 1500 ? 1 : 997) {
            static struct http_head h;
            const char *why = "the head";
            if (n > 1500 && piece == 1) piece = 7;
            int status = receive(&h, wire, n, piece, &why);
            cr_assert_eq(status, row->status, "%s: %d (%s), not %d, in pieces of %zu", row->name,
                         status, why, row->status, piece);
        }
    }
    free(wire);
}

Test(handshake, there_are_at_least_150_rows)
{
    cr_assert(HANDSHAKE_ROWS >= 150, "%d", (int)HANDSHAKE_ROWS);
}

Test(handshake, padded_rows_have_the_size_they_say)
{
    char *wire = malloc(120000);
    for (size_t i = 0; i < HANDSHAKE_ROWS; i++) {
        size_t n = handshake_bytes(&handshake_rows[i], wire);
        if (handshake_rows[i].pad < 0) cr_assert_eq(n, (size_t)-handshake_rows[i].pad);
    }
    free(wire);
}

Test(handshake, head_that_grows_a_byte_at_a_time_takes_linear_time)
{
    char *wire = malloc(HTTP_MAX_HEAD);
    struct http_scan scan = { 0 };
    memset(wire, 'x', HTTP_MAX_HEAD);
    for (size_t n = 1; n < HTTP_MAX_HEAD; n++) {
        cr_assert_eq(http_scan(&scan, wire, n), 0);
        cr_assert_eq((size_t)scan.at, n, "every byte is looked at once");
    }
    cr_assert_eq(http_scan(&scan, wire, HTTP_MAX_HEAD), 431);
    free(wire);
}

Test(handshake, wrong_octet_is_refused_before_the_head_is_whole)
{
    static const struct { const char *head; size_t n; } rows[] = {
        { HEAD("\0") }, { HEAD("\x16") }, { HEAD("GET /\n") }, { HEAD("GET / HTTP/1.1\rX") },
        { HEAD("GET / HTTP/1.1\r\nX\x7f") }, { HEAD("GET / HTTP/1.1\r\nX: \x1b") }, { HEAD("\n") },
        { HEAD("GET / HTTP/1.1\r\n\r\r") },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_scan scan = { 0 };
        cr_assert_eq(http_scan(&scan, rows[i].head, rows[i].n - 1), 0, "%zu", i);
        cr_assert_eq(http_scan(&scan, rows[i].head, rows[i].n), 400, "%zu", i);
    }
}

static void read_request(struct http_head *h, const char *text)
{
    cr_assert_eq(http_request(h, text, strlen(text)), 200, "%s", text);
}

Test(handshake, key_of_rfc_6455_section_1_3_is_accepted)
{
    struct http_head h;
    const char *why;
    char answer[512];
    struct slice none = { "", 0 }, chat = { "chat", 4 };
    read_request(&h, GET HOST "Sec-WebSocket-Protocol: chat, superchat\r\n" REST);
    cr_assert_eq(ws_check_request(&h, &why), 101, "%s", why);
    answer[ws_accept(answer, &h, none)] = 0;
    cr_assert_str_eq(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    answer[ws_accept(answer, &h, chat)] = 0;
    cr_assert_str_eq(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                     "Sec-WebSocket-Protocol: chat\r\n\r\n");
    cr_assert(strlen(answer) <= 256 + chat.len);
}

Test(handshake, refusal_says_what_is_wrong)
{
    static const struct { const char *head, *why; } rows[] = {
        { "POST / HTTP/1.1\r\n" ALL, "method is not GET" },
        { "GET / HTTP/1.0\r\n" ALL, "upgrade needs HTTP/1.1" },
        { GET REST, "no Host header" },
        { GET "Content-Length: 1\r\n" ALL, "upgrade with a body" },
        { GET HOST CONN KEY VER END, "no Upgrade: websocket" },
        { GET HOST UP KEY VER END, "no Connection: Upgrade" },
        { GET HOST UP CONN KEY END, "Sec-WebSocket-Version is not 13" },
        { GET HOST UP CONN VER END, "Sec-WebSocket-Key is not 16 bytes of base64" },
        { GET ALL, "" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_head h;
        const char *why = NULL;
        read_request(&h, rows[i].head);
        ws_check_request(&h, &why);
        cr_assert_str_eq(why, rows[i].why, "%s, not %s", why, rows[i].why);
    }
}

Test(handshake, upgrade_is_told_by_its_header_alone)
{
    static const struct { const char *head; bool upgrade; } rows[] = {
        { GET ALL, true }, { GET HOST END, false }, { GET UP END, true }, { GET CONN END, false },
        { GET "Upgrade: h2c, WebSocket\r\n" END, true }, { GET "Upgrade: h2c\r\n" END, false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_head h;
        read_request(&h, rows[i].head);
        cr_assert_eq(ws_is_upgrade(&h), rows[i].upgrade, "%s", rows[i].head);
    }
}

/* ---- the client's side ---- */

static const uint8_t nonce[16] = "the sample nonce";

#define ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define SWITCH "HTTP/1.1 101 Switching Protocols\r\n"

Test(handshake_client, request_is_whole_and_passes_our_own_server)
{
    char out[600];
    struct http_head h;
    const char *why;
    size_t n = ws_request(out, sizeof out, "localhost:5000", "/ws", nonce, "Origin: http://localhost\r\n");
    cr_assert_eq(http_request(&h, out, n), 200);
    cr_assert_eq(h.size, n);
    cr_assert_eq(ws_check_request(&h, &why), 101, "%s", why);
    cr_assert(slice_is(h.target, "/ws"));
    cr_assert(slice_is(http_find(&h, "Host")->value, "localhost:5000"));
    cr_assert(slice_is(http_find(&h, "Origin")->value, "http://localhost"));
    cr_assert(slice_is(http_find(&h, "Sec-WebSocket-Key")->value, "dGhlIHNhbXBsZSBub25jZQ=="));
}

Test(handshake_client, request_that_does_not_fit_is_none)
{
    char out[600];
    size_t n = ws_request(out, sizeof out, "h", "/", nonce, "");
    cr_assert(n > 100);
    for (size_t cap = 0; cap < n; cap++) cr_assert_eq(ws_request(out, cap, "h", "/", nonce, ""), 0u);
    char *exact = malloc(n);
    cr_assert_eq(ws_request(exact, n, "h", "/", nonce, ""), n);
    free(exact);
}

Test(handshake_client, responses_are_judged_strictly)
{
    static const struct { const char *head, *why; int parse, status; } rows[] = {
        { SWITCH UP CONN ACCEPT END, "", 200, 101 },
        { "HTTP/1.1 101\r\n" UP CONN ACCEPT END, "", 200, 101 },
        { "HTTP/1.1 101 \r\n" UP CONN ACCEPT END, "", 200, 101 },
        { SWITCH "upgrade: WebSocket\r\nconnection: keep-alive, UPGRADE\r\n" ACCEPT END, "", 200, 101 },
        { SWITCH UP CONN ACCEPT "Sec-WebSocket-Protocol: chat\r\n" END, "", 200, 101 },
        { SWITCH CONN ACCEPT END, "101 without Upgrade: websocket", 200, 400 },
        { SWITCH "Upgrade: h2c\r\n" CONN ACCEPT END, "101 without Upgrade: websocket", 200, 400 },
        { SWITCH "Upgrade: websocket, h2c\r\n" CONN ACCEPT END, "101 without Upgrade: websocket", 200, 400 },
        { SWITCH UP UP CONN ACCEPT END, "101 without Upgrade: websocket", 200, 400 },
        { SWITCH UP ACCEPT END, "101 without Connection: Upgrade", 200, 400 },
        { SWITCH UP "Connection: close\r\n" ACCEPT END, "101 without Connection: Upgrade", 200, 400 },
        { SWITCH UP CONN END, "wrong Sec-WebSocket-Accept", 200, 400 },
        { SWITCH UP CONN ACCEPT ACCEPT END, "wrong Sec-WebSocket-Accept", 200, 400 },
        { SWITCH UP CONN "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" END, "wrong Sec-WebSocket-Accept", 200, 400 },
        { SWITCH UP CONN "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=x\r\n" END, "wrong Sec-WebSocket-Accept", 200, 400 },
        { SWITCH UP CONN "Sec-WebSocket-Accept:\r\n" END, "wrong Sec-WebSocket-Accept", 200, 400 },
        { SWITCH UP CONN ACCEPT "Sec-WebSocket-Extensions: permessage-deflate\r\n" END, "extension that was not offered", 200, 400 },
        { "HTTP/1.0 101 Switching Protocols\r\n" UP CONN ACCEPT END, "101 without HTTP/1.1", 200, 400 },
        { "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n" END, "server does not upgrade", 200, 403 },
        { "HTTP/1.1 200 OK\r\n" END, "server does not upgrade", 200, 200 },
        { "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n" END, "server does not upgrade", 200, 503 },
        { "HTTP/2.0 101 Switching Protocols\r\n" END, NULL, 400, 0 },
        { "HTTP/1.1 1O1 Switching\r\n" END, NULL, 400, 0 },
        { "HTTP/1.1 10 Switching\r\n" END, NULL, 400, 0 },
        { "HTTP/1.1 1010 Switching\r\n" END, NULL, 400, 0 },
        { "HTTP/1.1 099 Switching\r\n" END, NULL, 400, 0 },
        { "HTTP/1.1 600 Switching\r\n" END, NULL, 400, 0 },
        { "HTTP/1.1  101 Switching\r\n" END, NULL, 400, 0 },
        { "HTTP/1.1\r\n" END, NULL, 400, 0 },
        { "ICY 200 OK\r\n" END, NULL, 400, 0 },
        { "\r\n", NULL, 400, 0 },
        { SWITCH " folded: x\r\n" END, NULL, 400, 0 },
        { SWITCH "X: a\x01\r\n" END, NULL, 400, 0 },
        { SWITCH "Content-Length: 0\r\nContent-Length: 0\r\n" END, NULL, 400, 0 },
        { SWITCH UP, NULL, 400, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_head h;
        const char *why = NULL;
        size_t n = strlen(rows[i].head);
        char *copy = (char *)bytes_copy((const uint8_t *)rows[i].head, n);
        int parse = http_response(&h, copy, n);
        cr_assert_eq(parse, rows[i].parse, "%s: %d", rows[i].head, parse);
        if (parse == 200) {
            int status = ws_check_response(&h, nonce, &why);
            cr_assert_eq(status, rows[i].status, "%s: %d, %s", rows[i].head, status, why);
            cr_assert_str_eq(why, rows[i].why, "%s", why);
        }
        free(copy);
    }
}
