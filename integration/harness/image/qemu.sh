#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# qemu.sh OUT SOURCES APT_OPTIONS: puts Debian 13's QEMU with all its libraries into OUT/root. OUT/qemu-system-x86_64 is that Debian's
# dynamic loader, under the name that its process is to have: QEMU runs on any Debian through it.
set -euo pipefail
out=$1 sources=$2 apt_options=$3

mmdebstrap --quiet --mode=root --variant=extract --aptopt="$apt_options" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --include=qemu-system-x86 trixie "$out/root" "$sources"
cp -L "$out/root/usr/lib64/ld-linux-x86-64.so.2" "$out/qemu-system-x86_64"
