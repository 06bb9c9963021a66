#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kernel-root.sh OUT SOURCES APT_OPTIONS SUITE RELEASE FLAVOUR: builds OUT/root, a Debian root of SUITE with its compiler and
# its kernel of that flavour (both from RELEASE, the suite or its backports); OUT/vmlinuz; OUT/release; OUT/modules.ext4, the
# guest's /lib/modules.
set -euo pipefail
out=$1 sources=$2 apt_options=$3 suite=$4 release=$5 flavour=$6

trap 'rm -rf --one-file-system "$out/root" "$stage"' ERR
stage=$(mktemp -d)
# Backports are taken only when they are asked for; a default release would also hide the security updates.
backports=()
[ "$release" = "$suite" ] || backports=(--aptopt="APT::Default-Release \"$release\"")
# An initramfs of this root would boot nothing: ours is made by initramfs.sh.
INITRD=No mmdebstrap --quiet --mode=root --variant=apt --aptopt="$apt_options" "${backports[@]}" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include="gcc,make,libc6-dev,sparse,linux-headers-$flavour,linux-image-$flavour" \
  "$suite" "$out/root" "$sources"
rm -rf "$out"/root/var/cache/apt "$out"/root/var/lib/apt/lists

kernels=("$out"/root/lib/modules/*-"$flavour")
kernel=$(basename "${kernels[-1]}")
test -f "$out/root/boot/vmlinuz-$kernel"
echo "$kernel" > "$out/release"
cp "$out/root/boot/vmlinuz-$kernel" "$out/vmlinuz"

# The image holds the modules without the links to the headers.
mkdir "$stage/modules"
cp -a "$out/root/lib/modules/$kernel" "$stage/modules/"
rm -f "$stage/modules/$kernel/build" "$stage/modules/$kernel/source"
depmod -b "$out/root" "$kernel"
cp -a "$out/root/lib/modules/$kernel"/modules.* "$stage/modules/$kernel/"
truncate -s 1G "$stage/modules.ext4"
mkfs.ext4 -q -O ^has_journal -d "$stage/modules" "$stage/modules.ext4"
mv "$stage/modules.ext4" "$out/modules.ext4"
rm -rf "$stage"
