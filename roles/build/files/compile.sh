# SPDX-License-Identifier: GPL-3.0-or-later
# Run by /bin/sh in a build's directory: build.sh there leaves what is to be installed in staging/, by its
# paths below /. Packs that, and prints the packages with the libraries that it is linked with.
set -eu
umask 022
rm -rf source staging
mkdir source staging
if ! sh ./build.sh >build.log 2>&1 </dev/null; then
    echo "The build failed; its log is $PWD/build.log, and ends with:" >&2
    tail -n 40 build.log >&2
    exit 1
fi
tar --create --gzip --owner=0 --group=0 --sort=name --file built.tar.gz --directory staging .

libraries() {
    find staging -type f \( -perm /111 -o -name '*.so*' \) -exec ldd {} + 2>/dev/null | sed -n 's|.*=> \(/[^ ]*\) .*|\1|p' | sort -u |
        xargs --no-run-if-empty readlink --canonicalize-existing
}
if [ -e /var/lib/dpkg/status ]; then
    # A package may name /lib where the system has it in /usr/lib.
    libraries | while read -r file; do dpkg-query --search "$file" "${file#/usr}" 2>/dev/null || true; done | sed 's/[:,].*//'
else
    libraries | xargs --no-run-if-empty rpm --query --queryformat '%{NAME}\n' --file 2>/dev/null | grep -v ' ' || true
fi | sort -u
