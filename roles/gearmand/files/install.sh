# SPDX-License-Identifier: GPL-3.0-or-later
# Run by /bin/sh: install PREFIX MANIFEST, in the directory of what was compiled. The server comes last into its
# place: after an interruption the role finds the old version, or none, and begins again.
prefix=$1 manifest=$2
umask 022
rm -rf staging
mkdir staging
tar --extract --gzip --file built.tar.gz --directory staging --no-same-owner
cd staging
mkdir -p "$prefix/share/gearsync"
find . ! -type d | sed 's/^\.//' | sort >../files
# Both the old version's files and the new one's are listed until it is done, so that none is forgotten.
touch "$manifest"
sort -u "$manifest" ../files >"$manifest.new"
mv "$manifest.new" "$manifest"
# Renamed into place, because the running server holds its own files open.
while read -r file; do
    mkdir -p "${file%/*}"
    # Not with its attributes: on SELinux a file is labelled for where it is made.
    cp -d --preserve=mode ".$file" "$file.gearsync-new"
    mv -T "$file.gearsync-new" "$file"
done <<EOF
$(grep -v '/sbin/gearmand$' ../files)
EOF
ldconfig
cp --preserve=mode ".$prefix/sbin/gearmand" "$prefix/sbin/gearmand.gearsync-new"
mv -T "$prefix/sbin/gearmand.gearsync-new" "$prefix/sbin/gearmand"
# What only the old version had.
comm -23 "$manifest" ../files | while read -r file; do rm -f "$file"; done
cp ../files "$manifest"
if command -v restorecon >/dev/null; then
    xargs -d '\n' restorecon <../files
fi
