/* An echo server on poll(): cc -I. examples/echo_poll.c ws.c ws_handshake.c http.c utf8.c sha1.c base64.c
 * Usage: echo_poll [PORT]; port 0 takes any and prints it. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "echo.h"

enum { MAX_PEERS = 1000 };

static struct pollfd fds[1 + MAX_PEERS];      /* fds[0] listens */
static struct peer  *peers[1 + MAX_PEERS];
static unsigned      count = 1;

static int listen_on(uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, n) || listen(fd, 100) || getsockname(fd, (struct sockaddr *)&a, &n)) {
        perror("listen");
        exit(1);
    }
    printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static void welcome(int fd)
{
    if (fd < 0) return;
    if (count > MAX_PEERS) { close(fd); return; }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    peers[count] = calloc(1, sizeof **peers);
    if (!peers[count]) abort();
    fds[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

static void farewell(unsigned i)
{
    close(fds[i].fd);
    free(peers[i]->buf);
    free(peers[i]);
    fds[i] = fds[--count];
    peers[i] = peers[count];
}

/* One peer's turn. false: it is over; a peer that does not take its answers is dropped. */
static bool serve(unsigned i, int64_t now)
{
    struct peer *p = peers[i];
    size_t room;
    bool more = true;
    if (fds[i].revents) {
        uint8_t *to = peer_room(p, &room);
        ssize_t n = recv(fds[i].fd, to, room, 0);
        if (n <= 0) return false;
        more = peer_received(p, (size_t)n, now);
    }
    more = more && peer_tick(p, now);
    size_t len = out.len;
    out.len = 0;
    return !len || (send(fds[i].fd, out.p, len, MSG_NOSIGNAL) == (ssize_t)len && more);
}

int main(int argc, char **argv)
{
    fds[0] = (struct pollfd){ .fd = listen_on(argc > 1 ? (uint16_t)atoi(argv[1]) : 9001), .events = POLLIN };
    for (;;) {
        poll(fds, count, 1000);
        int64_t now = clock_ms();
        for (unsigned i = count; i-- > 1;) {
            if (!serve(i, now)) farewell(i);
        }
        if (fds[0].revents) welcome(accept(fds[0].fd, NULL, NULL));
    }
}
