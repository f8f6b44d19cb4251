/* What systemd and its like want of a service, without libsystemd: sd_notify(3)
 * messages, and sockets handed over, sd_listen_fds(3). */
#ifndef SYSTEMD_H
#define SYSTEMD_H

#include <stdint.h>

/* Take NOTIFY_SOCKET and WATCHDOG_USEC out of the environment and connect, before
 * a sandbox forbids it. */
void systemd_open(void);

/* Send "READY=1", "STOPPING=1", "WATCHDOG=1"; nothing where nobody listens. */
void systemd_notify(const char *state);

/* How often WATCHDOG=1 is to be sent, ms; 0: not at all. */
int64_t systemd_watchdog_ms(void);

/* The handed-over socket with this name, after the first `skip` of that name; -1: none. */
int systemd_socket(const char *name, int skip);

#endif
