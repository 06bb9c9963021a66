#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sourced by dracut before root is checked and mounted, when what it lies on (LVM, LUKS, md) is there.
case ${root:-} in
  block:/*)
    # Without the module elio-rescue complains, but only if root was tracked.
    modprobe -q elastio-snap
    # The boot goes on whatever comes of it: at worst the next backup is a full.
    elio-rescue reload --root "${root#block:}" 2> /dev/kmsg || :
    ;;
esac
