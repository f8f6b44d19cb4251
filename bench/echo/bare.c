/* The limit that echo servers are measured against: poll(), recv(), send() of
 * the same bytes as a WebSocket echo, and no protocol at all. It counts bytes;
 * for each frame's worth it sends a canned frame.
 *
 *     bare PORT PAYLOAD_BYTES binary|text */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ws.h"

#define IN   524288
#define MANY 262144            /* bytes of canned frames that are sent at once */

struct peer {
    size_t got;                /* bytes of the frame that is coming in */
    size_t owed, sent;         /* frames to send, bytes of the first that are sent */
    bool   open;               /* the handshake is over */
};

static uint8_t in[IN];
static uint8_t *canned;        /* [copies * out_frame] */
static size_t in_frame, out_frame, copies;

static const char accepted[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static void prepare(size_t payload, enum ws_op op)
{
    uint8_t head[10];
    size_t n = ws_head(head, op, payload);
    out_frame = n + payload;
    in_frame = out_frame + 4;
    copies = out_frame < MANY ? MANY / out_frame : 1;
    canned = malloc(copies * out_frame);
    if (!canned) exit(71);
    for (size_t i = 0; i < copies; i++) {
        memcpy(canned + i * out_frame, head, n);
        memset(canned + i * out_frame + n, 'x', payload);
    }
}

static int listen_on(unsigned port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 511)) {
        perror("bare");
        exit(69);
    }
    return fd;
}

/* Send what is owed; false when the peer is gone. */
static bool pay(int fd, struct peer *p)
{
    while (p->owed) {
        size_t want = p->owed * out_frame - p->sent, most = copies * out_frame - p->sent;
        if (want > most) want = most;
        ssize_t n = send(fd, canned + p->sent, want, MSG_NOSIGNAL);
        if (n < 0) return true;
        p->owed -= (p->sent + (size_t)n) / out_frame;
        p->sent = (p->sent + (size_t)n) % out_frame;
        if ((size_t)n < want) break;
    }
    return true;
}

static bool serve(int fd, struct peer *p)
{
    ssize_t n = recv(fd, in, IN, 0);
    if (n <= 0) return false;
    if (!p->open) {
        if (n < 4 || memcmp(in + n - 4, "\r\n\r\n", 4)) return false;
        p->open = true;
        return send(fd, accepted, sizeof accepted - 1, MSG_NOSIGNAL) > 0;
    }
    p->got += (size_t)n;
    p->owed += p->got / in_frame;
    p->got %= in_frame;
    return pay(fd, p);
}

int main(int argc, char **argv)
{
    if (argc < 4) return 64;
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
    prepare(strtoul(argv[2], NULL, 10), strcmp(argv[3], "binary") ? WS_TEXT : WS_BINARY);
    static struct pollfd fds[20000];
    static struct peer peers[20000];
    size_t n = 1;
    fds[0] = (struct pollfd){ .fd = listen_on((unsigned)atoi(argv[1])), .events = POLLIN };
    for (;;) {
        poll(fds, n, -1);
        for (size_t i = 1; i < n; i++) {
            if (!fds[i].revents) continue;
            bool ok = fds[i].revents & POLLOUT ? pay(fds[i].fd, &peers[i]) : true;
            if (ok && fds[i].revents & ~POLLOUT) ok = serve(fds[i].fd, &peers[i]);
            fds[i].events = (short)(POLLIN | (peers[i].owed ? POLLOUT : 0));
            if (ok) continue;
            close(fds[i].fd);
            n--;
            fds[i] = fds[n];
            peers[i] = peers[n];
            i--;
        }
        int fd;
        while (fds[0].revents && n < 20000 && (fd = accept4(fds[0].fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
            fds[n] = (struct pollfd){ .fd = fd, .events = POLLIN };
            peers[n++] = (struct peer){ 0 };
        }
    }
}
