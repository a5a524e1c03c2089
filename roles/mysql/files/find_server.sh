#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Read by /bin/sh: prints what database server this host has, as lines of `name=value`. Running servers: binary,
# version and one `socket=` for each socket that they listen on. Else the installed one: the same from its
# configuration, and `packaged=no` when no package owns it. When none runs, `data=DIRECTORY` if there is one's
# data.
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

data=/var/lib/mysql
for name in mariadbd mysqld; do
    if binary=$(command -v "$name"); then
        describe "$binary"
        binary=$(readlink -f "$binary")
        dpkg-query --search "$binary" >/dev/null 2>&1 || rpm --query --file "$binary" >/dev/null 2>&1 || echo "packaged=no"
        defaults=$("$binary" --print-defaults 2>/dev/null | tr ' ' '\n')
        printf '%s\n' "$defaults" | sed -n 's/^--socket=/socket=/p' | tail -n 1
        configured=$(printf '%s\n' "$defaults" | sed -n 's/^--datadir=//p' | tail -n 1)
        data=${configured:-$data}
        break
    fi
done
# A new file system's directory and Debian's note of the version are no data.
[ -z "$(find "$data" -mindepth 1 -maxdepth 1 ! -name 'lost+found' ! -name '.*' ! -name 'debian-*.flag' 2>/dev/null | head -n 1)" ] || echo "data=$data"
exit 0
