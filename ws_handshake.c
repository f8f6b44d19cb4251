/* The opening handshake of RFC 6455 section 4, both sides: see ws.h. Each rule
 * is one line, its section at the right. */
#include "ws.h"

#include <string.h>

#include "base64.h"
#include "sha1.h"

/* Sec-WebSocket-Accept for a key of 24 characters, 4.2.2. */
static void accept_key(char out[28], const char *key)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char in[24 + sizeof guid - 1];
    uint8_t digest[20];
    memcpy(in, key, 24);
    memcpy(in + 24, guid, sizeof guid - 1);
    sha1(digest, in, sizeof in);
    base64_encode(out, digest, 20);
}

bool ws_is_upgrade(const struct http_head *h)
{
    return http_has_token(h, "Upgrade", "websocket");
}

/* 16 bytes in canonical base64, 4.2.1. */
static bool key_valid(const struct http_header *f)
{
    uint8_t nonce[18];
    return f && f->value.len == 24 && base64_decode(nonce, f->value.p, 24) == 16;
}

int ws_check_request(const struct http_head *h, const char **why)
{
    const struct http_header *version = http_find(h, "Sec-WebSocket-Version");
    *why = "method is not GET";                           /* 4.2.1 */
    if (!slice_is(h->method, "GET")) return 405;
    *why = "upgrade needs HTTP/1.1";                      /* 4.2.1 */
    if (h->minor != 1) return 400;
    *why = "no Host header";                              /* 4.2.1 */
    if (!http_find(h, "Host")) return 400;
    *why = "upgrade with a body";                         /* 4.1: a GET has none */
    if (http_has_body(h)) return 400;
    *why = "no Upgrade: websocket";                       /* 4.2.1 */
    if (!ws_is_upgrade(h)) return 426;
    *why = "no Connection: Upgrade";                      /* 4.2.1 */
    if (!http_has_token(h, "Connection", "Upgrade")) return 400;
    *why = "Sec-WebSocket-Version is not 13";             /* 4.4 */
    if (!version || !slice_is(version->value, "13")) return 426;
    *why = "Sec-WebSocket-Key is not 16 bytes of base64"; /* 4.2.1 */
    if (!key_valid(http_find(h, "Sec-WebSocket-Key"))) return 400;
    *why = "";
    return 101;
}

static char *put(char *at, const char *text)
{
    while (*text) *at++ = *text++;
    return at;
}

size_t ws_accept(char *out, const struct http_head *h, struct slice protocol)
{
    char *at = put(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: ");
    accept_key(at, http_find(h, "Sec-WebSocket-Key")->value.p);
    at = put(at + 28, "\r\n");
    if (protocol.len) {
        at = put(at, "Sec-WebSocket-Protocol: ");
        memcpy(at, protocol.p, protocol.len);
        at = put(at + protocol.len, "\r\n");
    }
    at = put(at, "\r\n");
    return (size_t)(at - out);
}

size_t ws_request(char *out, size_t cap, const char *host, const char *target,
                  const uint8_t nonce[16], const char *headers)
{
    const char *const text[] = { "GET ", target, " HTTP/1.1\r\nHost: ", host,
        "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
        headers, "Sec-WebSocket-Key: " };
    size_t n = 24 + 4, count = sizeof text / sizeof *text;
    for (size_t i = 0; i < count; i++) n += strlen(text[i]);
    if (n > cap) return 0;
    char *at = out;
    for (size_t i = 0; i < count; i++) at = put(at, text[i]);
    at += base64_encode(at, nonce, 16);
    put(at, "\r\n\r\n");
    return n;
}

/* The one value of a header that must come exactly once. */
static struct slice only(const struct http_head *h, const char *name)
{
    struct slice found = { "", 0 };
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++)
        if (slice_is_nocase(h->header[i].name, name) && !n++) found = h->header[i].value;
    if (n != 1) found.len = 0;
    return found;
}

int ws_check_response(const struct http_head *h, const uint8_t nonce[16], const char **why)
{
    char key[24], expected[28];
    base64_encode(key, nonce, 16);
    accept_key(expected, key);
    struct slice given = only(h, "Sec-WebSocket-Accept");
    *why = "server does not upgrade";                     /* 4.1 */
    if (h->status != 101) return h->status;
    *why = "101 without HTTP/1.1";                        /* 4.1 */
    if (h->minor != 1) return 400;
    *why = "101 without Upgrade: websocket";              /* 4.1 */
    if (!slice_is_nocase(only(h, "Upgrade"), "websocket")) return 400;
    *why = "101 without Connection: Upgrade";             /* 4.1 */
    if (!http_has_token(h, "Connection", "Upgrade")) return 400;
    *why = "wrong Sec-WebSocket-Accept";                  /* 4.1 */
    if (given.len != 28 || memcmp(given.p, expected, 28) != 0) return 400;
    *why = "extension that was not offered";              /* 4.1 */
    if (http_find(h, "Sec-WebSocket-Extensions")) return 400;
    *why = "";
    return 101;
}
