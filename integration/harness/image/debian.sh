#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# debian.sh OUT SOURCES APT_OPTIONS SUITE: builds OUT/root.ext4, a Debian of SUITE as a server has it (systemd, its own kernel and
# initramfs, headers, DKMS), and copies of what it boots with: OUT/vmlinuz, OUT/initrd.
set -euo pipefail
out=$1 sources=$2 apt_options=$3 suite=$4
guest=$(dirname "$(readlink -f "$0")")/../../guest

packages=(
  dbus dkms e2fsprogs gcc initramfs-tools iproute2 kmod libc6-dev linux-headers-amd64 linux-image-amd64 make openssh-server
  openssh-sftp-server openssl procps psmisc systemd systemd-sysv udev util-linux xfsprogs zstd
)
# What would run while a test does.
masked=(
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
  getty@tty1.service logrotate.timer man-db.timer serial-getty@ttyS0.service ssh.service ssh.socket systemd-timesyncd.service
)
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
# The initramfs has the drivers of a test machine only: it is unpacked by an emulated processor.
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
echo MODULES=list > "$root/etc/initramfs-tools/conf.d/elio-harness"
printf '%s\n' virtio_pci virtio_blk virtio_scsi sd_mod nvme ext4 > "$root/usr/share/initramfs-tools/modules.d/elio-harness"
cat > "$root/etc/fstab" <<END
/dev/disk/by-id/virtio-elio-root / ext4 noatime 0 0
/dev/disk/by-id/virtio-elio-payload /opt/elio ext4 ro,noatime 0 0
END
mmdebstrap --quiet --mode=root --variant=apt --skip=check/empty --aptopt="$apt_options" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include="$(IFS=,; echo "${packages[*]}")" "$suite" "$root" "$sources"

echo elio-guest > "$root/etc/hostname"
sed -i 's/^root:[^:]*/root:/' "$root/etc/shadow"
mkdir -p "$root/opt/elio"
cp "$guest/debian/elio-harness.service" "$root/etc/systemd/system/"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../elio-harness.service "$root/etc/systemd/system/multi-user.target.wants/"
for unit in "${masked[@]}"; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
rm -rf "$root"/var/cache/apt "$root"/var/lib/apt/lists
# Nothing under /usr is newer: what systemd would make anew at the first boot takes an emulated processor a minute.
touch "$root/etc/.updated" "$root/var/.updated"
cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd"
truncate -s 6G "$out/root.ext4"
mkfs.ext4 -q -L elio-root -E lazy_itable_init=1 -d "$root" "$out/root.ext4"
