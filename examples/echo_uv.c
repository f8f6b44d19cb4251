/* The same in somebody else's loop, libuv:
 * cc -I. examples/echo_uv.c ws.c ws_handshake.c http.c utf8.c sha1.c base64.c -luv
 * Usage: echo_uv [PORT]; port 0 takes any and prints it. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <uv.h>

#include "echo.h"

struct node { uv_tcp_t tcp; uv_timer_t timer; struct peer peer; int handles; };

static void released(uv_handle_t *h)
{
    struct node *n = h->data;
    if (--n->handles) return;
    free(n->peer.buf);
    free(n);
}

static void farewell(struct node *n)
{
    if (uv_is_closing((uv_handle_t *)&n->tcp)) return;
    uv_close((uv_handle_t *)&n->tcp, released);
    uv_close((uv_handle_t *)&n->timer, released);
}

/* What the turn produced is sent; a peer that does not take it is dropped. */
static void flush(struct node *n, bool more)
{
    uv_buf_t b = uv_buf_init((char *)out.p, (unsigned)out.len);
    size_t len = out.len;
    out.len = 0;
    if (len && uv_try_write((uv_stream_t *)&n->tcp, &b, 1) != (int)len) more = false;
    if (!more) farewell(n);
}

static void room(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
    size_t n;
    uint8_t *p = peer_room(&((struct node *)h->data)->peer, &n);
    (void)hint;
    *b = uv_buf_init((char *)p, (unsigned)n);
}

static void received(uv_stream_t *s, ssize_t got, const uv_buf_t *b)
{
    struct node *n = s->data;
    (void)b;
    if (got < 0) farewell(n);
    else if (got > 0) flush(n, peer_received(&n->peer, (size_t)got, clock_ms()));
}

static void tick(uv_timer_t *t)
{
    struct node *n = t->data;
    flush(n, peer_tick(&n->peer, clock_ms()));
}

static void welcome(uv_stream_t *door, int status)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n) abort();
    n->handles = 2;
    n->tcp.data = n->timer.data = n;
    uv_tcp_init(door->loop, &n->tcp);
    uv_timer_init(door->loop, &n->timer);
    if (status < 0 || uv_accept(door, (uv_stream_t *)&n->tcp)) { farewell(n); return; }
    uv_read_start((uv_stream_t *)&n->tcp, room, received);
    uv_timer_start(&n->timer, tick, 1000, 1000);
}

int main(int argc, char **argv)
{
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t door;
    struct sockaddr_in a;
    int n = sizeof a;
    uv_ip4_addr("127.0.0.1", argc > 1 ? atoi(argv[1]) : 9001, &a);
    uv_tcp_init(loop, &door);
    if (uv_tcp_bind(&door, (struct sockaddr *)&a, 0) || uv_listen((uv_stream_t *)&door, 100, welcome)) {
        fprintf(stderr, "cannot listen\n");
        return 1;
    }
    uv_tcp_getsockname(&door, (struct sockaddr *)&a, &n);
    printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
