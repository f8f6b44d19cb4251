/* Random sessions of our client role against an echo server of other people.
 * Usage: client PORT FIRST_SEED SESSIONS. Exit status 0: every message came
 * back as it was sent, in order, and every close was answered as it must be. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ws.h"

enum { ROOM = 2 << 20, MOST = 400000, WINDOW = 4 };

struct sent { bool text; size_t len; uint32_t seed; };

static const struct ws_config config = { MOST, 0, 0, 10000, 0, false };
static uint8_t buf[ROOM], out_bytes[ROOM], payload[MOST];
static struct ws_out out = { out_bytes, 0, ROOM };
static struct ws_masks masks = { "interop, no more", 0, { 0 }, 0 };
static uint32_t seed, session;
static int fd;

static void die(const char *why)
{
    fprintf(stderr, "session %u: %s\n", (unsigned)session, why);
    exit(1);
}

static uint32_t pick(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % n;
}

/* The message that a seed stands for, into payload. */
static void make(const struct sent *m)
{
    static const char *const chars[] = { "a", "é", "€", "😀", "0" };
    uint32_t saved = seed;
    seed = m->seed;
    for (size_t n = 0; n < m->len;) {
        const char *c = chars[pick(5)];
        size_t size = strlen(c);
        if (!m->text)               payload[n++] = (uint8_t)pick(256);
        else if (size <= m->len - n) { memcpy(payload + n, c, size); n += size; }
        else                        payload[n++] = 'x';
    }
    seed = saved;
}

static void flush(void)
{
    for (size_t at = 0; at < out.len;) {
        ssize_t n = send(fd, out.p + at, out.len - at, MSG_NOSIGNAL);
        if (n < 0) die("cannot send");
        at += (size_t)n;
    }
    out.len = 0;
}

/* Some bytes, few at a time now and then. */
static size_t receive(size_t kept)
{
    size_t room = pick(4) ? ROOM - kept : 1 + pick(50);
    ssize_t n = recv(fd, buf + kept, room, 0);
    if (n < 0) die("cannot receive");
    return (size_t)n;
}

static size_t shake_hands(const char *port)
{
    uint8_t nonce[16];
    char authority[40];
    struct http_scan scan = { 0, 0 };
    struct http_head h;
    const char *why;
    size_t have = 0;
    for (int i = 0; i < 16; i++) nonce[i] = (uint8_t)pick(256);
    snprintf(authority, sizeof authority, "127.0.0.1:%s", port);
    out.len = ws_request((char *)out.p, out.cap, authority, "/", nonce, "");
    flush();
    for (int status = 0; status != 200;) {
        size_t n = receive(have);
        have += n;
        status = http_scan(&scan, (char *)buf, have);
        if (!n || status >= 400) die("no answer");
    }
    if (http_response(&h, (char *)buf, have) != 200) die("bad answer");
    if (ws_check_response(&h, nonce, &why) != 101) die(why);
    memmove(buf, buf + h.size, have - h.size);
    return have - h.size;
}

static void dial(const char *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int on = 1;
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a)) die("cannot connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static struct sent send_one(struct ws *ws)
{
    static const size_t sizes[] = { 0, 1, 5, 125, 126, 127, 300, 4096, 65535, 65536, 65537, 300000 };
    struct sent m = { pick(2), pick(10) ? pick(200) : sizes[pick(12)], pick(1u << 30) + 1 };
    make(&m);
    if (!pick(4)) ws_send(ws, WS_PING, payload, m.len < 125 ? m.len : 125);
    if (ws_send(ws, m.text ? WS_TEXT : WS_BINARY, payload, m.len)) die("cannot queue");
    flush();
    return m;
}

static void check_echo(enum ws_ev e, const struct ws_event *ev, const struct sent *m)
{
    make(m);
    if ((e == WS_EV_TEXT) != m->text || ev->len != m->len) die("another message came back");
    if (m->len && memcmp(ev->data, payload, m->len)) die("other bytes came back");
}

static void run(const char *port)
{
    static const uint16_t codes[] = { 1000, 1001, 3000, 4999 };
    struct ws ws;
    struct ws_event ev;
    enum ws_ev e = WS_EV_NONE;
    struct sent window[WINDOW];
    unsigned sent = 0, back = 0, total = pick(12);
    uint16_t code = codes[pick(4)];
    dial(port);
    size_t n = shake_hands(port), kept = 0;
    ws_init(&ws, WS_CLIENT, &config, &out, &masks, 0);
    for (bool closing = false; e != WS_EV_CLOSED;) {
        while (sent < total && sent - back < WINDOW) { window[sent % WINDOW] = send_one(&ws); sent++; }
        if (back == total && !closing) closing = ws_close(&ws, code, "bye", 0) == 0;
        flush();
        if (!n && !(n = receive(kept))) ws_eof(&ws);
        ws_received(&ws, buf, kept + n, 0);
        n = 0;
        while ((e = ws_next(&ws, &ev)) != WS_EV_NONE && e != WS_EV_CLOSED) {
            if (back == sent) die("a message that was not sent");
            check_echo(e, &ev, &window[back++ % WINDOW]);
        }
        if (e == WS_EV_CLOSED) break;
        uint8_t *rest = ws_keep(&ws, &kept);
        if (kept) memmove(buf, rest, kept);
    }
    if (ev.code != code || ev.by_peer || back != total) die("closed otherwise");
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc != 4) return 64;
    uint32_t first = (uint32_t)atoi(argv[2]), count = (uint32_t)atoi(argv[3]);
    for (session = first; session < first + count; session++) {
        seed = session * 2654435761u + 1;
        run(argv[1]);
    }
    return 0;
}
