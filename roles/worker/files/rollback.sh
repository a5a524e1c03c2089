# SPDX-License-Identifier: GPL-3.0-or-later
# Run by /bin/sh: rollback LINK. LINK leads to the version in use, LINK.former to the one before; versions are
# named by their time.
link=$1
now=$(readlink "$link") former=$(readlink "$link.former")
if [ "$(printf '%s\n' "$former" "$now" | sort | head -n 1)" = "$former" ] && [ "$former" != "$now" ]; then
    ln -sfn "$former" "$link.new"
    mv -T "$link.new" "$link"
    ln -sfn "$now" "$link.former"
    echo "$former"
fi
