#!/bin/bash
# Unpacks the distribution's kernel into a directory, without installing it. Does nothing where that was done before.
#
#   kernel.sh DIR
set -euo pipefail

dir=$1
[ -e "$dir/done" ] && exit 0
meta=linux-image-amd64
apt-cache show "$meta" >/dev/null 2>&1 || meta=linux-image-generic
image=$(apt-cache depends "$meta" | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
[ -n "$image" ] || { echo "no kernel package behind $meta: apt-get update?" >&2; exit 1; }
packages=("$image")
# Ubuntu keeps the modules in packages of their own.
for more in "${image/linux-image/linux-modules}" "${image/linux-image/linux-modules-extra}"; do
    if apt-cache show "$more" >/dev/null 2>&1; then packages+=("$more"); fi
done
rm -rf "$dir"
mkdir -p "$dir/packages" "$dir/tree"
(cd "$dir/packages" && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}")
for package in "$dir"/packages/*.deb; do dpkg-deb -x "$package" "$dir/tree"; done
rm -rf "$dir/packages"
touch "$dir/done"
