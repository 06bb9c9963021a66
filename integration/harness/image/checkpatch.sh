#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# checkpatch.sh OUT SOURCES APT_OPTIONS: puts checkpatch.pl and its word lists, from Debian's kernel source, into OUT.
set -euo pipefail
out=$1 sources=$2 apt_options=$3

root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
mmdebstrap --quiet --mode=root --variant=extract --aptopt="$apt_options" --include=linux-source-6.1 \
  bookworm "$root" "$sources"
tar -C "$out" --strip-components=2 -xJf "$root/usr/src/linux-source-6.1.tar.xz" \
  linux-source-6.1/scripts/{checkpatch.pl,spelling.txt,const_structs.checkpatch}
