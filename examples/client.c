/* A client: cc -I. examples/client.c ws.c ws_handshake.c http.c utf8.c sha1.c base64.c
 * Usage: client HOST PORT [PATH [TEXT...]]. Sends each text, prints the answer
 * to each, closes. Exit status 0: all answered, and closed by both sides. */
#define _GNU_SOURCE
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "ws.h"

enum { ROOM = 1 << 20 };

static const struct ws_config config = { ROOM / 2, 0, 0, 10000, 0, false };
static uint8_t buf[ROOM], out_bytes[ROOM];
static struct ws_out out = { out_bytes, 0, ROOM };
static struct ws_masks masks;
static int fd = -1;

static void die(const char *why)
{
    fprintf(stderr, "client: %s\n", why);
    exit(1);
}

static void dial(const char *host, const char *port)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all;
    if (getaddrinfo(host, port, &hints, &all)) die("no such host");
    for (struct addrinfo *a = all; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
        if (connect(fd, a->ai_addr, a->ai_addrlen)) { close(fd); fd = -1; }
    }
    freeaddrinfo(all);
    if (fd < 0) die("cannot connect");
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

static size_t receive(size_t kept)
{
    ssize_t n = recv(fd, buf + kept, ROOM - kept, 0);
    if (n < 0) die("cannot receive");
    return (size_t)n;
}

/* Ask, and read the answer; returns how many bytes of buf are frames already. */
static size_t shake_hands(const char *host, const char *port, const char *path)
{
    uint8_t nonce[16];
    char authority[300];
    struct http_scan scan = { 0 };
    struct http_head h;
    const char *why;
    size_t have = 0;
    snprintf(authority, sizeof authority, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    if (getrandom(nonce, sizeof nonce, 0) != sizeof nonce) die("no randomness");
    out.len = ws_request((char *)out.p, out.cap, authority, path, nonce, "");
    flush();
    for (int status = 0; status != 200;) {
        size_t n = receive(have);
        have += n;
        status = http_scan(&scan, (char *)buf, have);
        if (!n || status >= 400) die("no answer");
    }
    if (http_response(&h, (char *)buf, have) != 200) die("bad answer");
    if (ws_check_response(&h, nonce, &why) != 101) die(why);
    if (http_find(&h, "Sec-WebSocket-Protocol")) die("subprotocol that was not offered");
    memmove(buf, buf + h.size, have - h.size);
    return have - h.size;
}

int main(int argc, char **argv)
{
    struct ws ws;
    struct ws_event ev;
    enum ws_ev e;
    if (argc < 3) die("want HOST PORT [PATH [TEXT...]]");
    dial(argv[1], argv[2]);
    size_t n = shake_hands(argv[1], argv[2], argc > 3 ? argv[3] : "/"), kept = 0;
    int answers = argc > 4 ? argc - 4 : 0;
    if (getrandom(masks.seed, sizeof masks.seed, 0) != sizeof masks.seed) die("no randomness");
    ws_init(&ws, WS_CLIENT, &config, &out, &masks, 0);
    for (int i = 4; i < argc; i++) {
        if (ws_send(&ws, WS_TEXT, argv[i], strlen(argv[i]))) die("text too long");
    }
    if (!answers) ws_close(&ws, 1000, "", 0);
    for (;;) {
        flush();
        if (!n && !(n = receive(kept))) ws_eof(&ws);
        ws_received(&ws, buf, kept + n, 0);
        n = 0;
        while ((e = ws_next(&ws, &ev)) != WS_EV_NONE && e != WS_EV_CLOSED) {
            if (e == WS_EV_FULL) { flush(); continue; }
            printf("%.*s\n", (int)ev.len, (char *)ev.data);
            if (!--answers) ws_close(&ws, 1000, "", 0);
        }
        if (e == WS_EV_CLOSED) break;
        uint8_t *rest = ws_keep(&ws, &kept);
        if (kept) memmove(buf, rest, kept);
    }
    flush();
    close(fd);
    return ev.code == 1000 && answers == 0 ? 0 : 1;
}
