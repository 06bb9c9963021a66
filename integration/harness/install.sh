#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# install.sh install|uninstall: puts the product on this server, or takes it off again. With DESTDIR it only stages the
# files there: no DKMS, no group, no systemd. Configuration (/etc/elio) and state (/var/lib/elio) survive an uninstall.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
dest=${DESTDIR:-}
module=elastio-snap
version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' driver/dkms.conf)
library=/usr/lib/elio
source=/usr/src/$module-$version
load=/usr/lib/modules-load.d/elio.conf
list=/etc/elio/reload
dracut=/usr/lib/dracut/modules.d/90elio-snap
# Where each goes, and its mode.
declare -A files=(
  [build/rescue/elio-rescue]="/usr/sbin/elio-rescue 755"
  [agent/packaging/eliod.service]="/usr/lib/systemd/system/eliod.service 644"
  [agent/packaging/elio-reload.service]="/usr/lib/systemd/system/elio-reload.service 644"
  [agent/packaging/10-elio-snap.rules]="/usr/lib/udev/rules.d/10-elio-snap.rules 644"
  [agent/packaging/initramfs-tools/hook]="/usr/share/initramfs-tools/hooks/elio-snap 755"
  [agent/packaging/initramfs-tools/local-premount]="/usr/share/initramfs-tools/scripts/local-premount/elio-snap 755"
  [agent/packaging/dracut/module-setup.sh]="$dracut/module-setup.sh 755"
  [agent/packaging/dracut/reload-root.sh]="$dracut/reload-root.sh 755"
  [dist/share/man/man8/elioctl.8]="/usr/share/man/man8/elioctl.8 644"
  [dist/share/bash-completion/completions/elioctl]="/usr/share/bash-completion/completions/elioctl 644"
  [dist/share/zsh/vendor-completions/_elioctl]="/usr/share/zsh/vendor-completions/_elioctl 644"
  [dist/share/fish/vendor_completions.d/elioctl.fish]="/usr/share/fish/vendor_completions.d/elioctl.fish 644"
)
declare -A programs=([elioctl]=ctl/src/main.js [eliod]=agent/src/main.js [update-img]=ctl/src/update-img.js)

as_root() {
  if [ "$(id -u)" = 0 ] || [ -n "$dest" ]; then "$@"; else sudo -n "$@"; fi
}

say() {
  echo "elio: $*" >&2
}

# A complete /usr/lib/elio in $1.
stage_library() {
  mkdir -p "$1/dist" "$1/bin"
  cp -r dist/{agent,ctl,proto,elio.binpb} "$1/dist/"
  cp package.json package-lock.json "$1/"
  npm ci --omit=dev --no-audit --no-fund --loglevel=error --prefix "$1" >&2
  # A server whose own Node.js is too old runs the copy that built this.
  local node
  node=$(readlink -f "$(command -v node)")
  if [ "$node" != "$(readlink -f /usr/bin/node 2>/dev/null)" ]; then cp "$node" "$1/bin/node"; fi
  for program in "${!programs[@]}"; do
    cat > "$1/bin/$program" <<END
#!/bin/sh
PATH=$library/bin:\$PATH exec node $library/dist/${programs[$program]} "\$@"
END
    chmod 755 "$1/bin/$program"
  done
  chmod -R u=rwX,go=rX "$1"
}

install_files() {
  # Not local: the trap needs it when this function has ended.
  stage=$(mktemp -d)
  trap 'rm -rf "$stage"' EXIT
  say "installing the production npm packages"
  stage_library "$stage/elio"
  as_root install -d "$dest/usr/lib" "$dest/usr/bin" "$dest$source" "$dest$(dirname "$load")"
  as_root rm -rf "$dest$library.new"
  as_root cp -r --no-preserve=ownership "$stage/elio" "$dest$library.new"
  as_root rm -rf "$dest$library"
  as_root mv "$dest$library.new" "$dest$library"
  for program in "${!programs[@]}"; do
    as_root ln -sf "$library/bin/$program" "$dest/usr/bin/$program"
  done
  tar -C driver --exclude='*.o' --exclude='*.ko' --exclude='*.mod*' --exclude='.*.cmd' --exclude=probed.h \
    --exclude=Module.symvers --exclude=modules.order -cf - . |
    as_root tar -C "$dest$source" --no-same-owner -xf -
  local path mode
  for file in "${!files[@]}"; do
    read -r path mode <<< "${files[$file]}"
    as_root install -D -m "$mode" "$file" "$dest$path"
  done
  echo "$module" | as_root tee "$dest$load" >/dev/null
  as_root install -d -m 755 "$dest/etc/elio"
  as_root install -d -m 700 "$dest/etc/elio/tls" "$dest/var/lib/elio"
}

install_headers() {
  [ ! -e "/lib/modules/$(uname -r)/build" ] || return 0
  say "installing the headers of the running kernel, $(uname -r)"
  as_root apt-get -qq install -y --no-install-recommends "linux-headers-$(uname -r)" >&2
}

# For the root filesystem: the module and elio-rescue go into the initramfs, or out of it.
renew_initramfs() {
  local kernel
  kernel=$(uname -r)
  if command -v update-initramfs >/dev/null; then
    [ ! -e "/boot/initrd.img-$kernel" ] || as_root update-initramfs -u -k "$kernel" >&2
  elif command -v dracut >/dev/null; then
    as_root dracut --force --kver "$kernel" >&2
  fi
}

remove_module() {
  ! grep -q '^elastio_snap ' /proc/modules || as_root modprobe -r "$module" ||
    { say "the module is in use: destroy its snapshots first (elioctl list)"; exit 1; }
  ! dkms status "$module/$version" | grep -q . || as_root dkms remove "$module/$version" --all >&2
}

case ${1:-} in
  install)
    [ -n "$dest" ] || install_headers
    install_files
    if [ -n "$dest" ]; then say "staged in $dest"; exit; fi
    getent group elio >/dev/null || as_root groupadd --system elio
    say "building the module with DKMS"
    ! dkms status "$module/$version" | grep -q . || as_root dkms remove "$module/$version" --all >&2
    as_root dkms add "$module/$version" >&2
    as_root dkms install "$module/$version" >&2
    if grep -q '^elastio_snap ' /proc/modules; then
      say "the module of before stays loaded until its snapshots are destroyed and it is reloaded, or until a reboot"
    else
      as_root modprobe "$module"
    fi
    renew_initramfs
    [ ! -d /run/systemd/system ] || as_root systemctl daemon-reload
    say "installed. Start the agent with: systemctl enable --now eliod"
    ;;
  uninstall)
    if [ -z "$dest" ]; then
      [ ! -d /run/systemd/system ] || as_root systemctl disable --now eliod elio-reload 2>/dev/null || true
      remove_module
    fi
    # What the list names ended with the module.
    as_root rm -rf "$dest$library" "$dest$source" "$dest$load" "$dest$list" "$dest$dracut"
    for program in "${!programs[@]}"; do as_root rm -f "$dest/usr/bin/$program"; done
    for file in "${files[@]}"; do as_root rm -f "$dest${file% *}"; done
    if [ -z "$dest" ]; then
      renew_initramfs
      [ ! -d /run/systemd/system ] || as_root systemctl daemon-reload
    fi
    say "removed; /etc/elio and /var/lib/elio are left as they are"
    ;;
  *)
    echo "usage: install.sh install|uninstall" >&2
    exit 2
    ;;
esac
