#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# system.sh OUT ROOT KERNEL_DIRECTORY MODULE PRODUCT KEYS: builds OUT/root.ext4, a Debian that boots by itself: ROOT with what it
# needs of a kernel's modules, with MODULE, and with what the packages hold, unpacked in PRODUCT; and an initramfs by each of its own
# tools, OUT/initramfs-tools and OUT/dracut. The guest announces itself and takes commands as other guests do.
set -euo pipefail
if [ "${1:-}" != --inside ]; then
  # As in module.sh: /proc is mounted where only this build sees it.
  propagation=private
  unshare --mount true 2>/dev/null || propagation=unchanged
  exec unshare --mount --propagation "$propagation" --pid --fork --kill-child bash "$0" --inside "$@"
fi
shift
out=$1 root=$2 kernel_directory=$3 module=$4 product=$5 keys=$6
kernel=$(cat "$kernel_directory/release")

stage=$(mktemp -d)
trap '! mountpoint -q "$stage/proc" || umount "$stage/proc"; rm -rf --one-file-system "$stage"' EXIT
cp -a "$root/." "$stage"
cp -r --no-preserve=ownership "$product/." "$stage"

modules=/usr/lib/modules/$kernel
drivers=(virtio_pci virtio_blk virtio_net virtio_rng ext4 crc32c_generic xfs loop nbd sd_mod scsi_debug autofs4 af_packet)
mkdir -p "$stage$modules/updates"
for driver in "${drivers[@]}"; do
  modprobe -d "$kernel_directory/root" -S "$kernel" --show-depends "$driver" 2>/dev/null || true
done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r path; do
  install -D -m 644 "$path" "$stage$modules/${path#*"/modules/$kernel/"}"
done
cp "$kernel_directory/root$modules"/modules.{builtin,builtin.modinfo,order} "$stage$modules/"
cp "$kernel_directory/root/boot/config-$kernel" "$stage/boot/"
install -m 644 "$module" "$stage$modules/updates/elastio-snap.ko"

echo elio-guest > "$stage/etc/hostname"
echo 00000000000000000000000000000e10 > "$stage/etc/machine-id"
echo 'LABEL=elio-system / ext4 defaults 0 1' > "$stage/etc/fstab"
printf 'MODULES=list\nCOMPRESS=gzip\n' > "$stage/etc/initramfs-tools/conf.d/elio-guest"
printf '%s\n' virtio_pci virtio_blk ext4 crc32c_generic > "$stage/etc/initramfs-tools/modules"
install -D -m 600 "$keys/client.pub" "$stage/root/.ssh/authorized_keys"
rm -f "$stage"/etc/ssh/ssh_host_*
install -m 600 "$keys/host" "$stage/etc/ssh/ssh_host_ed25519_key"
cat > "$stage/etc/systemd/network/eth0.network" <<END
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
END
cat > "$stage/etc/systemd/system/elio-guest-ready.service" <<END
[Unit]
After=ssh.service eliod.service systemd-networkd.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "elio: guest ready" > /dev/console'
[Install]
WantedBy=multi-user.target
END

mount -t proc proc "$stage/proc"
inside() {
  chroot "$stage" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}
inside depmod "$kernel"
inside groupadd --system elio
inside passwd --quiet --delete root
inside systemctl --quiet enable eliod systemd-networkd elio-guest-ready
inside systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer systemd-firstboot.service \
  serial-getty@ttyS0.service getty@tty1.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount
# Nothing under /usr is newer: what systemd would make anew at the first boot takes an emulated processor a minute.
touch "$stage/etc/.updated" "$stage/var/.updated"
inside update-initramfs -c -k "$kernel"
inside dracut --quiet --no-hostonly --gzip --kver "$kernel" /boot/dracut
umount "$stage/proc"
mv "$stage/boot/initrd.img-$kernel" "$out/initramfs-tools"
mv "$stage/boot/dracut" "$out/dracut"
chmod 644 "$out/dracut"

truncate -s 1G "$out/root.ext4"
mkfs.ext4 -q -L elio-system -d "$stage" "$out/root.ext4"
