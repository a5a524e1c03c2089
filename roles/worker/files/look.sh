# SPDX-License-Identifier: GPL-3.0-or-later
# Run by /bin/sh: look PYTHON PROGRAM USER STAMP: first what Python reports of itself, then whether the user is as
# the role makes it, then what the installed worker was made from. Fails when that Python cannot be used.
python=$1 program=$2 user=$3 stamp=$4

about=$("$python" -c "$program")
status=$?
echo "$about"
group=$(getent group "$user" | cut -d : -f 3)
case $(getent passwd "$user") in
"$user":*:*:"$group":*:/nonexistent:/usr/sbin/nologin) echo complete ;;
*) echo incomplete ;;
esac
# Absent on a new host, and after an installation that did not end.
cat "$stamp" 2>/dev/null
exit $status
