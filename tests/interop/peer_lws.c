/* Other people's stack: libwebsockets, as an echo server and as a client.
 *
 *   peer_lws server              prints its port, echoes in fragments of 1000 bytes
 *   peer_lws client PORT SEED N  N random sessions with an echo server */
#include <libwebsockets.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 400000, CHUNK = 1000 };

static uint32_t seed;
static const char *failure;
static bool over;

static uint32_t pick(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % n;
}

/* A message being received or sent back. */
struct echo { bool text, whole; size_t len, sent; char *p; };

static int write_piece(struct lws *wsi, struct echo *m, size_t piece)
{
    size_t n = m->len - m->sent < piece ? m->len - m->sent : piece;
    bool first = !m->sent, last = m->sent + n == m->len;
    int how = first ? (m->text ? LWS_WRITE_TEXT : LWS_WRITE_BINARY) : LWS_WRITE_CONTINUATION;
    unsigned char *out = malloc(LWS_PRE + n + 1);
    if (n) memcpy(out + LWS_PRE, m->p + m->sent, n);
    int r = lws_write(wsi, out + LWS_PRE, n, (enum lws_write_protocol)(how | (last ? 0 : LWS_WRITE_NO_FIN)));
    free(out);
    m->sent += n;
    if (r < 0) return -1;
    if (!last) return lws_callback_on_writable(wsi) < 0;
    m->whole = false;
    m->len = m->sent = 0;
    return 0;
}

static int serve(struct lws *wsi, enum lws_callback_reasons why, void *user, void *in, size_t len)
{
    struct echo *m = user;
    switch (why) {
    case LWS_CALLBACK_ESTABLISHED: memset(m, 0, sizeof *m); m->p = malloc(MOST); break;
    case LWS_CALLBACK_CLOSED:      free(m->p); break;
    case LWS_CALLBACK_RECEIVE:
        if (lws_is_first_fragment(wsi)) { m->text = !lws_frame_is_binary(wsi); m->len = 0; }
        if (m->len + len > MOST) return -1;
        if (len) memcpy(m->p + m->len, in, len);
        m->len += len;
        if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi)) break;
        m->whole = true;
        lws_rx_flow_control(wsi, 0);       /* one message at a time */
        lws_callback_on_writable(wsi);
        break;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        if (!m->whole) break;
        if (write_piece(wsi, m, CHUNK)) return -1;
        if (!m->whole) lws_rx_flow_control(wsi, 1);
        break;
    default: break;
    }
    return 0;
}

/* One message after another; each must come back. */
static struct { struct echo m; size_t back; uint32_t left; char *got; unsigned code; bool waits; } c;

static void next_message(void)
{
    static const size_t sizes[] = { 0, 1, 5, 125, 126, 127, 300, 4096, 65535, 65536, 65537, 300000 };
    static const char *const chars[] = { "a", "é", "€", "😀", "0" };
    c.m.text = pick(2);
    c.m.len = pick(10) ? pick(200) : sizes[pick(12)];
    for (size_t n = 0; n < c.m.len;) {
        const char *s = chars[pick(5)];
        size_t size = strlen(s);
        if (!c.m.text)                size = 1, c.m.p[n] = (char)pick(256);
        else if (size <= c.m.len - n) memcpy(c.m.p + n, s, size);
        else                          size = 1, c.m.p[n] = 'x';
        n += size;
    }
    c.m.whole = true;
    c.m.sent = c.back = 0;
}

static int ask(struct lws *wsi, enum lws_callback_reasons why, void *user, void *in, size_t len)
{
    static size_t expected;
    (void)user;
    switch (why) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED: lws_callback_on_writable(wsi); break;
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        if (c.m.whole) return write_piece(wsi, &c.m, 1 + pick(CHUNK * 20)) ? -1 : 0;
        if (c.waits) break;
        if (!c.left) {
            lws_close_reason(wsi, (enum lws_close_status)c.code, (unsigned char *)"bye", 3);
            return -1;
        }
        c.left--;
        next_message();
        expected = c.m.len;
        c.waits = true;
        return write_piece(wsi, &c.m, 1 + pick(CHUNK * 20)) ? -1 : 0;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        if (c.back + len > expected || memcmp(c.m.p + c.back, in, len) ||
            lws_frame_is_binary(wsi) == c.m.text) { failure = "another message came back"; return -1; }
        c.back += len;
        if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi)) break;
        if (c.back != expected) { failure = "less came back"; return -1; }
        c.waits = false;
        lws_callback_on_writable(wsi);
        break;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        if (len < 2 || memcmp(in, (unsigned char[]){ (unsigned char)(c.code >> 8), (unsigned char)c.code }, 2))
            failure = "closed with another code";
        break;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR: failure = in ? in : "refused"; over = true; break;
    case LWS_CALLBACK_CLIENT_CLOSED: over = true; break;
    default: break;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const unsigned codes[] = { 1000, 1001, 3000, 4999 };
    bool client = argc == 5 && !strcmp(argv[1], "client");
    struct lws_protocols protocols[] = {
        { "echo", client ? ask : serve, client ? 0 : sizeof(struct echo), 4096, 0, NULL, 0 },
        { NULL, NULL, 0, 0, 0, NULL, 0 } };
    struct lws_context_creation_info info = { .port = client ? CONTEXT_PORT_NO_LISTEN : 0,
                                              .iface = client ? NULL : "lo", .protocols = protocols };
    lws_set_log_level(0, NULL);
    struct lws_context *context = lws_create_context(&info);
    if (!context) return 1;
    if (!client) {
        printf("%d\n", lws_get_vhost_listen_port(lws_get_vhost_by_name(context, "default")));
        fflush(stdout);
        for (;;) lws_service(context, 1000);
    }
    c.m.p = malloc(MOST);
    uint32_t first = (uint32_t)atoi(argv[3]), n = (uint32_t)atoi(argv[4]);
    for (uint32_t session = first; session < first + n && !failure; session++) {
        struct lws_client_connect_info i = { .context = context, .address = "127.0.0.1", .port = atoi(argv[2]),
                                             .path = "/", .host = "127.0.0.1", .local_protocol_name = "echo" };
        seed = session * 2654435761u + 1;
        c.left = pick(12);
        c.code = codes[pick(4)];
        c.waits = c.m.whole = over = false;
        if (!lws_client_connect_via_info(&i)) failure = "cannot connect";
        while (!over && !failure) lws_service(context, 1000);
        if (failure) fprintf(stderr, "session %u: %s\n", (unsigned)session, failure);
    }
    return failure != NULL;
}
