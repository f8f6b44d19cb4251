#include "servers/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BACKLOG 511
#define TRIES   64                       /* for a free port that both families have */

static const uint8_t v4_prefix[12] = { [10] = 0xff, [11] = 0xff };
static const uint8_t v6_loopback[16] = { [15] = 1 };

static bool is_v4(const struct net_address *a) { return !memcmp(a->ip, v4_prefix, 12); }

/* No peer and no listening socket has port 0 of TCP. */
static bool is_none(const struct net_address *a)
{
    static const struct net_address none;
    return !a->port && !memcmp(a->ip, none.ip, sizeof a->ip);
}

bool net_parse(struct net_address *a, const char *text, uint16_t port)
{
    char bare[NET_TEXT];
    size_t n = strlen(text);
    if (n && text[0] == '[') {
        if (text[n - 1] != ']') return false;
        text++;
        n -= 2;
        if (!memchr(text, ':', n)) return false;
    }
    if (n >= sizeof bare) return false;
    memcpy(bare, text, n);
    bare[n] = '\0';
    memset(a, 0, sizeof *a);
    a->port = port;
    if (inet_pton(AF_INET6, bare, a->ip) == 1) return true;
    memcpy(a->ip, v4_prefix, 12);
    return inet_pton(AF_INET, bare, a->ip + 12) == 1;
}

bool net_is_loopback(const struct net_address *a)
{
    return is_v4(a) ? a->ip[12] == 127 : !memcmp(a->ip, v6_loopback, 16);
}

const char *net_text(char text[NET_TEXT], const struct net_address *a, bool with_port)
{
    char ip[INET6_ADDRSTRLEN] = "";
    bool v4 = is_v4(a);
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a->ip + 12 : a->ip, ip, sizeof ip);
    if (with_port && is_none(a)) return strcpy(text, "unix");
    if (with_port) snprintf(text, NET_TEXT, v4 ? "%s:%u" : "[%.39s]:%u", ip, a->port);
    else           snprintf(text, NET_TEXT, "%s", ip);
    return text;
}

void net_from_sockaddr(struct net_address *a, const struct sockaddr_storage *s)
{
    memset(a, 0, sizeof *a);
    if (s->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)s;
        memcpy(a->ip, &v6->sin6_addr, 16);
        a->port = ntohs(v6->sin6_port);
    } else if (s->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)s;
        memcpy(a->ip, v4_prefix, 12);
        memcpy(a->ip + 12, &v4->sin_addr, 4);
        a->port = ntohs(v4->sin_port);
    }
}

socklen_t net_to_sockaddr(const struct net_address *a, struct sockaddr_storage *s)
{
    memset(s, 0, sizeof *s);
    if (is_v4(a)) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)s;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(a->port);
        memcpy(&v4->sin_addr, a->ip + 12, 4);
        return sizeof *v4;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)s;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(a->port);
    memcpy(&v6->sin6_addr, a->ip, 16);
    return sizeof *v6;
}

bool net_local(int fd, struct net_address *a)
{
    struct sockaddr_storage s;
    socklen_t len = sizeof s;
    if (getsockname(fd, (struct sockaddr *)&s, &len)) return false;
    net_from_sockaddr(a, &s);
    return true;
}

/* Connections inherit TCP_NODELAY from the socket that accepts them. */
static void prepare(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* A listening socket, or -1 with errno. */
static int listen_on(const struct net_address *a)
{
    struct sockaddr_storage s;
    socklen_t len = net_to_sockaddr(a, &s);
    int one = 1, fd = socket(s.ss_family, SOCK_STREAM, 0);
    if (fd < 0) return -1;
    prepare(fd);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (s.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (!bind(fd, (const struct sockaddr *)&s, len) && !listen(fd, BACKLOG)) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int add(struct net_listeners *l, int fd)
{
    struct sockaddr_storage s;
    socklen_t len = sizeof s;
    struct net_address a;
    if (getsockname(fd, (struct sockaddr *)&s, &len)) return -1;
    net_from_sockaddr(&a, &s);
    if (!l->n) l->address = a;
    if (!l->port) l->port = a.port;
    l->wide |= s.ss_family != AF_UNIX && !net_is_loopback(&a);
    l->fd[l->n++] = fd;
    return 0;
}

static bool family_is_missing(int why)
{
    return why == EAFNOSUPPORT || why == EADDRNOTAVAIL || why == EPROTONOSUPPORT;
}

static int listen_port(struct net_listeners *l, const struct net_address *host, bool both,
                       unsigned port)
{
    struct net_address a = *host;
    a.port = (uint16_t)port;
    memset(l, 0, sizeof *l);
    int fd = listen_on(&a);
    if (fd < 0 || add(l, fd)) return -1;
    if (!both) return 0;
    memcpy(a.ip, v6_loopback, 16);
    a.port = l->port;
    fd = listen_on(&a);
    if (fd < 0 && family_is_missing(errno)) return 0;
    if (fd >= 0) return add(l, fd);
    int why = errno;
    net_close(l);
    errno = why;
    return -1;
}

int net_listen(struct net_listeners *l, const char *host, unsigned first, unsigned last)
{
    struct net_address a;
    bool both = !strcmp(host, "localhost");
    if (!net_parse(&a, both ? "127.0.0.1" : host, 0) || first > 65535 || last > 65535) {
        errno = EINVAL;
        return -1;
    }
    unsigned tries = first ? (last > first ? last - first : 0) + 1 : TRIES;
    for (unsigned i = 0; i < tries; i++) {
        if (!listen_port(l, &a, both, first ? first + i : 0)) return 0;
        if (errno != EADDRINUSE) return -1;
    }
    return -1;
}

int net_inherit(struct net_listeners *l, int fd)
{
    int listens = 0;
    socklen_t len = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len)) return -1;
    if (!listens || l->n == 2) {
        errno = EINVAL;
        return -1;
    }
    prepare(fd);
    return add(l, fd);
}

void net_close(struct net_listeners *l)
{
    while (l->n) close(l->fd[--l->n]);
}

unsigned net_raise_descriptors(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r)) return 1024;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r)) getrlimit(RLIMIT_NOFILE, &r);
    return r.rlim_cur > 1u << 20 ? 1u << 20 : (unsigned)r.rlim_cur;
}

void net_fill_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) < 0)
            socket(AF_UNIX, SOCK_STREAM, 0);   /* joined to nothing, for where that is missing */
}
