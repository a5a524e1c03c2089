# SPDX-License-Identifier: GPL-3.0-or-later
# Run by /bin/sh: look UNIT PORT: whether the server runs, and who listens on the port, one finding a line.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C

# It may be stopped, or not be there yet.
if systemctl is-active --quiet "$1.service"; then echo running=yes; fi
echo "pid=$(systemctl show --property MainPID --value "$1.service" 2>/dev/null)"
# Without ss, the start of the service finds out who holds the port.
ss --tcp --listening --numeric --processes --no-header sport = ":$2" 2>/dev/null | sed 's/^/listener=/'
exit 0
