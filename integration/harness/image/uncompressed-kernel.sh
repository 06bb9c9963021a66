#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# uncompressed-kernel.sh OUT VMLINUZ: makes OUT/vmlinux, the kernel that VMLINUZ unpacks when it boots.
set -euo pipefail
out=$1 vmlinuz=$2

# setup_sects, payload_offset and payload_length (Documentation/x86/boot.rst), all little-endian.
field() { od -An -v -t u"$2" -j "$1" -N "$2" "$vmlinuz" | tr -d ' '; }
offset=$((($(field $((0x1f1)) 1) + 1) * 512 + $(field $((0x248)) 4)))
length=$(field $((0x24c)) 4)
# Behind the payload stand four bytes that are not of its format: its size unpacked.
payload() { dd if="$vmlinuz" bs=1M iflag=skip_bytes,count_bytes skip="$offset" count=$((length - 4)) status=none; }

case $(field "$offset" 4) in
  $((0x587a37fd))) payload | xz -dc ;;
  $((0xfd2fb528))) payload | zstd -qdc ;;
  $((0x184c2102))) payload | lz4 -dc ;;
  *) echo "$vmlinuz: packed neither by xz nor by zstd nor by lz4" >&2; exit 1 ;;
esac > "$out/vmlinux"
