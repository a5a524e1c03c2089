# SPDX-License-Identifier: GPL-3.0-or-later
# Run by /bin/sh: look BINARY PORT USER COMMENT SHELL: what the host has already, one finding a line.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C
binary=$1 port=$2 user=$3 comment=$4 shell=$5

echo "version=$("$binary" --version 2>/dev/null | grep "^gearmand ")"
if ldd "$binary" 2>/dev/null | grep -q libssl; then echo tls=yes; fi
# Without ss, the start of the service finds out who holds the port.
ss --tcp --listening --numeric --processes --no-header sport = ":$port" 2>/dev/null | sed 's/^/listener=/'
echo "pid=$(systemctl show --property MainPID --value gearmand.service 2>/dev/null)"
account=$(getent passwd "$user")
group=$(getent group "$user" | cut -d : -f 3)
case $account in
"") echo user=missing ;;
"$user":*:*:"$group":"$comment":/nonexistent:"$shell") echo user=complete ;;
"$user":*:*:*:"$comment":*) echo user=ours ;;
*) echo user=foreign ;;
esac
