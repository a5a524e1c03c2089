# SPDX-License-Identifier: GPL-3.0-or-later
# Run by /bin/sh: switch LINK NEW VERSIONS. LINK leads to the virtual environment in use, LINK.former to the
# one before; what neither does goes.
link=$1 new=$2 versions=$3
if [ -L "$link" ]; then
    ln -sfn "$(readlink "$link")" "$link.former"
elif [ -e "$link" ]; then
    # Before there were links it was a directory. Its programs begin with its name, so nothing goes back to
    # it.
    mv "$link" "$versions/directory"
fi
ln -sfn "$new" "$link.new"
mv -T "$link.new" "$link"
for version in "$versions"/*; do
    case $version in "$new" | "$(readlink "$link.former" || true)") ;; *) rm -rf "$version" ;; esac
done
