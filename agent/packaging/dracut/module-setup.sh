#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the initramfs needs to go on tracking the root filesystem: the module and elio-rescue. What is tracked is read from root
# itself at boot, so the initramfs need not be made anew when that changes.

check() {
  require_binaries elio-rescue
}

installkernel() {
  # Wanted even where it is not loaded when the initramfs is made.
  hostonly='' instmods elastio-snap
}

install() {
  inst_multiple elio-rescue
  inst_hook pre-mount 10 "${moddir:?}/reload-root.sh"
}
