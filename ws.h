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
 * and when a turn passes without bytes: ws_tick(), ws_next() until NONE, send.
 * examples/ holds this turn on poll, epoll and libuv, and a client.
 *
 * INPUT is lent. One big buffer can serve every connection: between turns only
 * ws_keep()'s bytes of a connection must survive, mostly none. A message that
 * lies whole in the buffer is not copied: it is unmasked in place and reported
 * as a slice. A longer one is gathered in place too: payload slides down over
 * the headers between its frames, so that the kept bytes are the message so far
 * and, behind it, what has not been parsed. The work is linear in the bytes,
 * however small frames and pieces are, if the caller keeps a long message in a
 * buffer of its own (ws_want() long) rather than copying it at each turn.
 *
 * OUTPUT is struct ws_out, which all connections of a loop may share; it must
 * be empty (len 0) or hold only this connection's frames while the connection
 * has its turn. Whoever calls ws_next(), ws_send(), ws_close() or ws_tick()
 * sends what is in there before another connection's turn.
 *
 * TIME is int64_t milliseconds of any monotonic clock. A call that arms a
 * timer takes it as `now`.
 *
 * ERRORS. Misuse by our own caller is a negative return and changes nothing; a
 * peer's fault is an event, WS_EV_CLOSED. A broken promise about memory (bytes
 * that were to be kept are missing, an out too small for a control frame) ends
 * the process by assert().
 *
 * A struct ws may be moved in memory between turns. Nothing here is shared
 * between connections but what the caller lends to several; connections of
 * different threads share neither out nor masks.
 *
 * ws.c is the connection, ws_handshake.c its opening; a program that has its own
 * HTTP can leave the latter away. Extensions are not negotiated:
 * permessage-deflate is declined by silence. docs/protocol.md lists each rule
 * with its section, function and test. */
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

/* Opcodes, 5.2. */
enum ws_op { WS_CONT = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

enum ws_ev {
    WS_EV_NONE,    /* more bytes are needed */
    WS_EV_TEXT,    /* a whole message: ev->data, ev->len */
    WS_EV_BINARY,
    WS_EV_FULL,    /* no room in out for an answer: send what it holds, call again */
    WS_EV_CLOSED   /* the last event, exactly once: ev->code, ev->by_peer, the reason */
};

/* Returns of ws_send() and ws_close(); 0 is success. Nothing has changed then. */
#define WS_FULL    (-1)  /* no room in out: send what it holds and try again */
#define WS_CLOSING (-2)  /* a close was sent, or the end has come: nothing can be sent any more */
#define WS_MISUSE  (-3)  /* an opcode, a length or a code that may not be sent */

#define WS_MAX_HEAD  14   /* bytes of the longest frame header, 5.2 */
#define WS_MAX_CTRL  139  /* room for any control frame: 14 + 125 */
#define WS_NEVER     INT64_MAX

/* What all connections of an endpoint have in common; kept by pointer, so a
 * change holds for all of them at once. */
struct ws_config {
    uint64_t max_message;         /* bytes; a longer one is closed with 1009, from its header */
    int32_t  ping_interval_ms;    /* ping a peer that was quiet so long; 0: never */
    int32_t  ping_timeout_ms;     /* and close with 1011 when nothing comes for so long; 0: never */
    int32_t  close_timeout_ms;    /* wait so long for the answer to our close */
    int32_t  message_timeout_ms;  /* a begun message must be whole by then, else 1008; 0: never */
    bool     text_only;           /* a binary message is closed with 1003, from its header */
};

/* Where frames to be sent are put: p[len .. cap) is free. The caller's memory;
 * it sends p[0 .. len) and sets len to 0. Every frame needs 14 bytes more than
 * its payload to be free, so cap is at least WS_MAX_CTRL. */
struct ws_out {
    uint8_t *p;
    size_t   len, cap;
};

/* Masking keys of a client (5.3), shared by any number of its connections. The
 * caller fills seed from a strong source and zeroes the rest; keys are pieces
 * of SHA-1(seed, counter), so that no peer can foresee them. */
struct ws_masks {
    uint8_t  seed[16];
    uint64_t counter;
    uint8_t  key[20], left;
};

struct ws_event {
    uint8_t *data;     /* TEXT, BINARY: the message. CLOSED: the reason, UTF-8, to be read only */
    size_t   len;      /* 0: data may be anything */
    uint16_t code;     /* CLOSED: 7.4.1; 1005: the peer's close had none; 1006: no close came */
    bool     by_peer;  /* CLOSED: the peer began it (else a fault, a timer, or ws_close()) */
};

/* One connection: 104 bytes where a pointer has 8. Its fields are the engine's own. */
struct ws {
    const struct ws_config *config;
    struct ws_out   *out;
    struct ws_masks *masks;      /* client only */
    uint8_t    *buf;             /* of the last ws_received() */
    size_t      base, have;      /* buf[base .. base + have): the message so far */
    size_t      at, end;         /* buf[at .. end): not looked at yet */
    uint64_t    left;            /* payload of the current data frame still to come */
    int64_t     since;           /* the peer's last bytes came; pinged: our ping, closing: our
                                    close was queued */
    int64_t     began;           /* when the unfinished message began, else WS_NEVER */
    uint8_t     key[4];          /* mask of the next payload byte and the three behind it */
    struct utf8 utf8;            /* of the text so far */
    uint8_t     op;              /* of the message being gathered; 0: none is */
    uint8_t     state, fault;
    bool        fin : 1;         /* the current frame is its message's last */
    bool        client : 1, lent : 1, pinged : 1, paused : 1, eof : 1, closed : 1;
};

/* ---- a connection ---- */

/* Begin, after the handshake; every field of ws is set. config, out and, for
 * a client, masks (a server: NULL) outlive the connection. There is nothing to
 * free at its end. */
void ws_init(struct ws *ws, enum ws_role role, const struct ws_config *config,
             struct ws_out *out, struct ws_masks *masks, int64_t now);

/* Bytes have come: buf[0..len) is what ws_keep() asked for, and behind it the
 * new ones. buf may lie elsewhere than last time; it is written to, and it must
 * stay where it is until ws_keep(). len may be just what was kept (to go on
 * after a pause): that is no sign of life. After CLOSED the call does nothing.
 * What came behind the handshake's head is handed in like anything else. */
void ws_received(struct ws *ws, uint8_t *buf, size_t len, int64_t now);

/* Next thing the peer said, or WS_EV_NONE when more bytes are needed.
 *
 * Pings are answered and fragments joined here; neither is reported (5.4,
 * 5.5.2). The caller may stop before NONE (a slow consumer; ws_pause() lets no
 * time run against the peer meanwhile): ws_keep() then keeps what was not looked
 * at, and the next ws_received() goes on with it.
 * Without a buffer, after ws_keep(), it reports only what time or the end of
 * TCP brought about.
 *
 * ev->data points into the buffer of ws_received(): valid until the next
 * ws_next() or ws_keep(), may be modified, never freed. Text has passed UTF-8
 * (8.1). ws_send() and ws_close() may be called with it in hand.
 *
 * A peer that breaks a rule yields WS_EV_CLOSED with the code we sent (7.4.1)
 * and a few words as reason, after every message and ping before the fault was
 * reported or answered. A header or a close frame is judged when it is whole, a
 * text is refused with its first wrong byte.
 * The peer's own close is answered with its code before it is reported. In
 * both cases the caller sends out, then ends TCP; it may forget ws then. */
enum ws_ev ws_next(struct ws *ws, struct ws_event *ev);

/* End of the turn: what must be kept of the buffer of ws_received(). *len bytes
 * at the returned place inside it (NULL, 0: nothing), which go to the start of
 * the next buffer; leaving them where they are and receiving behind them is as
 * good. The buffer is not touched after that. A second call says the same. */
uint8_t *ws_keep(struct ws *ws, size_t *len);

/* How long the next buffer must be for the current message to be gathered
 * without moving, its end known from the frame header: at least *len + 1 of
 * ws_keep(). A buffer of just so many bytes is always enough to go on. */
size_t ws_want(const struct ws *ws);

/* ---- sending ---- */

/* Queue one whole message (WS_TEXT: the caller answers for its UTF-8) or a
 * control frame (WS_PING, WS_PONG: at most 125 bytes). p is copied; NULL when
 * len is 0. 0, WS_FULL (or use ws_head()), WS_CLOSING or WS_MISUSE. */
int ws_send(struct ws *ws, enum ws_op op, const void *p, size_t len);

/* For a message that is written where it will be sent from, or sent from where
 * it lies with writev(): its header, 2, 4 or 10 bytes, returned. Server role
 * (it does not mask); not once ws_send() would say WS_CLOSING. */
size_t ws_head(uint8_t head[10], enum ws_op op, uint64_t len);

/* Begin to close (7.1.2): queues a close frame, after which nothing more can be
 * sent, pongs neither. code 0: none, and no reason. reason: UTF-8, ended by
 * NUL, "" for none, cut to 123 bytes at a character. Messages that still come
 * are thrown away. CLOSED comes when the peer answers (by_peer false, its code
 * and reason), and with 1006 when close_timeout_ms is over, TCP ends or the
 * peer breaks a rule first. 0, WS_FULL, WS_CLOSING, or WS_MISUSE: not
 * ws_code_valid(). */
int ws_close(struct ws *ws, uint16_t code, const char *reason, int64_t now);

/* ---- time ---- */

/* When ws_tick() must be called at the latest, WS_NEVER when never. It moves
 * with what comes and is sent: ask again after each turn, or call early, which
 * does nothing. */
int64_t ws_deadline(const struct ws *ws);

/* Time has passed: may queue a ping or begin the end (1008, 1011, or an
 * unanswered close); then call ws_next() until NONE, and send. Read what has
 * come before (ws_received()): an answer in the kernel's buffer counts. */
void ws_tick(struct ws *ws, int64_t now);

/* While the caller does not read this peer it is not timed out for silence;
 * the wait begins anew when it reads again. The times of an unfinished message
 * and of an unanswered close run on. */
void ws_pause(struct ws *ws, bool paused, int64_t now);

/* The peer ended TCP: what came before is still reported by ws_next(), then
 * CLOSED with 1006 (unless CLOSED has come). */
void ws_eof(struct ws *ws);

/* ---- handshake ---- */

/* Server (4.2), a head that http_request() read. 101: accept it with
 * ws_accept(); else 400, 405 (Allow: GET) or 426 (Upgrade: websocket,
 * Sec-WebSocket-Version: 13): refuse, with those lines. *why says what is wrong
 * in a few words, "" when nothing is. Host, Origin, path and subprotocol are the
 * caller's to judge. */
int ws_check_request(const struct http_head *h, const char **why);

/* Is this request an upgrade at all: Upgrade holds "websocket"? */
bool ws_is_upgrade(const struct http_head *h);

/* The whole 101 answer into out (room for 256 + protocol.len), only after
 * ws_check_request() said 101; protocol is one that the client offered, or
 * empty. Returns its bytes. No formatted printing. */
size_t ws_accept(char *out, const struct http_head *h, struct slice protocol);

/* Client (4.1): a whole request into out[0..cap): its size, or 0 when it does
 * not fit. host as in the Host header, target from "/" on; both are sent as
 * they are. nonce: 16 random bytes, to be kept for the response. headers: whole
 * lines, "Name: value\r\n", or "". */
size_t ws_request(char *out, size_t cap, const char *host, const char *target,
                  const uint8_t nonce[16], const char *headers);

/* A head that http_response() read. 101 when it accepts that request, else its
 * status, or 400 when it is a 101 that breaks a rule; *why as above. Whether a
 * Sec-WebSocket-Protocol in it was offered is the caller's to check. */
int ws_check_response(const struct http_head *h, const uint8_t nonce[16], const char **why);

/* May this code stand in a close frame (7.4; 1012 to 1014 by the registry)? */
bool ws_code_valid(unsigned code);

#ifdef __cplusplus
}
#endif
#endif
