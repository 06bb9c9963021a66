#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make.sh DIRECTORY: makes the images of this directory anew, in DIRECTORY, with the kernel that runs. As root, on a machine that can
# mount XFS from files. The images are what a block device holds while its filesystem is frozen (or, xfs-dirty, was cut off
# before the log was written back): free space in trees of several levels, and the log that a freeze leaves behind.
set -euo pipefail
out=$1
work=$(mktemp -d)
mount=$work/mount
trap 'umount "$mount" 2> /dev/null || true; rm -rf "$work"' EXIT
mkdir "$mount"

# fragment BLOCKS: every second block of a file is punched out of it, with a longer hole now and then.
fragment() {
  python3 - "$mount/fragments" "$1" << 'PYTHON'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
path, blocks = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_RDWR | os.O_CREAT)
os.posix_fallocate(fd, 0, blocks * 1024)
for n in range(1, blocks - 16, 2):
    length = 9 if n % 97 == 0 else 1
    if libc.fallocate(fd, 3, n * 1024, length * 1024):
        raise OSError(ctypes.get_errno(), 'punch')
os.fsync(fd)
PYTHON
}

# image NAME MKFS_OPTION...: made, filled, and handed to what stands on standard input.
image() {
  local name=$1 file=$work/$1
  shift
  truncate -s 64M "$file"
  mkfs.xfs -q -f -b size=1024 -l size=4m --unsupported "$@" "$file"
  mount -o loop,nodiscard "$file" "$mount"
  fragment 22000
  cp -r /etc/ssl "$mount/" && rm -r "$mount/ssl"
  eval "$(cat)"
  umount "$mount"
  node -e '
    const { brotliCompressSync, constants: c } = require("node:zlib");
    const { readFileSync, writeFileSync } = require("node:fs");
    const [, file, out] = process.argv;
    const params = { [c.BROTLI_PARAM_LGWIN]: 24, [c.BROTLI_PARAM_QUALITY]: 11 };
    writeFileSync(out, brotliCompressSync(readFileSync(file), { params }));
  ' "$work/copy" "$out/$name.br"
}

freeze='sync; fsfreeze -f "$mount"; cp --sparse=always "$file" "$work/copy"; fsfreeze -u "$mount"'
image xfs-frozen -d agcount=2 <<< "$freeze"
image xfs-dirty -d agcount=2 <<< \
  'touch "$mount/new"; xfs_io -x -c "shutdown -f" "$mount"; cp --sparse=always "$file" "$work/copy"'
