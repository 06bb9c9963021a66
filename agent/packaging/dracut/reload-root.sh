#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sourced by dracut before root is checked and mounted, when what it lies on (LUKS, say) has been unlocked.
case ${root:-} in
  block:/*)
    # Without the module elio-rescue complains, but only if root was tracked.
    modprobe -q elastio-snap
    # The mount waits for this; what it mounts need not be there yet, since systemd waits for that only then.
    # The boot goes on whatever comes of it: at worst the next backup is a full.
    elio-rescue reload --root "${root#block:}" --wait 30 2> /dev/kmsg || :
    ;;
esac
