#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# debug-kernel.sh OUT SOURCES APT_OPTIONS SUITE VERSION FLAVOUR: builds, as kernel-root.sh does for Debian's own kernels, OUT/root
# (a root of SUITE with its compiler and the built tree of the kernel), OUT/vmlinuz, OUT/release and OUT/modules.ext4, from
# Debian's source of kernel VERSION and Debian's configuration, less what no guest has, with the checks of FLAVOUR: kasan or kcsan.
set -euo pipefail
if [ "$1" != --inside ]; then
  # /proc is mounted where only this build sees it.
  exec unshare --mount --propagation private --pid --fork --kill-child bash "$0" --inside "$@"
fi
shift
out=$1 sources=$2 apt_options=$3 suite=$4 version=$5 flavour=$6
here=$(dirname "$(readlink -f "$0")")

mmdebstrap --quiet --mode=root --variant=apt --aptopt="$apt_options" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include="bc,bison,cpio,dwarves,flex,gcc,kmod,libc6-dev,libelf-dev,libssl-dev,make,python3-minimal,sparse,xz-utils" \
  --include="linux-source-$version,linux-config-$version" "$suite" "$out/root" "$sources"
rm -rf "$out"/root/var/cache/apt "$out"/root/var/lib/apt/lists
mount -t proc proc "$out/root/proc"

tree=/usr/src/linux
tar -C "$out/root/usr/src" -xJf "$out/root/usr/src/linux-source-$version.tar.xz"
mv "$out/root/usr/src/linux-source-$version" "$out/root$tree"
rm "$out/root/usr/src/linux-source-$version.tar.xz"
xz -dc "$out/root/usr/src/linux-config-$version/config.amd64_none_amd64.xz" > "$out/root$tree/.config"
# localmodconfig leaves of the modules those that lsmod would show, and of what is built in everything.
{
  echo 'Module Size Used by'
  sed 's/#.*//' "$here/debug-kernel.modules" | tr -s ' ' '\n' | sed '/^$/d; s/-/_/g; s/$/ 1 0/'
} > "$out/root$tree/lsmod"
cp "$here/debug-kernel.config" "$here/debug-kernel-$flavour.config" "$out/root$tree/"

inside() { chroot "$out/root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }
inside bash -euo pipefail -c "
  cd $tree
  make -s olddefconfig
  (yes '' || true) | make -s LSMOD=lsmod localmodconfig > localmodconfig.log 2>&1
  scripts/kconfig/merge_config.sh -m .config debug-kernel.config debug-kernel-$flavour.config > merge.log
  make -s olddefconfig
  # What was asked for and did not become so would be a check that nobody makes.
  missing=\$(grep -hE '^CONFIG_' debug-kernel.config debug-kernel-$flavour.config | grep -vxFf .config || true)
  [ -z \"\$missing\" ] || { printf 'not in the configuration: %s\n' \$missing >&2; exit 1; }
  make -s -j\$(nproc) bzImage modules
  make -s INSTALL_MOD_STRIP=1 modules_install
  make -s kernelrelease > /tmp/release
"
mv "$out/root/tmp/release" "$out/release"
kernel=$(cat "$out/release")
cp "$out/root$tree/arch/x86/boot/bzImage" "$out/vmlinuz"
# What modules are built with stays.
find "$out/root$tree" \( -name '*.o' -o -name '*.ko' -o -name '*.a' -o -name '*.cmd' \) \
  -not -path '*/scripts/*' -not -path '*/tools/*' -delete

stage=$(mktemp -d)
mkdir "$stage/modules"
cp -a "$out/root/lib/modules/$kernel" "$stage/modules/"
rm -f "$stage/modules/$kernel/build" "$stage/modules/$kernel/source"
truncate -s 1G "$stage/modules.ext4"
mkfs.ext4 -q -O ^has_journal -d "$stage/modules" "$stage/modules.ext4"
mv "$stage/modules.ext4" "$out/modules.ext4"
rm -rf "$stage"
umount "$out/root/proc"
