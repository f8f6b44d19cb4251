#!/bin/sh
# Our stack with other people's: python3-websockets, python3-autobahn, npm ws and
# libwebsockets, those that are installed, as clients of build/echo and as servers
# of our client role. Random sessions with fixed
# seeds: sizes, fragments, pings, closes; results must be equal.
#   tests/interop/run.sh [short|long]; BUILD: where echo lies
set -eu
cd "$(dirname "$0")/../.."
dir=${BUILD:-build}
n=100
[ "${1:-short}" = short ] || n=3000
PY=/usr/bin/python3
passed=0 failed=0 skipped=0
work=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null || true; done; rm -rf "$work"' EXIT

judge()     # what, command...
{
    what=$1
    shift
    if "$@" >"$work/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $what"; tail -5 "$work/log"; fi
}

# Start a server and wait for its port, the last number of the first line it prints.
start()
{
    : >"$work/port"
    "$@" >"$work/port" 2>"$work/server.log" &
    pids="$pids $!"
    port=
    for _ in $(seq 100); do
        port=$(sed -n '1s/.*[^0-9]\([0-9][0-9]*\)$/\1/p; 1s/^\([0-9][0-9]*\)$/\1/p' "$work/port" | head -1)
        [ -z "$port" ] || return 0
        port=$(sed -n 's/.*listening on [^ ]*:\([0-9][0-9]*\).*/\1/p' "$work/server.log" | head -1)
        [ -z "$port" ] || return 0
        sleep 0.1
    done
    echo "no port from: $*"
    exit 1
}

cc -std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -fsanitize=address,undefined -fno-sanitize-recover=all -I. \
    -o "$work/client" tests/interop/client.c ws.c ws_handshake.c http.c utf8.c sha1.c base64.c
start "$dir/echo" --port 0
echo_port=$port

# Both ways with one stack: its name, what must hold for it to be there, its command.
both()
{
    name=$1
    if ! sh -c "$2" 2>/dev/null; then
        echo "skipped: $name is not installed"
        skipped=$((skipped + 2))
        return
    fi
    shift 2
    judge "$name, client: $n sessions" "$@" client "$echo_port" 1 "$n"
    start "$@" server
    judge "$name, server: $n sessions" "$work/client" "$port" 1 "$n"
}

both python3-websockets "$PY -c 'import websockets'" $PY tests/interop/peer.py
both python3-autobahn "$PY -c 'import autobahn'" $PY tests/interop/peer_autobahn.py
both "npm ws" "test -e tests/node_modules/ws" node tests/interop/peer.mjs
both libwebsockets "pkg-config --exists libwebsockets && cc -std=c11 -D_GNU_SOURCE -O1 -Wall -Wextra \
    -o $work/lws tests/interop/peer_lws.c \$(pkg-config --libs libwebsockets)" "$work/lws"
start "$dir/echo" --port 0
judge "our own: $n sessions" "$work/client" "$port" 1 "$n"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
