// uses: servers/conn.c servers/conn_http.c servers/conn_out.c servers/conn_pool.c servers/server.c servers/net.c servers/loop.c servers/loop_poll.c servers/loop_epoll.c ws.c ws_handshake.c http.c sha1.c base64.c utf8.c number.c
/* Every row of ws_rows.h and handshake_rows.h over sockets, at several sizes of
 * pieces: an echo server must send exactly the frames that the rows tell of, and
 * end TCP itself, without a reset, after a refusal, a fault or a close. */
#include "conn_rig.h"
#include "handshake_rows.h"
#include "test.h"
#include "ws_rows.h"

static void rows_begin(struct rig *r, const struct server_ops *ops)
{
    rig_open(r, ops);
    r->server.handshake_timeout_ms = 60000;
    r->server.ws = (struct ws_config){ .max_message = 1 << 20, .close_timeout_ms = 60000 };
}

static void put_server_frame(struct bytes *b, unsigned op, const uint8_t *p, size_t n)
{
    wire_frame(b, 0x80 | op, false, 0, n, p, n);
}

/* The frames that a server sends for an expectation; reasons of its own closes
 * are left out, and cut off from what it sent. true: it then ends TCP. */
static bool frames_of(struct bytes *out, const char *expect)
{
    struct bytes trace = { 0 };
    bool ends = false;
    trace_build(&trace, expect);
    for (size_t i = 0; i + 5 <= trace.n; ) {
        uint32_t n;
        memcpy(&n, trace.p + i + 1, 4);
        const uint8_t *p = trace.p + i + 5;
        unsigned code = n >= 2 ? (unsigned)p[0] << 8 | p[1] : 0;
        switch (trace.p[i]) {
        case 'T': put_server_frame(out, 1, p, n); break;
        case 'B': put_server_frame(out, 2, p, n); break;
        case 'O': put_server_frame(out, 10, p, n); break;
        default:
            ends = true;
            if (trace.p[i] == 'x' || code == 1006) break;
            put_server_frame(out, 8, p, n < 2 || code == 1005 ? 0 : 2);
        }
        i += 5 + n;
    }
    bytes_free(&trace);
    return ends;
}

/* Cut the reason off the close frame at the end of what came. */
static void cut_reason(struct rig *r)
{
    for (size_t i = 0; i + 2 <= r->n; ) {
        const uint8_t *p = (const uint8_t *)r->got + i;
        size_t n = p[1], head = 2;
        if (n == 126) { n = (size_t)p[2] << 8 | p[3]; head = 4; }
        else if (n == 127) { n = (size_t)p[6] << 24 | (size_t)p[7] << 16 | (size_t)p[8] << 8 | p[9]; head = 10; }
        if (p[0] == 0x88 && n > 2) {
            r->got[i + 1] = 2;
            r->n = i + 4;
        }
        i += head + n;
    }
}

static void check_row(struct rig *r, const struct ws_table *t, const struct ws_row *row, size_t piece)
{
    struct bytes wire = { 0 }, want = { 0 };
    bool fin = wire_build(&wire, row->wire, true), ends = frames_of(&want, row->expect);
    int fd = rig_upgrade(r);
    uint32_t i = 0;
    if (t->closing) {
        conn_close(rig_each(&r->server, &i), 1000, "");
        rig_await(r, fd, 4);
        rig_drop(r, 4);
    }
    rig_send_pieces(r, fd, (char *)wire.p, wire.n, piece);
    if (fin) shutdown(fd, SHUT_WR);
    for (int k = 0; k < 500 && (r->n < want.n || (ends && !r->ended)); k++) {
        loop_turn(r->loop, 1);
        rig_read_now(r, fd);
    }
    for (int k = 0; k < 2; k++) loop_turn(r->loop, 0);
    rig_read_now(r, fd);
    cut_reason(r);
    cr_assert_eq(r->n, want.n, "%s: %s: in pieces of %zu: %zu bytes came, not %zu", t->name,
                 row->name, piece, r->n, want.n);
    cr_assert(!want.n || !memcmp(r->got, want.p, want.n), "%s: %s: in pieces of %zu: other bytes",
              t->name, row->name, piece);
    cr_assert_eq(r->ended, ends, "%s: %s: in pieces of %zu: TCP %s", t->name, row->name, piece,
                 ends ? "was not ended" : "was ended");
    cr_assert(!r->reset, "%s: %s: in pieces of %zu: reset", t->name, row->name, piece);
    close(fd);
    for (int k = 0; k < 300 && r->server.n.active; k++) loop_turn(r->loop, 1);
    cr_assert_eq(r->server.n.active, 0, "%s: %s: still there", t->name, row->name);
    bytes_free(&wire);
    bytes_free(&want);
}

static void check_table(const char *name)
{
    unsigned rows = 0;
    for (unsigned k = 0; k < WS_TABLES; k++) {
        const struct ws_table *t = &ws_tables[k];
        if (t->client || strcmp(t->name, name)) continue;
        struct rig r;
        rows_begin(&r, &rig_echo);
        r.server.ws.max_message = t->max_message;
        r.server.ws.text_only = t->text_only;
        for (unsigned i = 0; i < t->n; i++, rows++) {
            struct bytes wire = { 0 };
            wire_build(&wire, t->row[i].wire, true);
            size_t n = wire.n;
            bytes_free(&wire);
            check_row(&r, t, &t->row[i], n ? n : 1);
            check_row(&r, t, &t->row[i], n / 2 + 1);
            check_row(&r, t, &t->row[i], n < 150 ? 1 : n / 20 + 1);
        }
        rig_close(&r);
    }
    cr_assert(rows > 0, "no table %s", name);
}

Test(echo_rows, framing_over_a_socket)   { check_table("framing"); }
Test(echo_rows, fragments_over_a_socket) { check_table("fragments"); }
Test(echo_rows, control_over_a_socket)   { check_table("control"); }
Test(echo_rows, close_over_a_socket)     { check_table("close"); }
Test(echo_rows, utf8_over_a_socket)      { check_table("utf8"); }
Test(echo_rows, limit_over_a_socket)     { check_table("limit"); }
Test(echo_rows, nothing_over_a_socket)   { check_table("nothing"); }
Test(echo_rows, text_only_over_a_socket) { check_table("text_only"); }
Test(echo_rows, closing_over_a_socket)   { check_table("closing"); }

/* Handshakes: the engine's own verdict, so every request is taken for an upgrade. */

static void upgrade_all(struct conn *c, const struct http_head *h)
{
    conn_upgrade(c, h, (struct slice){ "", 0 }, NULL);
}

static const struct server_ops upgrading = { .request = upgrade_all, .message = rig_echo_message };

static void check_handshake(struct rig *r, const struct handshake_row *row, size_t piece)
{
    static char head[130000];
    char want[32];
    size_t n = handshake_bytes(row, head);
    int fd = rig_dial(r);
    if (!piece) piece = n ? n : 1;
    snprintf(want, sizeof want, "HTTP/1.1 %d ", row->status);
    for (size_t at = 0; at < n && !r->n; at += piece) {
        if (send(fd, head + at, n - at < piece ? n - at : piece, MSG_NOSIGNAL) < 0) break;
        loop_turn(r->loop, 0);
        rig_read_now(r, fd);
    }
    bool ends = row->status && row->status != 101;
    for (int k = 0; k < 300 && ((row->status && !r->n) || (ends && !r->ended)); k++) {
        loop_turn(r->loop, 1);
        rig_read_now(r, fd);
    }
    if (row->status) cr_assert(rig_begins(r, want), "%s: in pieces of %zu: %.60s", row->name, piece, r->got);
    else             cr_assert_eq(r->n, 0, "%s: in pieces of %zu: %.60s", row->name, piece, r->got);
    cr_assert_eq(r->ended, ends, "%s: in pieces of %zu", row->name, piece);
    cr_assert(!r->reset, "%s: in pieces of %zu: reset", row->name, piece);
    close(fd);
    for (int k = 0; k < 300 && r->server.n.active; k++) loop_turn(r->loop, 1);
}

Test(echo_rows, handshakes_over_a_socket)
{
    struct rig r;
    rows_begin(&r, &upgrading);
    for (unsigned i = 0; i < HANDSHAKE_ROWS; i++) {
        check_handshake(&r, &handshake_rows[i], 0);
        check_handshake(&r, &handshake_rows[i], handshake_rows[i].len < 400 && !handshake_rows[i].pad ? 1 : 999);
        check_handshake(&r, &handshake_rows[i], 101);
    }
    rig_close(&r);
}
