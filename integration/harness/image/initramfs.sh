#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# initramfs.sh OUT KERNEL_DIRECTORY: builds OUT/initramfs: busybox, the drivers of the guest's devices, and initramfs-init.
set -euo pipefail
out=$1 root=$2/root kernel=$(cat "$2/release")
here=$(dirname "$(readlink -f "$0")")

drivers=(virtio_pci virtio_blk virtio_net virtio_scsi virtio_rng sd_mod nvme ext4 crc32c_generic)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage"/{bin,proc,sys,dev,root,modules}
cp /bin/busybox "$stage/bin/busybox"
install -m 755 "$here/initramfs-init" "$stage/init"
for driver in "${drivers[@]}"; do
  modprobe -d "$root" -S "$kernel" --show-depends "$driver" 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
  name=$(basename "$module" | sed 's/\.ko.*/.ko/')
  case $module in
    *.ko.xz) xz -dc "$module" ;;
    *.ko.zst) zstd -qdc "$module" ;;
    *) cat "$module" ;;
  esac > "$stage/modules/$name"
  echo "$name" >> "$stage/modules/order"
done
(cd "$stage" && find . -mindepth 1 | cpio --quiet -o -H newc | gzip -1) > "$out/initramfs"
