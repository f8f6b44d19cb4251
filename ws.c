/* Frames, messages, closing and time of RFC 6455: see ws.h. A frame header is
 * decoded or nothing is, then checked (one line per rule), then applied.
 * Section numbers are the RFC's. */
#include "ws.h"

#include <assert.h>
#include <string.h>

#include "sha1.h"

enum { OPEN, CLOSING, FAILED, DONE };  /* CLOSING: after ws_close(); FAILED: CLOSED not yet told */

enum fault {
    BAD_RSV, BAD_OPCODE, BAD_MASK, BAD_CONTROL, BAD_SEQUENCE, BAD_LENGTH, BAD_CLOSE, BAD_TEXT,
    BAD_REASON, NOT_TEXT, TOO_LARGE, TOO_SLOW, SILENT, UNANSWERED, CUT_OFF, NO_FAULT
};

/* In the order of enum fault: the code of our close (7.4.1) and its reason. */
static const struct { uint16_t code; const char *why; } faults[] = {
    { 1002, "reserved bit" },
    { 1002, "reserved opcode" },
    { 1002, "wrong masking" },
    { 1002, "long or fragmented control frame" },
    { 1002, "wrong continuation" },
    { 1002, "length not in its shortest form" },
    { 1002, "invalid close code" },
    { 1007, "text is not UTF-8" },
    { 1007, "close reason is not UTF-8" },
    { 1003, "only text is understood" },
    { 1009, "message too large" },
    { 1008, "message not whole in time" },
    { 1011, "no answer to ping" },
    { 1006, "no answer to close" },
    { 1006, "connection lost" },
};

enum { BLOCK = 4096 };  /* unmasked, then checked, while it is in the first cache */

struct frame {
    uint64_t len;
    uint8_t  ext;       /* bytes of extended length: 0, 2 or 8 */
    uint8_t  rsv, op;
    bool     fin, masked;
    const uint8_t *key; /* [4], when masked */
};

static uint64_t load_be(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    while (n--) v = v << 8 | *p++;
    return v;
}

/* Decode one frame header, 5.2. Stateless: its size (2..14), or 0 to be
 * called again from the same p once more bytes have arrived. */
static size_t frame_head(struct frame *f, const uint8_t *p, size_t n)
{
    if (n < 2) return 0;
    unsigned len7 = p[1] & 0x7fu;
    f->ext    = len7 == 127 ? 8 : len7 == 126 ? 2 : 0;
    f->masked = p[1] >> 7;
    size_t size = 2u + f->ext + (f->masked ? 4u : 0u);
    if (n < size) return 0;
    f->fin = p[0] >> 7;
    f->rsv = p[0] >> 4 & 7;
    f->op  = p[0] & 15;
    f->len = f->ext ? load_be(p + 2, f->ext) : len7;
    f->key = p + size - (f->masked ? 4 : 0);
    return size;
}

static enum fault check(const struct ws *ws, const struct frame *f)
{
    if (f->rsv)                                 return BAD_RSV;      /* 5.2, no extension */
    if ((f->op & 7) > 2)                        return BAD_OPCODE;   /* 5.2 */
    if (f->masked == ws->client)                return BAD_MASK;     /* 5.1 */
    if (f->op & 8)     return f->ext || !f->fin ? BAD_CONTROL : NO_FAULT; /* 5.5 */
    if ((f->op == WS_CONT) == !ws->op)          return BAD_SEQUENCE; /* 5.4 */
    if (f->ext == 2 && f->len < 126)            return BAD_LENGTH;   /* 5.2 */
    if (f->ext == 8 && f->len <= UINT16_MAX)    return BAD_LENGTH;   /* 5.2 */
    if (f->len >> 63)                           return BAD_LENGTH;   /* 5.2 */
    if (ws->state == CLOSING)                   return NO_FAULT;     /* thrown away, 1.4 */
    if (f->op == WS_BINARY && ws->config->text_only)           return NOT_TEXT;  /* 7.4.1 */
    if (f->len + ws->have > ws->config->max_message)           return TOO_LARGE; /* 10.4 */
    return NO_FAULT;
}

static void turn_key(uint8_t key[4], size_t n)
{
    uint8_t twice[8];
    memcpy(twice, key, 4);
    memcpy(twice + 4, key, 4);
    memcpy(key, twice + (n & 3), 4);
}

/* to[i] = from[i] ^ key[i % 4], 5.3. to may lie before from and overlap it. Is all of it ASCII? */
static bool mask(uint8_t *to, const uint8_t *from, size_t n, const uint8_t key[4])
{
    typedef uint32_t lanes __attribute__((vector_size(16)));
    uint8_t last_key[4], bits = 0;
    uint32_t k4;
    if (n < 16) {
        for (size_t i = 0; i < n; i++) bits |= to[i] = from[i] ^ key[i & 3];
        return bits < 0x80;
    }
    lanes last, v, all = { 0 };          /* the last 16 bytes, some of which the loop does too */
    memcpy(&last, from + n - 16, 16);
    memcpy(last_key, key, 4);
    turn_key(last_key, n);
    memcpy(&k4, key, 4);
    for (size_t i = 0; i + 16 < n; i += 16) {
        memcpy(&v, from + i, 16);
        v ^= k4;
        all |= v;
        memcpy(to + i, &v, 16);
    }
    memcpy(&k4, last_key, 4);
    last ^= k4;
    memcpy(to + n - 16, &last, 16);
    all |= last;
    return !((all[0] | all[1] | all[2] | all[3]) & 0x80808080);
}

/* Payload to its place behind the message so far. true: it is ASCII, as was seen on the way. */
static bool take(const struct ws *ws, uint8_t *to, const uint8_t *from, size_t n)
{
    if (!ws->client) return mask(to, from, n, ws->key);
    if (to != from) memmove(to, from, n);
    return false;
}

/* Nothing that came or comes is looked at any more. */
static void forget_input(struct ws *ws, int state)
{
    ws->state = (uint8_t)state;
    ws->at = ws->end;
    ws->left = 0;
    ws->have = 0;
    ws->op = 0;
}

static void fail(struct ws *ws, enum fault fault)
{
    ws->fault = (uint8_t)fault;
    forget_input(ws, FAILED);
}

/* Text that has come, unmasked and checked block by block. */
static bool take_text(struct ws *ws, uint8_t *to, const uint8_t *from, size_t n)
{
    for (size_t m; n; n -= m, to += m, from += m) {
        m = n;
        if (m > BLOCK) m = BLOCK;
        if (take(ws, to, from, m) && !ws->utf8.need) continue;
        if (utf8_check(&ws->utf8, to, m) != m) return false;
    }
    return ws->left || !ws->fin || !ws->utf8.need;
}

/* What has come of the current frame's payload goes to its place. true: the
 * message is whole. */
static bool payload(struct ws *ws)
{
    size_t n = ws->end - ws->at;
    if (n > ws->left) n = (size_t)ws->left;
    const uint8_t *from = ws->buf + ws->at;
    ws->at += n;
    ws->left -= n;
    if (ws->state == OPEN) {
        uint8_t *to = ws->buf + ws->base + ws->have;
        ws->have += n;
        if (ws->op != WS_TEXT)                  take(ws, to, from, n);
        else if (!take_text(ws, to, from, n)) { fail(ws, BAD_TEXT); return false; } /* 8.1 */
        if (ws->left) turn_key(ws->key, n);
    }
    return !ws->left && ws->fin;
}

/* The header of a data frame has passed: what follows is its payload. */
static void begin_frame(struct ws *ws, const struct frame *f)
{
    ws->left = f->len;
    ws->fin = f->fin;
    if (f->masked) memcpy(ws->key, f->key, 4);
    if (f->op == WS_CONT) return;
    ws->op = f->op;
    ws->base = ws->at;
    ws->have = 0;
    memset(&ws->utf8, 0, sizeof ws->utf8);
}

static enum ws_ev message(struct ws *ws, struct ws_event *ev)
{
    enum ws_ev e = ws->op == WS_TEXT ? WS_EV_TEXT : WS_EV_BINARY;
    ev->data = ws->buf + ws->base;
    ev->len = ws->have;
    ws->op = 0;
    ws->have = 0;
    ws->began = WS_NEVER;
    return ws->state == OPEN ? e : WS_EV_NONE;
}

/* Four bytes that the peer cannot foresee, 5.3. */
static void next_key(struct ws_masks *m, uint8_t key[4])
{
    if (!m->left) {
        uint8_t in[24];
        memcpy(in, m->seed, 16);
        memcpy(in + 16, &m->counter, 8);
        m->counter++;
        sha1(m->key, in, sizeof in);
        m->left = 20;
    }
    m->left -= 4;
    memcpy(key, m->key + m->left, 4);
}

size_t ws_head(uint8_t head[10], enum ws_op op, uint64_t len)
{
    unsigned ext = len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8;
    head[0] = (uint8_t)(0x80 | op);
    head[1] = (uint8_t)(ext == 8 ? 127 : ext == 2 ? 126 : len);
    for (unsigned i = 0; i < ext; i++) head[2 + i] = (uint8_t)(len >> 8 * (ext - 1 - i));
    return 2 + ext;
}

/* Room for a frame with the longest header. */
static bool has_room(const struct ws_out *out, size_t len)
{
    size_t room = out->cap - out->len;
    return room >= WS_MAX_HEAD && room - WS_MAX_HEAD >= len;
}

static bool put_frame(struct ws *ws, enum ws_op op, const void *p, size_t len)
{
    struct ws_out *out = ws->out;
    if (!has_room(out, len)) return false;
    uint8_t *to = out->p + out->len;
    size_t n = ws_head(to, op, len);
    if (ws->client) {
        to[1] |= 0x80;
        next_key(ws->masks, to + n);
        mask(to + n + 4, (const uint8_t *)p, len, to + n);
        n += 4;
    } else if (len) {
        memcpy(to + n, p, len);
    }
    out->len += n + len;
    return true;
}

static bool put_close(struct ws *ws, unsigned code, const char *reason, size_t len)
{
    uint8_t body[125] = { (uint8_t)(code >> 8), (uint8_t)code };
    if (code) memcpy(body + 2, reason, len);
    return put_frame(ws, WS_CLOSE, body, code ? 2 + len : 0);
}

/* Tell the peer what it did wrong, if it may still be told anything, and the caller. */
static enum ws_ev finish(struct ws *ws, struct ws_event *ev)
{
    unsigned code = ws->closed ? 1006 : faults[ws->fault].code;
    const char *why = faults[ws->fault].why;
    size_t len = strlen(why);
    if (code != 1006 && !put_close(ws, code, why, len)) return WS_EV_FULL;
    ws->state = DONE;
    ws->closed = true;
    ev->data = (uint8_t *)(uintptr_t)why;
    ev->len = len;
    ev->code = (uint16_t)code;
    ev->by_peer = false;
    return WS_EV_CLOSED;
}

/* The peer's close, 5.5.1: answered with its own code. */
static enum ws_ev on_close(struct ws *ws, struct ws_event *ev, uint8_t *p, size_t len)
{
    unsigned code = len >= 2 ? (unsigned)load_be(p, 2) : 0;
    if (len && !ws_code_valid(code))                  { fail(ws, BAD_CLOSE); return WS_EV_NONE; }
    if (len > 2 && !utf8_valid(p + 2, len - 2))       { fail(ws, BAD_REASON); return WS_EV_NONE; }
    if (!ws->closed) put_close(ws, code, "", 0);
    ev->data = len ? p + 2 : p;
    ev->len = len ? len - 2 : 0;
    ev->code = (uint16_t)(len ? code : 1005);
    ev->by_peer = !ws->closed;
    ws->closed = true;
    forget_input(ws, DONE);
    return WS_EV_CLOSED;
}

/* A whole control frame, its payload at p. */
static enum ws_ev control(struct ws *ws, const struct frame *f, uint8_t *p, struct ws_event *ev)
{
    size_t len = (size_t)f->len;
    if (f->op != WS_PONG && !ws->closed && !has_room(ws->out, len)) return WS_EV_FULL;
    ws->at = (size_t)(p - ws->buf) + len;
    if (!ws->op) ws->began = WS_NEVER;
    if (!ws->client) mask(p, p, len, f->key);
    if (f->op == WS_CLOSE) return on_close(ws, ev, p, len);
    if (f->op == WS_PING && !ws->closed) put_frame(ws, WS_PONG, p, len);  /* 5.5.2 */
    return WS_EV_NONE;
}

/* Nothing more can be made of the bytes here, if they are here: those that the
 * caller holds back may be whole messages. */
static void idle(struct ws *ws)
{
    bool begun = ws->op || ws->at != ws->end;
    if (ws->lent && !begun)                         ws->began = WS_NEVER;
    else if (ws->lent && ws->began == WS_NEVER)     ws->began = ws->since;
    if (ws->eof) fail(ws, CUT_OFF);
}

enum ws_ev ws_next(struct ws *ws, struct ws_event *ev)
{
    while (ws->state < FAILED) {
        enum ws_ev e = WS_EV_NONE;
        size_t n = ws->lent ? ws->end - ws->at : 0;
        if (!n) { idle(ws); break; }
        if (!ws->left) {
            struct frame f;
            size_t size = frame_head(&f, ws->buf + ws->at, n);
            if (!size) { idle(ws); break; }
            enum fault fault = check(ws, &f);
            if (fault != NO_FAULT) { fail(ws, fault); break; }
            if (f.op & 8) {
                if (n - size < f.len) { idle(ws); break; }
                if ((e = control(ws, &f, ws->buf + ws->at + size, ev)) != WS_EV_NONE) return e;
                continue;
            }
            ws->at += size;
            begin_frame(ws, &f);
        }
        if (payload(ws) && (e = message(ws, ev)) != WS_EV_NONE) return e;
    }
    return ws->state == FAILED ? finish(ws, ev) : WS_EV_NONE;
}

void ws_init(struct ws *ws, enum ws_role role, const struct ws_config *config,
             struct ws_out *out, struct ws_masks *masks, int64_t now)
{
    memset(ws, 0, sizeof *ws);
    ws->config = config;
    ws->out = out;
    ws->masks = masks;
    ws->client = role == WS_CLIENT;
    ws->since = now;
    ws->began = WS_NEVER;
    assert(out->cap >= WS_MAX_CTRL && ws->client == (masks != NULL));
}

void ws_received(struct ws *ws, uint8_t *buf, size_t len, int64_t now)
{
    if (ws->state >= FAILED) return;
    size_t kept = ws->have + (ws->end - ws->at);
    assert(len >= kept);
    if (len > kept && ws->state == OPEN) {
        ws->since = now;
        ws->pinged = false;
    }
    ws->buf = buf;
    ws->base = 0;
    ws->at = ws->have;
    ws->end = len;
    ws->lent = true;
    if (ws->state == CLOSING) ws->have = 0;  /* a message begun before our close is of no use */
}

uint8_t *ws_keep(struct ws *ws, size_t *len)
{
    size_t have = ws->have, rest = ws->end - ws->at;
    *len = have + rest;
    ws->lent = false;
    if (!*len) return NULL;
    if (!have) ws->base = ws->at;
    size_t gap = ws->at - ws->base - have;
    if (gap && rest <= have) {         /* close the gap from its cheaper side */
        memmove(ws->buf + ws->at - gap, ws->buf + ws->at, rest);
        ws->at -= gap;
        ws->end -= gap;
    } else if (gap) {
        memmove(ws->buf + ws->base + gap, ws->buf + ws->base, have);
        ws->base += gap;
    }
    return ws->buf + ws->base;
}

size_t ws_want(const struct ws *ws)
{
    size_t kept = ws->have + (ws->end - ws->at);
    uint64_t want = ws->have + (ws->left ? ws->left : WS_MAX_CTRL);
    return ws->state == OPEN && want > kept ? (size_t)want : kept + 1;
}

int ws_send(struct ws *ws, enum ws_op op, const void *p, size_t len)
{
    bool data = op == WS_TEXT || op == WS_BINARY;
    if (!data && ((op != WS_PING && op != WS_PONG) || len > 125)) return WS_MISUSE;
    if (ws->state != OPEN) return WS_CLOSING;
    return put_frame(ws, op, p, len) ? 0 : WS_FULL;
}

int ws_close(struct ws *ws, uint16_t code, const char *reason, int64_t now)
{
    if (code && !ws_code_valid(code)) return WS_MISUSE;
    if (ws->state != OPEN) return WS_CLOSING;
    size_t len = strlen(reason);
    if (len > 123) {
        for (len = 123; len && (reason[len] & 0xc0) == 0x80;) len--;
    }
    if (!put_close(ws, code, reason, len)) return WS_FULL;
    ws->state = CLOSING;
    ws->closed = true;
    ws->since = now;
    if (ws->lent) ws->have = 0;
    return 0;
}

/* When the unfinished message must be whole. */
static int64_t message_due(const struct ws *ws)
{
    int32_t ms = ws->config->message_timeout_ms;
    return ms && ws->began != WS_NEVER ? ws->began + ms : WS_NEVER;
}

/* When to ping a peer that says nothing, or to give it up. */
static int64_t silence_due(const struct ws *ws)
{
    const struct ws_config *c = ws->config;
    if (!c->ping_interval_ms || ws->paused) return WS_NEVER;
    if (!ws->pinged) return ws->since + c->ping_interval_ms;
    return ws->since + (c->ping_timeout_ms ? c->ping_timeout_ms : c->ping_interval_ms);
}

int64_t ws_deadline(const struct ws *ws)
{
    if (ws->state == CLOSING) return ws->since + ws->config->close_timeout_ms;
    if (ws->state != OPEN) return WS_NEVER;
    int64_t message = message_due(ws), silence = silence_due(ws);
    return message < silence ? message : silence;
}

void ws_tick(struct ws *ws, int64_t now)
{
    if (now < ws_deadline(ws)) return;
    if (ws->state == CLOSING)                                    fail(ws, UNANSWERED);
    else if (now >= message_due(ws))                             fail(ws, TOO_SLOW);
    else if (ws->pinged && ws->config->ping_timeout_ms)          fail(ws, SILENT);
    else if (put_frame(ws, WS_PING, "", 0)) {
        ws->pinged = true;
        ws->since = now;
    }
}

void ws_pause(struct ws *ws, bool paused, int64_t now)
{
    if (ws->paused && !paused && ws->state == OPEN) {
        ws->since = now;
        ws->pinged = false;
    }
    ws->paused = paused;
}

void ws_eof(struct ws *ws)
{
    ws->eof = true;
}

bool ws_code_valid(unsigned code)
{
    if (code >= 3000 && code <= 4999) return true;                            /* 7.4.2 */
    return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);      /* 7.4.1, IANA */
}
