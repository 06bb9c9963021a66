#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# install.sh install|uninstall: puts the packages of build/packages on this server, or takes them off again; /etc/elio and
# /var/lib/elio survive that. With DESTDIR the files of the packages are only unpacked there.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../../.."
packages=(./build/packages/*.deb)

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

case ${1:-} in
  install)
    if [ -n "${DESTDIR:-}" ]; then
      mkdir -p "$DESTDIR"
      for package in "${packages[@]}"; do dpkg-deb -x "$package" "$DESTDIR"; done
      exit
    fi
    # DKMS builds the module for kernels whose headers are there.
    headers=()
    [ -e "/lib/modules/$(uname -r)/build" ] || headers=("linux-headers-$(uname -r)")
    # Packages of the same version may have other content.
    as_root apt-get install -y --no-install-recommends --reinstall "${headers[@]}" "${packages[@]}" >&2
    ;;
  uninstall)
    names=()
    for package in "${packages[@]}"; do names+=("$(dpkg-deb -f "$package" Package)"); done
    as_root apt-get remove -y "${names[@]}" >&2
    ;;
  *)
    echo "usage: install.sh install|uninstall" >&2
    exit 2
    ;;
esac
