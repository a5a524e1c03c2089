# SPDX-License-Identifier: GPL-3.0-or-later
# Run by /bin/sh: look UNIT SETTINGS PORT…: whether the server runs, and who listens on the ports, one finding a
# line; then, behind `settings:`, what the file SETTINGS has, if it is there.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C
unit=$1.service settings=$2
shift 2

# It may be stopped, or not be there yet.
if systemctl is-active --quiet "$unit"; then echo running=yes; fi
echo "pid=$(systemctl show --property MainPID --value "$unit" 2>/dev/null)"
# Without ss, the start of the service finds out who holds a port.
for port in "$@"; do
    ss --tcp --listening --numeric --processes --no-header sport = ":$port" 2>/dev/null | sed 's/^/listener=/'
done
if [ -e "$settings" ]; then
    echo settings:
    cat "$settings"
fi
exit 0
