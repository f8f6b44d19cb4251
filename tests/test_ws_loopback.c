// uses: ws.c ws_handshake.c http.c sha1.c base64.c utf8.c
/* Our server against our client, and both against random peers, with fixed
 * seeds: whatever is sent arrives, once, in order, wherever the bytes are cut. */
#include "test.h"
#include "ws_session.h"

static uint32_t seed;

/* 0 .. n - 1 */
static uint32_t pick(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return n ? seed % n : 0;
}

static size_t pick_size(void)
{
    static const size_t sizes[] = { 0, 1, 2, 7, 8, 15, 16, 17, 124, 125, 126, 127, 1000, 4095, 4096,
                                    4097, 65535, 65536 };
    return pick(40) ? sizes[pick(15)] : sizes[pick(18)];
}

/* Random text of whole characters, or bytes; at most n of them. */
static struct bytes pick_payload(bool text, size_t n)
{
    static const char *const chars[] = { "a", "Z", " ", "é", "ß", "€", "日", "\xed\x9f\xbf", "😀", "\xf4\x8f\xbf\xbf" };
    struct bytes b = { 0 };
    while (b.n < n) {
        const char *c = chars[pick(10)];
        if (text && strlen(c) <= n - b.n) bytes_add(&b, c, strlen(c));
        else bytes_put(&b, text ? 'x' : pick(256));
    }
    return b;
}

/* ---- both of our own ---- */

struct end {
    struct session s;
    struct bytes   wire;      /* on its way to the other */
    struct bytes   expect;    /* what the other must report */
    size_t         read;      /* of the other's trace */
};

/* Take what the engine wants to send, before the session reads it. */
static void take_out(struct end *e)
{
    bytes_add(&e->wire, e->s.out.p, e->s.out.len);
    e->s.out.len = 0;
}

static void send_one(struct end *e)
{
    uint32_t what = pick(4);
    bool text = what == 0;
    struct bytes b = pick_payload(text, what > 1 ? pick(126) : pick_size());
    enum ws_op op = what == 0 ? WS_TEXT : what == 1 ? WS_BINARY : what == 2 ? WS_PING : WS_PONG;
    cr_assert_eq(ws_send(&e->s.ws, op, b.p, b.n), 0);
    take_out(e);
    if (what < 2) trace_add(&e->expect, text ? 'T' : 'B', b.p, b.n);
    bytes_free(&b);
}

/* Some of what e sent reaches the other one, whose answers go on their way. */
static void deliver(struct end *e, struct end *other)
{
    size_t n = 1 + pick(pick(3) ? 50 : 70000);
    if (n > e->wire.n) n = e->wire.n;
    if (!n) return;
    other->s.held = true;      /* answers stay in out until they are taken */
    session_feed(&other->s, e->wire.p, n, 0);
    memmove(e->wire.p, e->wire.p + n, e->wire.n - n);
    e->wire.n -= n;
    take_out(other);
    cr_assert_null(other->s.broken, "%s", other->s.broken);
}

static void drain(struct end *a, struct end *b)
{
    while (a->wire.n || b->wire.n) {
        deliver(a, b);
        deliver(b, a);
    }
}

static void expect_all(const struct end *from, const struct end *to)
{
    cr_assert(bytes_same(&to->s.trace, &from->expect));
}

/* CLOSED, without the session's look at frames, which went over the wire. */
static struct ws_event close_of(struct end *e)
{
    struct ws_event ev = { NULL, 0, 0, false };
    uint8_t *buf = bytes_copy(e->s.buf, e->s.kept);
    ws_received(&e->s.ws, buf, e->s.kept, 0);
    cr_assert_eq(ws_next(&e->s.ws, &ev), WS_EV_CLOSED);
    ev.data = NULL;
    size_t n;
    ws_keep(&e->s.ws, &n);
    cr_assert_eq(n, 0u);
    e->s.kept = 0;
    free(buf);
    take_out(e);
    return ev;
}

static void hand_over(struct end *from, struct end *to)
{
    to->s.buf = (uint8_t *)realloc(to->s.buf, to->s.kept + from->wire.n + 1);
    memcpy(to->s.buf + to->s.kept, from->wire.p, from->wire.n);
    to->s.kept += from->wire.n;
    from->wire.n = 0;
}

Test(ws_loopback, five_hundred_random_sessions_lose_nothing)
{
    static const uint16_t codes[] = { 0, 1000, 1001, 1011, 3000, 4999 };
    for (uint32_t round = 1; round <= 500; round++) {
        struct end a = { 0 }, b = { 0 };
        seed = round * 2654435761u;
        session_begin(&a.s, false, &session_defaults, 1 << 18, 0);
        session_begin(&b.s, true, &session_defaults, 1 << 18, 0);
        for (uint32_t i = 0, n = pick(30); i < n; i++) {
            send_one(pick(2) ? &a : &b);
            if (pick(2)) deliver(&a, &b);
            if (pick(2)) deliver(&b, &a);
        }
        drain(&a, &b);
        expect_all(&a, &b);
        expect_all(&b, &a);
        struct end *first = pick(2) ? &a : &b, *second = first == &a ? &b : &a;
        uint16_t code = codes[pick(6)];
        cr_assert_eq(ws_close(&first->s.ws, code, "bye", 0), 0);
        take_out(first);
        bool both = pick(3) == 0;
        if (both) {
            cr_assert_eq(ws_close(&second->s.ws, 1001, "", 0), 0);
            take_out(second);
        }
        hand_over(first, second);
        struct ws_event ev = close_of(second);
        cr_assert_eq(ev.code, code ? code : 1005);
        cr_assert_eq(ev.len, code ? 3u : 0u);
        cr_assert_eq(ev.by_peer, !both);
        hand_over(second, first);
        ev = close_of(first);
        cr_assert_eq(ev.code, both ? 1001 : code ? code : 1005);
        cr_assert_eq(ev.len, 0u);
        cr_assert(!ev.by_peer);
        session_end(&a.s);
        session_end(&b.s);
        bytes_free(&a.wire);
        bytes_free(&b.wire);
        bytes_free(&a.expect);
        bytes_free(&b.expect);
    }
}

/* ---- random peers ---- */

/* A random message in random fragments, pings between them; what must come of it. */
static void add_message(struct bytes *wire, struct bytes *want, bool masked)
{
    bool text = pick(2);
    struct bytes b = pick_payload(text, pick_size());
    for (size_t at = 0, n, k = 0; at < b.n || !k; at += n, k++) {
        n = pick((uint32_t)(b.n - at) + 1);
        bool fin = at + n == b.n;
        wire_frame(wire, (fin ? 0x80u : 0u) | (k ? 0u : text ? 1u : 2u), masked, 0, n, b.n ? b.p + at : b.p, n);
        if (fin || pick(3)) continue;
        struct bytes c = pick_payload(false, pick(126));
        bool ping = pick(2);
        wire_frame(wire, ping ? 0x89 : 0x8a, masked, 0, c.n, c.p, c.n);
        if (ping) trace_add(want, 'O', c.p, c.n);
        bytes_free(&c);
    }
    trace_add(want, text ? 'T' : 'B', b.p, b.n);
    bytes_free(&b);
}

/* The same wire in three ways: whole, byte by byte, in random pieces. */
static void play(struct session *s, const struct bytes *wire, bool client, int way)
{
    struct ws_config config = session_defaults;
    config.max_message = 100000;
    session_begin(s, client, &config, way ? WS_MAX_CTRL : 4096, 0);
    s->slow = way == 2;
    for (size_t at = 0, n; at < wire->n; at += n) {
        n = way == 0 ? wire->n : way == 1 ? 1 : 1 + pick(pick(2) ? 20 : 3000);
        if (n > wire->n - at) n = wire->n - at;
        session_feed(s, wire->p + at, n, 0);
    }
    cr_assert_null(s->broken, "%s", s->broken);
}

static void expect_same(const struct bytes *wire, bool client)
{
    struct session s[3];
    char a[1000], b[1000];
    int ways = wire->n > 3000 ? 1 : 2;
    play(&s[0], wire, client, 0);
    for (int way = ways == 1 ? 2 : 1; way < 3; way++) {
        play(&s[way], wire, client, way);
        cr_assert(bytes_same(&s[way].trace, &s[0].trace), "seed %u: %s\n%s", (unsigned)seed, trace_text(&s[0].trace, a, sizeof a),
                  trace_text(&s[way].trace, b, sizeof b));
        session_end(&s[way]);
    }
    session_end(&s[0]);
}

Test(ws_loopback, random_peers_are_understood_alike_however_they_are_cut)
{
    for (uint32_t round = 1; round <= 2000; round++) {
        struct bytes wire = { 0 }, unused = { 0 };
        seed = round * 2246822519u;
        bool client = pick(2);
        for (uint32_t n = pick(6); n-- > 0;) add_message(&wire, &unused, !client);
        for (uint32_t n = pick(3); n-- > 0 && wire.n;) wire.p[pick((uint32_t)wire.n)] ^= (uint8_t)(1 << pick(8));
        expect_same(&wire, client);
        bytes_free(&wire);
        bytes_free(&unused);
    }
}

Test(ws_loopback, garbage_is_refused_alike_however_it_is_cut)
{
    for (uint32_t round = 1; round <= 5000; round++) {
        struct bytes wire = { 0 };
        seed = round * 3266489917u;
        bool client = pick(2);
        for (uint32_t n = pick(60); n-- > 0;) {
            static const uint8_t likely[8] = { 0x81, 0x01, 0x80, 0x00, 0x89, 0x88, 0x85, 0x83 };
            bytes_put(&wire, pick(2) ? pick(256) : likely[pick(8)]);
        }
        expect_same(&wire, client);
        bytes_free(&wire);
    }
}

/* What a peer sends in valid frames is reported, whole and in order. */
Test(ws_loopback, random_fragments_are_joined_to_what_was_sent)
{
    for (uint32_t round = 1; round <= 1500; round++) {
        struct bytes wire = { 0 }, want = { 0 };
        struct session s;
        seed = round * 668265263u;
        bool client = pick(2);
        for (uint32_t m = 1 + pick(4); m-- > 0;) add_message(&wire, &want, !client);
        play(&s, &wire, client, wire.n > 3000 ? 2 : (int)pick(3));
        cr_assert(bytes_same(&s.trace, &want), "round %u", (unsigned)round);
        session_end(&s);
        bytes_free(&wire);
        bytes_free(&want);
    }
}
