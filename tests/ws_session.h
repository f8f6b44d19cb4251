/* One engine under test with a caller around it that is as awkward as the
 * contract of ws.h allows: every buffer is exactly as long as what is in it,
 * lies elsewhere at each call, and is freed as soon as it may be. What the
 * engine reports and sends is kept as a trace (see wire.h). */
#ifndef WS_SESSION_H
#define WS_SESSION_H

#include "../ws.h"
#include "wire.h"

struct session {
    struct ws        ws;
    struct ws_config config;
    struct ws_out    out;
    struct ws_masks  masks;
    uint8_t         *buf;        /* what is kept between two calls */
    size_t           kept;
    struct bytes     trace;
    uint8_t          close[125]; /* payload of our close frame */
    int              close_len;  /* -1: none was sent */
    bool             client;
    bool             ours;       /* ws_close() was called */
    bool             slow;       /* look at one event, hand the rest in again */
    bool             held;       /* leave what waits in out where it is */
    bool             closed;     /* CLOSED came */
    const char      *broken;     /* a promise of ws.h that did not hold */
};

static const struct ws_config session_defaults = { 1 << 20, 20000, 20000, 10000, 60000, false };

static inline void session_begin(struct session *s, bool client, const struct ws_config *config,
                                 size_t room, int64_t now)
{
    memset(s, 0, sizeof *s);
    s->client = client;
    s->config = *config;
    s->close_len = -1;
    s->out.p = (uint8_t *)malloc(room);
    s->out.cap = room;
    memcpy(s->masks.seed, "0123456789abcdef", 16);
    ws_init(&s->ws, client ? WS_CLIENT : WS_SERVER, &s->config, &s->out,
            client ? &s->masks : NULL, now);
}

static inline void session_end(struct session *s)
{
    free(s->buf);
    free(s->out.p);
    bytes_free(&s->trace);
}

/* Read one frame that the engine sent; returns its bytes. */
static inline size_t session_sent(struct session *s, uint8_t *p, size_t n)
{
    size_t ext = n < 2 ? 0 : (p[1] & 127) == 127 ? 8 : (p[1] & 127) == 126 ? 2 : 0;
    size_t head = 2 + ext + (s->client ? 4 : 0);
    if (n < head || p[1] >> 7 != s->client) { s->broken = "frame sent without head or mask"; return n; }
    uint64_t len = ext ? 0 : p[1] & 127;
    for (size_t i = 0; i < ext; i++) len = len << 8 | p[2 + i];
    if (ext && len < (ext == 2 ? 126u : 65536u)) s->broken = "length sent not in its shortest form";
    if (n - head < len) { s->broken = "part of a frame in out"; return n; }
    uint8_t *payload = p + head;
    for (size_t i = 0; s->client && i < len; i++) payload[i] ^= p[head - 4 + (i & 3)];
    if (s->close_len >= 0) s->broken = "frame sent behind a close";
    switch (p[0]) {
    case 0x81: trace_add(&s->trace, 't', payload, (size_t)len); break;
    case 0x82: trace_add(&s->trace, 'b', payload, (size_t)len); break;
    case 0x89: trace_add(&s->trace, 'P', payload, (size_t)len); break;
    case 0x8a: trace_add(&s->trace, 'O', payload, (size_t)len); break;
    case 0x88:
        s->close_len = (int)len;
        if (len <= 125) memcpy(s->close, payload, (size_t)len);
        else s->broken = "long close";
        break;
    default: s->broken = "strange frame sent";
    }
    return head + (size_t)len;
}

static inline void session_flush(struct session *s)
{
    for (size_t at = 0; at < s->out.len;) at += session_sent(s, s->out.p + at, s->out.len - at);
    s->out.len = 0;
}

static inline void session_closed(struct session *s, const struct ws_event *ev)
{
    uint8_t body[2 + 125] = { (uint8_t)(ev->code >> 8), (uint8_t)ev->code };
    size_t n = ev->code == 1005 ? 0 : 2 + ev->len;
    if (s->closed) s->broken = "CLOSED came twice";
    if (ev->len > 123) s->broken = "reason too long";
    else if (ev->len) memcpy(body + 2, ev->data, ev->len);
    s->closed = true;
    bool same = s->close_len >= 2 && !memcmp(s->close, body, 2);
    if (ev->by_peer) {
        if (s->ours) s->broken = "by_peer after our close";
        if (n ? s->close_len != 2 || !same : s->close_len != 0) s->broken = "close not answered with its code";
        trace_add(&s->trace, 'X', body, n);
    } else if (s->ours && ev->code != 1006) {
        trace_add(&s->trace, 'x', body, n);
    } else {
        if (ev->code == 1006 ? s->close_len >= 0 && !s->ours : !same) s->broken = "fault and close differ";
        trace_add(&s->trace, '!', body, 2);
    }
}

/* Hand back what must survive, as ws_keep() says. */
static inline void session_keep(struct session *s)
{
    size_t n, again;
    if (!s->ws.lent) return;        /* a turn without bytes: what is kept is here already */
    uint8_t *p = ws_keep(&s->ws, &n);
    uint8_t *buf = bytes_copy(p, n);
    if (ws_want(&s->ws) <= n) s->broken = "ws_want() is not above what is kept";
    if (ws_keep(&s->ws, &again) != p || again != n) s->broken = "ws_keep() twice differs";
    if (s->closed && n) s->broken = "bytes kept after the end";
    free(s->buf);
    s->buf = buf;
    s->kept = n;
}

/* Pull until there is nothing more. */
static inline void session_pull(struct session *s, int64_t now)
{
    struct ws_event ev = { NULL, 0, 0, false };
    for (;;) {
        enum ws_ev e = ws_next(&s->ws, &ev);
        size_t waiting = s->out.len;
        if (!s->held) session_flush(s);
        if (e == WS_EV_NONE) break;
        if (s->closed) s->broken = "event after CLOSED";
        if (e == WS_EV_FULL) {
            if (s->out.cap - waiting >= WS_MAX_CTRL) s->broken = "FULL with room for a control frame";
            if (s->held) break;
        }
        if (e == WS_EV_TEXT)   trace_add(&s->trace, 'T', ev.data, ev.len);
        if (e == WS_EV_BINARY) trace_add(&s->trace, 'B', ev.data, ev.len);
        if (ev.data && (e == WS_EV_TEXT || e == WS_EV_BINARY)) memset(ev.data, '#', ev.len);
        if (e == WS_EV_CLOSED) session_closed(s, &ev);
        if (s->slow) {
            session_keep(s);
            ws_received(&s->ws, s->buf, s->kept, now);
        }
    }
    session_keep(s);
}

static inline void session_feed(struct session *s, const uint8_t *p, size_t n, int64_t now)
{
    uint8_t *buf = (uint8_t *)malloc(s->kept + n ? s->kept + n : 1);
    if (s->kept) memcpy(buf, s->buf, s->kept);
    if (n) memcpy(buf + s->kept, p, n);
    free(s->buf);
    s->buf = buf;
    ws_received(&s->ws, buf, s->kept + n, now);
    session_pull(s, now);
}

static inline void session_close(struct session *s, uint16_t code, const char *reason, int64_t now)
{
    if (ws_close(&s->ws, code, reason, now) == 0) s->ours = true;
    session_flush(s);
}

/* A whole wire in pieces of some size; true when what came of it is as expected. */
static inline bool session_as_expected(struct session *s, const struct bytes *expect, const char **why)
{
    *why = s->broken ? s->broken : "other events";
    return !s->broken && bytes_same(&s->trace, expect);
}

#endif
