# SPDX-License-Identifier: GPL-3.0-or-later
# Run by /bin/sh: built STAMP LIBRARY...: what the libraries were compiled from. Fails when one is missing.
stamp=$1
shift
for library; do
    [ -e "$library" ] || exit 1
done
cat "$stamp"
