#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test-root.sh OUT SOURCES APT_OPTIONS: builds OUT/root.ext4, the root filesystem every guest boots, whatever its kernel.
set -euo pipefail
out=$1 sources=$2 apt_options=$3

packages=(
  attr btrfs-progs cryptsetup-bin dmsetup dosfstools e2fsprogs fdisk fio iproute2 kmod
  libnss-myhostname lsof lvm2 mdadm nodejs openssh-server openssh-sftp-server openssl procps psmisc
  strace stress-ng systemd systemd-sysv udev util-linux xfsprogs xxd
)
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
mmdebstrap --quiet --mode=root --variant=apt --aptopt="$apt_options" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include="$(IFS=,; echo "${packages[*]}")" trixie "$root" "$sources"

# Nothing of the guest's own start-up is wanted: integration/guest/init is process 1.
echo elio-guest > "$root/etc/hostname"
passwd --root "$root" --delete root >/dev/null 2>&1 || sed -i 's/^root:[^:]*/root:/' "$root/etc/shadow"
ln -sf /proc/self/mounts "$root/etc/mtab"
mkdir -p "$root/opt/elio" "$root/mnt"
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists
truncate -s 4G "$out/root.ext4"
mkfs.ext4 -q -L elio-root -O ^has_journal -E lazy_itable_init=1 -d "$root" "$out/root.ext4"
