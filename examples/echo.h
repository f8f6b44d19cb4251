/* What the three echo servers share: a peer, its handshake, and the adapter
 * between any loop and ws.h, which is turn(). No socket is touched here.
 *
 * A loop receives into peer_room(), calls peer_received(), sends out.p[0..len)
 * and sets len to 0. On false it ends TCP after that. From time to time it
 * calls peer_tick(). An echo is never longer than what came, so an out of twice
 * the longest message is never full at the end of a turn. */
#ifndef EXAMPLES_ECHO_H
#define EXAMPLES_ECHO_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ws.h"

enum { MAX_MESSAGE = 1 << 20, PIECE = 1 << 16 };

static const struct ws_config config = { MAX_MESSAGE, 20000, 20000, 10000, 60000, false };
static uint8_t out_bytes[2 * (MAX_MESSAGE + PIECE)];
static struct ws_out out = { out_bytes, 0, sizeof out_bytes };

struct peer {
    struct ws        ws;
    struct http_scan scan;
    bool             open;        /* the handshake is done */
    uint8_t         *buf;         /* bytes of an unfinished message or head: kept of them */
    size_t           kept, cap;
};

static inline int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Where the next bytes go: *room of them. */
static inline uint8_t *peer_room(struct peer *p, size_t *room)
{
    size_t want = p->kept + PIECE;
    if (p->open && want < ws_want(&p->ws)) want = ws_want(&p->ws);
    if (want > p->cap) {
        p->cap = want;
        p->buf = realloc(p->buf, p->cap);
        if (!p->buf) abort();
    }
    *room = p->cap - p->kept;
    return p->buf + p->kept;
}

/* The adapter: n new bytes in, events out, answers in out. false: the end. */
static inline bool turn(struct peer *p, size_t n, int64_t now)
{
    struct ws_event ev;
    enum ws_ev e;
    ws_received(&p->ws, p->buf, p->kept + n, now);
    while ((e = ws_next(&p->ws, &ev)) == WS_EV_TEXT || e == WS_EV_BINARY) {
        ws_send(&p->ws, e == WS_EV_TEXT ? WS_TEXT : WS_BINARY, ev.data, ev.len);
    }
    const uint8_t *rest = ws_keep(&p->ws, &p->kept);
    if (p->kept) memmove(p->buf, rest, p->kept);
    return e != WS_EV_CLOSED;
}

/* The request has come as far as this: answered, refused, or awaited. */
static inline bool shake_hands(struct peer *p, size_t n, int64_t now)
{
    struct http_head h;
    const char *why = "bad request";
    p->kept += n;
    int status = http_scan(&p->scan, (char *)p->buf, p->kept);
    if (!status) return true;
    if (status == 200) status = http_request(&h, (char *)p->buf, p->kept);
    if (status == 200) status = ws_check_request(&h, &why);
    if (status != 101) {
        out.len = (size_t)sprintf((char *)out.p, "HTTP/1.1 %d %s\r\nAllow: GET\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n"
                                  "Content-Length: 0\r\n\r\n", status, why);
        return false;
    }
    struct slice none = { "", 0 };
    out.len = ws_accept((char *)out.p, &h, none);
    p->open = true;
    p->kept -= h.size;
    memmove(p->buf, p->buf + h.size, p->kept);
    ws_init(&p->ws, WS_SERVER, &config, &out, NULL, now);
    n = p->kept;
    p->kept = 0;
    return turn(p, n, now);
}

static inline bool peer_received(struct peer *p, size_t n, int64_t now)
{
    return p->open ? turn(p, n, now) : shake_hands(p, n, now);
}

/* Keepalive and timeouts. false: the end. */
static inline bool peer_tick(struct peer *p, int64_t now)
{
    struct ws_event ev;
    if (!p->open) return true;
    ws_tick(&p->ws, now);
    return ws_next(&p->ws, &ev) != WS_EV_CLOSED;
}

#endif
