// uses: ws_handshake.c http.c utf8.c
/* A peer that sends anything, to a server or a client of ours. However its
 * bytes are cut, moved and handed in again, the same must come of them; what we
 * send must be whole frames; text must be UTF-8; the end comes once.
 *
 * Input: options, seed of the random pieces, where we close; then the wire. */
#include "../../ws.h"

/* One comparison traced for each byte of a payload would take most of the time. */
static bool mask(uint8_t *to, const uint8_t *from, size_t n, const uint8_t key[4])
    __attribute__((no_sanitize("coverage")));
#include "../../ws.c"

/* What plays the peer is not what is explored. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#include "../ws_session.h"
#include "fuzz.h"
#include "../../base64.c"
#include "../../sha1.c"

static uint32_t seed;

static size_t pick(size_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

/* RFC 3629 by its table, for comparison. */
static bool is_text(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint8_t c = p[i++];
        unsigned more = c < 0x80 ? 0 : c >= 0xc2 && c <= 0xdf ? 1 : c >= 0xe0 && c <= 0xef ? 2 :
                        c >= 0xf0 && c <= 0xf4 ? 3 : 9;
        if (more == 9 || n - i < more) return false;
        uint8_t lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        for (; more; more--, lo = 0x80, hi = 0xbf) {
            if (p[i] < lo || p[i] > hi) return false;
            i++;
        }
    }
    return true;
}

static void check_trace(const struct session *s)
{
    bool ended = false;
    for (size_t i = 0; i < s->trace.n;) {
        uint32_t n;
        char what = (char)s->trace.p[i];
        memcpy(&n, s->trace.p + i + 1, 4);
        const uint8_t *p = s->trace.p + i + 5;
        require(!ended, "nothing after the end");
        if (what == 'T') require(is_text(p, n), "text is UTF-8");
        if (what == 'T' || what == 'B') require(n <= s->config.max_message, "messages within the limit");
        if (what == 'B') require(!s->config.text_only, "no binary where text alone is understood");
        if (what == 'O') require(n <= 125, "pong of 125 bytes at most");
        if (what == 'X' || what == 'x') {
            require(n < 2 || is_text(p + 2, n - 2), "reason is UTF-8");
            require(n == 0 || ws_code_valid((unsigned)p[0] << 8 | p[1]), "code is valid");
        }
        ended = strchr("Xx!", what) != NULL;
        i += 5 + n;
    }
    require(ended == s->closed, "the end is told");
    require(!s->broken, s->broken);
}

enum { WHOLE, BYTES, RANDOM, SLOW, WAYS };  /* BYTES: the first 96, then 13 at a time */

static void play(struct session *s, const uint8_t *in, size_t n, int way)
{
    struct ws_config config = session_defaults;
    unsigned options = in[0];
    size_t close_at = options & 8 ? in[2] : SIZE_MAX;
    seed = in[1];
    config.max_message = options & 4 ? 20 : 70000;
    config.text_only = options & 2;
    session_begin(s, options & 1, &config, way == WHOLE ? 100000 : WS_MAX_CTRL, 0);
    s->slow = way == SLOW;
    in += 3;
    n -= 3;
    for (size_t at = 0; at < n;) {
        size_t piece = way == WHOLE ? n : way == BYTES ? (at < 96 ? 1 : 13) : 1 + pick(pick(2) ? 9 : 400);
        if (at < close_at && piece > close_at - at) piece = close_at - at;
        if (piece > n - at) piece = n - at;
        if (at == close_at) session_close(s, 1001, "going", 0);
        session_feed(s, in + at, piece, 0);
        at += piece;
    }
    if (options & 16) {
        ws_eof(&s->ws);
        session_feed(s, in, 0, 0);
        require(s->closed, "the end of TCP is the end");
    }
    check_trace(s);
}

#pragma clang attribute pop

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t n)
{
    struct session first, other;
    if (n < 3) return 0;
    play(&first, in, n, WHOLE);
    for (int way = BYTES; way < WAYS; way++) {
        play(&other, in, n, way);
        require(bytes_same(&first.trace, &other.trace), "the same however it is cut");
        session_end(&other);
    }
    session_end(&first);
    return 0;
}
