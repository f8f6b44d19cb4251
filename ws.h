/* RFC 6455, both roles, without input, output, clock, memory or randomness of
 * its own: push bytes, pull events, send what was queued.
 *
 * A turn of a connection, for any loop:
 *
 *     n = recv(fd, buf + kept, room);            the caller's buffer
 *     ws_received(ws, buf, kept + n, now);
 *     while ((e = ws_next(ws, &ev)) != WS_EV_NONE) ...   ws_send() in here
 *     send(fd, out.p, out.len);                  everything at once
 *     from = ws_keep(ws, &kept);                 bytes to hand in again
 *
 * Buffers are lent. Input: one big buffer can serve every connection; between
 * turns only ws_keep()'s bytes of a connection must survive. A message that
 * lies whole in the buffer is not copied: it is unmasked in place and reported
 * as a slice. A longer one is gathered in place too: payload slides down over
 * the headers between its frames, so that the kept bytes are the message so far
 * and, behind it, what has not been parsed. Output: struct ws_out, which all
 * connections may share; it must be empty (len 0) or hold only this
 * connection's frames while the connection has its turn.
 *
 * Times are int64_t milliseconds of any monotonic clock. Misuse by our own
 * caller is a negative return and changes nothing; a peer's fault is an event. */
#ifndef WS_H
#define WS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ws_role { WS_SERVER, WS_CLIENT };

enum ws_op { WS_CONT = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

enum ws_ev {
    WS_EV_NONE,    /* more bytes are needed */
    WS_EV_TEXT, WS_EV_BINARY,
    WS_EV_FULL,    /* no room in out for an answer: send what it holds, call again */
    WS_EV_CLOSED   /* the last event, exactly once */
};

#define WS_MAX_HEAD  14   /* bytes of the longest frame header, 5.2 */
#define WS_MAX_CTRL  139  /* a whole control frame: 14 + 125 */
#define WS_NEVER     INT64_MAX

/* What all connections of an endpoint have in common; kept by pointer. */
struct ws_config {
    uint64_t max_message;         /* bytes; a longer one is closed with 1009, from its header */
    int32_t  ping_interval_ms;    /* ping a peer that was quiet so long; 0: never */
    int32_t  ping_timeout_ms;     /* and close with 1011 when nothing came for so long after; 0: never */
    int32_t  close_timeout_ms;    /* wait so long for the answer to our close */
    int32_t  message_timeout_ms;  /* a begun message must be whole by then, else 1008; 0: never */
    bool     text_only;           /* a binary message is closed with 1003, from its header */
};

/* Where frames to be sent are put; lent by the caller, may be shared. */
struct ws_out {
    uint8_t *p;
    size_t   len, cap;   /* cap >= WS_MAX_CTRL */
};

/* Masking keys of a client (5.3), shared by any number of its connections. The
 * caller fills seed from a strong source; keys are SHA-1(seed, counter). */
struct ws_masks {
    uint8_t  seed[16];
    uint64_t counter;
    uint8_t  key[20], left;
};

struct ws_event {
    uint8_t *data;     /* TEXT, BINARY: the message. CLOSED: the reason, UTF-8 */
    size_t   len;
    uint16_t code;     /* CLOSED: 7.4.1; 1005: the peer's close had none; 1006: no close came */
    bool     by_peer;  /* CLOSED: the peer began it (else a fault, a timer, or ws_close()) */
};

/* One connection: 112 bytes where a pointer has 8. Its fields are the engine's own. */
struct ws {
    const struct ws_config *config;
    struct ws_out   *out;
    struct ws_masks *masks;      /* client only */
    uint8_t    *buf;             /* of the last ws_received() */
    size_t      base, have;      /* buf[base .. base + have): the message so far */
    size_t      at, end;         /* buf[at .. end): not looked at yet */
    uint64_t    left;            /* payload of the current data frame still to come */
    int64_t     heard;           /* when the peer's last bytes came */
    int64_t     since;           /* when our ping, or our close, was queued */
    int64_t     began;           /* when the unfinished message began, else WS_NEVER */
    uint8_t     key[4];          /* mask of the next payload byte and the three behind it */
    struct utf8 utf8;
    uint8_t     op;              /* of the message being gathered; 0: none is */
    uint8_t     state, fault;
    bool        fin : 1;         /* the current frame is its message's last */
    bool        client : 1, lent : 1, pinged : 1, paused : 1, eof : 1, closed : 1;
};

/* Begin, after the handshake. config, out and masks (client only, else NULL)
 * outlive the connection. */
void ws_init(struct ws *ws, enum ws_role role, const struct ws_config *config,
             struct ws_out *out, struct ws_masks *masks, int64_t now);

/* Bytes have come: buf[0..len) is what ws_keep() asked for, and behind it the
 * new ones. buf may lie elsewhere than last time; it is written to. */
void ws_received(struct ws *ws, uint8_t *buf, size_t len, int64_t now);

/* Next thing the peer said, or WS_EV_NONE when more bytes are needed.
 *
 * Pings are answered and fragments joined here; neither is reported (5.4,
 * 5.5.2). The caller may stop before NONE (a slow consumer): ws_keep() then
 * keeps what was not looked at, and the next ws_received() goes on with it.
 *
 * ev->data points into the buffer of ws_received(): valid until the next
 * ws_next(), may be modified, never freed. Text has passed UTF-8 (8.1).
 * A peer that breaks a rule yields WS_EV_CLOSED with the code we sent (7.4.1),
 * after every message and ping before the fault was reported or answered. */
enum ws_ev ws_next(struct ws *ws, struct ws_event *ev);

/* What must be kept of the last ws_received() buffer: *len bytes at the
 * returned place inside it (NULL, 0: nothing). They go to the start of the next
 * buffer. ws_want(): how long that buffer must be for the current message to
 * be gathered without moving (its end known from the frame header), at least *len + 1. */
uint8_t *ws_keep(struct ws *ws, size_t *len);
size_t ws_want(const struct ws *ws);

/* Queue one whole message or, op WS_PING or WS_PONG, a control frame. 0; WS_FULL: no
 * room in out (send it, try again, or use ws_head()); WS_CLOSING: a close was sent already. */
#define WS_FULL    (-1)
#define WS_CLOSING (-2)
#define WS_MISUSE  (-3)
int ws_send(struct ws *ws, enum ws_op op, const void *p, size_t len);

/* For a message that is written where it will be sent from, or sent from where
 * it lies with writev(): its header (server role: unmasked), 2, 4 or 10 bytes. */
size_t ws_head(uint8_t head[10], enum ws_op op, uint64_t len);

/* Begin to close (7.1.2): queues a close frame, after which nothing more can be
 * sent. code 0: none. reason: UTF-8, cut to 123 bytes at a character. CLOSED
 * comes when the peer answers or close_timeout_ms is over. */
int ws_close(struct ws *ws, uint16_t code, const char *reason, int64_t now);

/* When ws_tick() must be called at the latest, WS_NEVER when never; it may move
 * later without notice (an early call does nothing). */
int64_t ws_deadline(const struct ws *ws);

/* Time has passed: may queue a ping or a close; then call ws_next() until NONE. */
void ws_tick(struct ws *ws, int64_t now);

/* While the caller does not read this peer it is not timed out for silence. */
void ws_pause(struct ws *ws, bool paused, int64_t now);

/* The peer ended TCP: ws_next() then yields CLOSED, 1006 (if it has not yet). */
void ws_eof(struct ws *ws);

/* Handshake, server (4.2). status 101: accept it; else 400, 405, 426: refuse,
 * *why says what is wrong in a few words. */
int ws_check_request(const struct http_head *h, const char **why);

/* Is this request an upgrade at all: Upgrade holds "websocket"? */
bool ws_is_upgrade(const struct http_head *h);

/* The whole 101 answer into out (room for 256 + protocol.len); protocol may be
 * empty. Returns its bytes. No formatted printing. */
size_t ws_accept(char *out, const struct http_head *h, struct slice protocol);

/* Handshake, client (4.1): a whole request into out[0..cap): its size, or 0 when it does not fit. nonce: 16
 * random bytes. headers: whole lines, "Name: value\r\n", or "". */
size_t ws_request(char *out, size_t cap, const char *host, const char *target,
                  const uint8_t nonce[16], const char *headers);

/* 101 when the response accepts that request, else its status or 400. */
int ws_check_response(const struct http_head *h, const uint8_t nonce[16], const char **why);

/* May this code stand in a close frame (7.4)? */
bool ws_code_valid(unsigned code);

#ifdef __cplusplus
}
#endif
#endif
