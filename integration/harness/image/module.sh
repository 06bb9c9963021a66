#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# module.sh KERNEL_DIRECTORY REPOSITORY OUT [MAKE_ARGUMENT...]: builds the driver and the tests' modules inside the build root of
# a kernel and copies them to OUT. The source is copied in, so that one checkout is built for several kernels at a time.
set -euo pipefail
if [ "${1:-}" != --inside ]; then
  # /proc (objtool wants it) is mounted where only this build sees it; in a chroot that is no mount point of its own, mounts
  # cannot be made private, and the one below is undone at the end.
  propagation=private
  unshare --mount true 2>/dev/null || propagation=unchanged
  exec unshare --mount --propagation "$propagation" --pid --fork --kill-child bash "$0" --inside "$@"
fi
shift
kernel_directory=$1 repository=$2 out=$3
shift 3
root=$kernel_directory/root
release=$(cat "$kernel_directory/release")

build=$(mktemp -d "$root/tmp/driver.XXXXXX")
mount -t proc proc "$root/proc"
trap 'umount "$root/proc"; rm -rf --one-file-system "$build"' EXIT
for source in driver integration/guest/module; do
  mkdir -p "$build/$source"
  tar -C "$repository/$source" --exclude='*.o' --exclude='*.ko' --exclude='.*.cmd' --exclude='*.mod*' --exclude=probed.h \
    -cf - . | tar -C "$build/$source" -xf -
  chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    make -j2 -C "${build#"$root"}/$source" KDIR="/lib/modules/$release/build" "$@"
  install -m 644 "$build/$source"/*.ko "$out/"
done
