#!/bin/sh
# The examples build without a warning and talk to each other: each echo server
# (libuv where it is installed) with our client. BUILD: where to put them.
set -eu
cd "$(dirname "$0")/../.."
dir=${BUILD:-build}/examples
CC=${CC:-cc}
flags="-std=c11 -O2 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -I."
lib="ws.c ws_handshake.c http.c utf8.c sha1.c base64.c"
mkdir -p "$dir"
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true' EXIT
passed=0 failed=0 skipped=0

judge()     # what, status
{
    if [ "$2" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $1"; fi
}

$CC $flags -o "$dir/client" examples/client.c $lib
for name in poll epoll uv; do
    link= quiet=
    if [ $name = uv ]; then
        pkg-config --exists libuv 2>/dev/null || {
            echo "skipped: libuv is not installed"
            skipped=$((skipped + 1))
            continue
        }
        link=$(pkg-config --libs libuv) quiet=$(pkg-config --cflags libuv | sed 's/-I/-isystem /g')
    fi
    $CC $flags $quiet -o "$dir/echo_$name" "examples/echo_$name.c" $lib $link
    : >"$dir/echo_$name.log"
    "$dir/echo_$name" 0 >>"$dir/echo_$name.log" &
    pid=$!
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        port=$(sed -n 's/listening on 127.0.0.1://p' "$dir/echo_$name.log")
        [ -z "$port" ] || break
        sleep 0.1
    done
    long=$(printf '%0100000d' 7)
    got=$("$dir/client" 127.0.0.1 "$port" / Hello "" "κόσμε 😀" "$long") && status=0 || status=1
    judge "echo_$name: all four are answered and closed" $status
    want=$(printf 'Hello\n\nκόσμε 😀\n%s' "$long")
    [ "$got" = "$want" ] && status=0 || status=1
    judge "echo_$name: answers are what was sent" $status
    "$dir/client" 127.0.0.1 "$port" /any && status=0 || status=1
    judge "echo_$name: a session without messages closes" $status
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
