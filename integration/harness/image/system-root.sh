#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# system-root.sh OUT SOURCES APT_OPTIONS: builds OUT/root, a Debian with systemd, initramfs-tools and dracut, but without a kernel.
set -euo pipefail
out=$1 sources=$2 apt_options=$3

packages=(
  dracut-core e2fsprogs fdisk initramfs-tools iproute2 kmod nodejs openssh-server openssh-sftp-server procps qemu-utils systemd
  systemd-sysv udev util-linux xfsprogs
)
trap 'rm -rf --one-file-system "$out/root"' ERR
mmdebstrap --quiet --mode=root --variant=apt --aptopt="$apt_options" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include="$(IFS=,; echo "${packages[*]}")" trixie "$out/root" "$sources"
rm -rf "$out"/root/var/cache/apt "$out"/root/var/lib/apt/lists
