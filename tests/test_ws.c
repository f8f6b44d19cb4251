// uses: ws.c http.c sha1.c base64.c utf8.c
/* Frames and messages, without a socket. */
#include "test.h"
#include "../ws.h"

static uint8_t outbuf[4096];
static struct ws_out out = { outbuf, 0, sizeof outbuf };
static const struct ws_config config = { 1 << 20, 20000, 20000, 10000, 60000, false };

Test(ws_rx, hello_of_rfc_6455_section_5_7_is_reported)
{
    uint8_t wire[] = { 0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58 };
    struct ws ws;
    struct ws_event ev;
    out.len = 0;
    ws_init(&ws, WS_SERVER, &config, &out, NULL, 0);
    ws_received(&ws, wire, sizeof wire, 0);
    cr_assert_eq(ws_next(&ws, &ev), WS_EV_TEXT);
    cr_assert_eq(ev.len, 5u);
    cr_assert_arr_eq(ev.data, "Hello", 5);
    cr_assert_eq(ws_next(&ws, &ev), WS_EV_NONE);
}

Test(ws_rx, unmasked_frame_is_refused_with_1002)
{
    uint8_t wire[] = { 0x81, 0x05, 'H', 'e', 'l', 'l', 'o' };
    struct ws ws;
    struct ws_event ev;
    out.len = 0;
    ws_init(&ws, WS_SERVER, &config, &out, NULL, 0);
    ws_received(&ws, wire, sizeof wire, 0);
    cr_assert_eq(ws_next(&ws, &ev), WS_EV_CLOSED);
    cr_assert_eq(ev.code, 1002);
    cr_assert_eq(outbuf[0], 0x88);
}

Test(ws_handshake, key_of_rfc_6455_section_1_3_is_accepted)
{
    static const char head[] = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n";
    struct http_head h;
    const char *why;
    char answer[512];
    cr_assert_eq(http_request(&h, head, sizeof head - 1), 200);
    cr_assert_eq(ws_check_request(&h, &why), 101, "%s", why);
    answer[ws_accept(answer, &h, (struct slice){ "p", 1 })] = 0;
    cr_assert_str_eq(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        "Sec-WebSocket-Protocol: p\r\n\r\n");
}
