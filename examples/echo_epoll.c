/* The same on epoll (Linux): cc -I. examples/echo_epoll.c ws.c ws_handshake.c http.c utf8.c sha1.c base64.c
 * Usage: echo_epoll [PORT]; port 0 takes any and prints it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "echo.h"

struct node { struct peer peer; int fd; struct node *next, *prev; };

static struct node all = { .next = &all, .prev = &all };
static int set;

static int listen_on(uint16_t port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, n) || listen(fd, 100) || getsockname(fd, (struct sockaddr *)&a, &n)) {
        perror("listen");
        exit(1);
    }
    printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static void watch(int fd, struct node *n)
{
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = n };
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &e);
}

static void welcome(int fd)
{
    if (fd < 0) return;
    struct node *n = calloc(1, sizeof *n);
    if (!n) abort();
    n->fd = fd;
    n->next = all.next;
    n->prev = &all;
    all.next = n->next->prev = n;
    watch(fd, n);
}

static void farewell(struct node *n)
{
    n->next->prev = n->prev;
    n->prev->next = n->next;
    close(n->fd);
    free(n->peer.buf);
    free(n);
}

/* What the turn produced is sent; a peer that does not take it is dropped. */
static void flush(struct node *n, bool more)
{
    size_t len = out.len;
    out.len = 0;
    if (len && send(n->fd, out.p, len, MSG_NOSIGNAL) != (ssize_t)len) more = false;
    if (!more) farewell(n);
}

static void serve(struct node *n, int64_t now)
{
    size_t room;
    uint8_t *to = peer_room(&n->peer, &room);
    ssize_t got = recv(n->fd, to, room, 0);
    flush(n, got > 0 && peer_received(&n->peer, (size_t)got, now));
}

int main(int argc, char **argv)
{
    int door = listen_on(argc > 1 ? (uint16_t)atoi(argv[1]) : 9001);
    int64_t ticked = 0;
    set = epoll_create1(0);
    watch(door, &all);
    for (;;) {
        struct epoll_event ready[64];
        int n = epoll_wait(set, ready, 64, 1000);
        int64_t now = clock_ms();
        for (int i = 0; i < n; i++) {
            if (ready[i].data.ptr != &all) serve(ready[i].data.ptr, now);
            else welcome(accept4(door, NULL, NULL, SOCK_NONBLOCK));
        }
        if (now - ticked < 1000) continue;
        ticked = now;
        for (struct node *p = all.next, *next; p != &all; p = next) {
            next = p->next;
            flush(p, peer_tick(&p->peer, now));
        }
    }
}
