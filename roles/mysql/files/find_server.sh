#!/bin/sh
# Read by /bin/sh: says what database server this host has, as lines of `name=value`.
# Running servers: binary, version and one `socket=` for each socket that they listen on. Else the installed one: the same from its configuration.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/libexec:/usr/local/sbin:/usr/local/bin
export PATH LC_ALL=C

describe() {
    echo "binary=$1"
    echo "version=$("$1" --version 2>/dev/null | head -n 1)"
}

running=0
for process in /proc/[0-9]*; do
    read -r name 2>/dev/null <"$process/comm" || continue
    case $name in mysqld | mariadbd) ;; *) continue ;; esac
    # A server in a container on this host has a process namespace of its own, and is not this host's.
    [ "$(readlink "$process/ns/pid")" = "$(readlink /proc/self/ns/pid)" ] || continue
    binary=$(readlink "$process/exe") || continue
    running=$((running + 1))
    # After an upgrade the running binary is a deleted one.
    describe "${binary% (deleted)}"
    # MySQL's X protocol has a socket too, which speaks another language.
    ss -xlpnH | grep "pid=${process#/proc/}," | awk '$5 !~ /mysqlx/ { print "socket=" $5 }'
done
echo "running=$running"
[ "$running" -eq 0 ] || exit 0

for name in mariadbd mysqld; do
    if binary=$(command -v "$name"); then
        describe "$binary"
        "$binary" --print-defaults 2>/dev/null | tr ' ' '\n' | sed -n 's/^--socket=/socket=/p' | tail -n 1
        exit 0
    fi
done
exit 0
