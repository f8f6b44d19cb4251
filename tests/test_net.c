// uses: servers/net.c
/* Addresses as text and back, and sockets that listen, on loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "servers/net.h"
#include "test.h"

static const struct { const char *text, *canonical; bool ok, loopback; } addresses[] = {
    { "127.0.0.1",        "127.0.0.1",        true,  true },
    { "127.255.0.3",      "127.255.0.3",      true,  true },
    { "::1",              "::1",              true,  true },
    { "[::1]",            "::1",              true,  true },
    { "::ffff:127.0.0.1", "127.0.0.1",        true,  true },
    { "0.0.0.0",          "0.0.0.0",          true,  false },
    { "::",               "::",               true,  false },
    { "192.168.1.20",     "192.168.1.20",     true,  false },
    { "128.0.0.1",        "128.0.0.1",        true,  false },
    { "FE80::1",          "fe80::1",          true,  false },
    { "2001:db8:0:0:0:0:0:1", "2001:db8::1",  true,  false },
    { "::2",              "::2",              true,  false },
    { "",                 "",                 false, false },
    { "localhost",        "",                 false, false },
    { "127.0.0.1:80",     "",                 false, false },
    { "127.0.0",          "",                 false, false },
    { "127.0.0.256",      "",                 false, false },
    { "[127.0.0.1]",      "",                 false, false },
    { "[::1",             "",                 false, false },
    { "::1]",             "",                 false, false },
    { "[]",               "",                 false, false },
    { "[",                "",                 false, false },
    { " 127.0.0.1",       "",                 false, false },
    { "example.org",      "",                 false, false },
    { "1111:2222:3333:4444:5555:6666:7777:8888:9999", "", false, false },
    { "0000000000000000000000000000000000000000000000000000000001", "", false, false },
};

Test(net_address, text_is_read_strictly_and_written_in_one_form)
{
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct net_address a;
        char text[NET_TEXT];
        bool ok = net_parse(&a, addresses[i].text, 80);
        cr_assert_eq(ok, addresses[i].ok, "'%s'", addresses[i].text);
        if (!ok) continue;
        cr_assert_str_eq(net_text(text, &a, false), addresses[i].canonical);
        cr_assert_eq(net_is_loopback(&a), addresses[i].loopback, "'%s'", addresses[i].text);
    }
}

Test(net_address, port_is_written_behind_brackets_for_ipv6)
{
    struct net_address a;
    char text[NET_TEXT];
    net_parse(&a, "::1", 5000);
    cr_assert_str_eq(net_text(text, &a, true), "[::1]:5000");
    net_parse(&a, "127.0.0.1", 65535);
    cr_assert_str_eq(net_text(text, &a, true), "127.0.0.1:65535");
    net_parse(&a, "1111:2222:3333:4444:5555:6666:7777:8888", 65535);
    cr_assert_str_eq(net_text(text, &a, true), "[1111:2222:3333:4444:5555:6666:7777:8888]:65535");
}

Test(net_address, survives_the_way_through_a_sockaddr)
{
    static const char *const some[] = { "127.0.0.1", "10.1.2.3", "::1", "2001:db8::7", "0.0.0.0", "::" };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        struct net_address a, b;
        struct sockaddr_storage s;
        net_parse(&a, some[i], (uint16_t)(4000 + i));
        socklen_t len = net_to_sockaddr(&a, &s);
        cr_assert_eq(len, strchr(some[i], ':') ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
        net_from_sockaddr(&b, &s);
        cr_assert_arr_eq(&a, &b, sizeof a, "%s", some[i]);
    }
}

static bool has_ipv6(void)
{
    struct net_listeners l;
    bool ok = !net_listen(&l, "::1", 0, 0);
    if (ok) net_close(&l);
    return ok;
}

static int dial(const char *host, unsigned port)
{
    struct net_address a;
    struct sockaddr_storage s;
    net_parse(&a, host, (uint16_t)port);
    socklen_t len = net_to_sockaddr(&a, &s);
    int fd = socket(s.ss_family, SOCK_STREAM, 0);
    if (fd < 0 || !connect(fd, (struct sockaddr *)&s, len)) return fd;
    close(fd);
    return -1;
}

Test(net_listen, localhost_is_both_families_on_one_port)
{
    struct net_listeners l;
    cr_assert_eq(net_listen(&l, "localhost", 0, 0), 0);
    cr_assert_eq(l.n, has_ipv6() ? 2 : 1);
    cr_assert_neq(l.port, 0);
    cr_assert(!l.wide);
    int a = dial("127.0.0.1", l.port), b = has_ipv6() ? dial("::1", l.port) : 0;
    cr_assert(a >= 0 && b >= 0);
    cr_assert(dial("127.0.0.2", l.port) < 0, "only 127.0.0.1 is bound");
    net_close(&l);
    cr_assert_eq(l.n, 0);
}

Test(net_listen, address_is_one_socket)
{
    struct net_listeners l;
    cr_assert_eq(net_listen(&l, "127.0.0.5", 0, 0), 0);
    cr_assert_eq(l.n, 1);
    cr_assert(!l.wide);
    cr_assert(dial("127.0.0.5", l.port) >= 0);
    cr_assert(dial("127.0.0.1", l.port) < 0);
    net_close(&l);
    cr_assert_eq(net_listen(&l, "0.0.0.0", 0, 0), 0);
    cr_assert(l.wide);
    cr_assert(dial("127.0.0.9", l.port) >= 0);
    net_close(&l);
}

Test(net_listen, busy_port_is_told_from_other_faults)
{
    struct net_listeners l, m;
    cr_assert_eq(net_listen(&l, "localhost", 0, 0), 0);
    cr_assert_eq(net_listen(&m, "localhost", l.port, l.port), -1);
    cr_assert_eq(errno, EADDRINUSE);
    cr_assert_eq(net_listen(&m, "localhost", l.port, 0), -1);
    cr_assert_eq(errno, EADDRINUSE);
    cr_assert_eq(net_listen(&m, "somewhere", 0, 0), -1);
    cr_assert_eq(errno, EINVAL);
    cr_assert_eq(net_listen(&m, "localhost", 65536, 65536), -1);
    cr_assert_eq(errno, EINVAL);
    cr_assert_eq(net_listen(&m, "203.0.113.7", 0, 0), -1);
    cr_assert_eq(errno, EADDRNOTAVAIL);
    net_close(&l);
}

Test(net_listen, port_that_one_family_lacks_is_busy_and_nothing_stays_bound)
{
    struct net_listeners l, m;
    if (!has_ipv6()) return;
    cr_assert_eq(net_listen(&l, "::1", 0, 0), 0);
    cr_assert_eq(net_listen(&m, "localhost", l.port, l.port), -1);
    cr_assert_eq(errno, EADDRINUSE);
    cr_assert(dial("127.0.0.1", l.port) < 0, "127.0.0.1 was left bound");
    net_close(&l);
}

/* Two neighbouring free ports, the first of them taken. */
static unsigned take_one(struct net_listeners *l)
{
    struct net_listeners next;
    for (unsigned port = 20000; port < 60000; port += 17) {
        if (net_listen(l, "localhost", port, port)) continue;
        if (!net_listen(&next, "localhost", port + 1, port + 1)) {
            net_close(&next);
            return port;
        }
        net_close(l);
    }
    return 0;
}

Test(net_listen, range_gives_its_first_free_port)
{
    struct net_listeners l, m, n;
    unsigned port = take_one(&l);
    cr_assert_neq(port, 0);
    cr_assert_eq(net_listen(&m, "localhost", port, port + 1), 0);
    cr_assert_eq(m.port, port + 1);
    cr_assert_eq(net_listen(&n, "localhost", port, port + 1), -1);
    cr_assert_eq(errno, EADDRINUSE);
    net_close(&l);
    net_close(&m);
}

Test(net_listen, sockets_do_not_block_and_are_closed_by_exec)
{
    struct net_listeners l;
    net_listen(&l, "localhost", 0, 0);
    for (int i = 0; i < l.n; i++) {
        int one = 0;
        socklen_t len = sizeof one;
        cr_assert(fcntl(l.fd[i], F_GETFL) & O_NONBLOCK);
        cr_assert(fcntl(l.fd[i], F_GETFD) & FD_CLOEXEC);
        getsockopt(l.fd[i], SOL_SOCKET, SO_REUSEADDR, &one, &len);
        cr_assert(one);
    }
    cr_assert_eq(accept(l.fd[0], NULL, NULL), -1);
    cr_assert_eq(errno, EAGAIN);
    net_close(&l);
}

Test(net_listen, accepted_connections_send_small_packets_at_once)
{
    struct net_listeners l;
    net_listen(&l, "127.0.0.1", 0, 0);
    int client = dial("127.0.0.1", l.port), one = 0;
    int fd = accept(l.fd[0], NULL, NULL);
    socklen_t len = sizeof one;
    cr_assert(client >= 0 && fd >= 0);
    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, &len);
    cr_assert(one);
    net_close(&l);
}

Test(net_local, tells_the_address_that_a_connection_reached)
{
    struct net_listeners l;
    struct net_address a;
    char text[NET_TEXT], want[NET_TEXT];
    net_listen(&l, "0.0.0.0", 0, 0);
    int client = dial("127.0.0.77", l.port);
    int fd = accept(l.fd[0], NULL, NULL);
    cr_assert(client >= 0 && net_local(fd, &a));
    snprintf(want, sizeof want, "127.0.0.77:%u", l.port);
    cr_assert_str_eq(net_text(text, &a, true), want);
    cr_assert(!net_local(-1, &a));
    net_close(&l);
}

Test(net_inherit, takes_over_sockets_that_listen_and_no_others)
{
    struct net_listeners l, m = { .n = 0 };
    int pair[2];
    net_listen(&l, "localhost", 0, 0);
    for (int i = 0; i < l.n; i++) {
        fcntl(l.fd[i], F_SETFL, 0);
        cr_assert_eq(net_inherit(&m, l.fd[i]), 0);
        cr_assert(fcntl(l.fd[i], F_GETFL) & O_NONBLOCK);
    }
    cr_assert_eq(m.n, l.n);
    cr_assert_eq(m.port, l.port);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    m.n = 0;
    cr_assert_eq(net_inherit(&m, pair[0]), -1);
    cr_assert_eq(net_inherit(&m, -1), -1);
    cr_assert_eq(net_inherit(&m, 0), -1);
    cr_assert_eq(m.n, 0);
}

Test(net_inherit, a_unix_socket_has_no_address_and_is_not_wide)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "\0recalld test_net" };
    struct net_listeners l = { .n = 0 }, tcp;
    char text[NET_TEXT];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_eq(net_inherit(&l, fd), 0);
    cr_assert_str_eq(net_text(text, &l.address, true), "unix");
    cr_assert(!l.wide && l.port == 0);
    cr_assert_eq(net_listen(&tcp, "127.0.0.1", 0, 0), 0);
    cr_assert_eq(net_inherit(&l, tcp.fd[0]), 0);
    cr_assert_eq(l.port, tcp.port, "the port is that of the one which has one");
    net_close(&l);
}

Test(net_descriptors, limit_is_raised_as_far_as_it_goes)
{
    unsigned n = net_raise_descriptors();
    cr_assert(n >= 64);
    cr_assert_eq(net_raise_descriptors(), n);
}
