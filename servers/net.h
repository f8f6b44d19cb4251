/* TCP addresses and listening sockets: parsing, binding, naming. Names are not
 * looked up: "localhost" means 127.0.0.1 and ::1, all else is an address. */
#ifndef SERVERS_NET_H
#define SERVERS_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define NET_TEXT 48               /* bytes of the longest address text and its NUL */

/* An IP address, IPv4 as ::ffff:a.b.c.d, and a port: 18 bytes. All zero: a Unix socket. */
struct net_address {
    uint8_t  ip[16];
    uint16_t port;
};

struct net_listeners {
    int      fd[2];               /* nonblocking, close-on-exec */
    int      n;
    uint16_t port;                /* the same for both */
    bool     wide;                /* one of them takes connections from beyond this machine */
    struct net_address address;   /* of fd[0] */
};

/* "127.0.0.1", "::1" or "[::1]" (no port, no zone). false: not an address. */
bool net_parse(struct net_address *a, const char *text, uint16_t port);

/* 127.0.0.0/8 (also as ::ffff:127.x), ::1. */
bool net_is_loopback(const struct net_address *a);

/* "127.0.0.1" or "::1"; with_port: "127.0.0.1:80", "[::1]:80", "unix" for
 * one that is no IP address. Returns text. */
const char *net_text(char text[NET_TEXT], const struct net_address *a, bool with_port);

void net_from_sockaddr(struct net_address *a, const struct sockaddr_storage *s);
socklen_t net_to_sockaddr(const struct net_address *a, struct sockaddr_storage *s);

/* Address that a connected socket reached, or a listening one is bound to. */
bool net_local(int fd, struct net_address *a);

/* Listen on the first free port of first..last (first 0: any) of host, which is
 * "localhost" (both families on one port; a missing IPv6 is no error) or an
 * address. 0; else -1 and errno: EADDRINUSE every port is busy, EINVAL host is
 * neither. */
int net_listen(struct net_listeners *l, const char *host, unsigned first, unsigned last);

/* Take over a listening socket that somebody else opened (LISTEN_FDS). Called
 * twice it adds the second family. 0; else -1 and errno: ENOTSOCK, EINVAL when it
 * does not listen. */
int net_inherit(struct net_listeners *l, int fd);

void net_close(struct net_listeners *l);

/* Raise the limit of descriptors to the hard one; returns it. */
unsigned net_raise_descriptors(void);

/* A closed stdin, stdout or stderr must not become the number of a file or connection
 * of ours, which lines meant for it would be written to. What takes its place fails as
 * a closed one does. First thing in main(). */
void net_fill_descriptors(void);

#endif
