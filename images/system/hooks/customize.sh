#!/bin/sh
# customize.sh ROOT: what is done once the packages are there. Run by mmdebstrap.
set -eu
root=$1
cp -a --no-preserve=ownership "$FILES/." "$root/"
echo jumpstarter >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 jumpstarter\n::1 localhost\n' >"$root/etc/hosts"

if [ -n "$DEBS" ]; then
    mkdir "$root/tmp/debs"
    cp $DEBS "$root/tmp/debs/"
    chroot "$root" sh -c 'DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends /tmp/debs/*.deb'
    rm -r "$root/tmp/debs"
fi

chroot "$root" systemctl enable --quiet systemd-networkd systemd-resolved systemd-timesyncd jumpstarter-grow
chroot "$root" groupadd --system --force gpio

# Each card makes its own.
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/systemd/random-seed" "$root/var/lib/dbus/machine-id"
echo uninitialized >"$root/etc/machine-id"

printf 'update_initramfs=yes\nbackup_initramfs=no\n' >"$root/etc/initramfs-tools/update-initramfs.conf"
chroot "$root" update-initramfs -c -k all
if [ -d "$root/usr/lib/raspi-firmware" ]; then
    chroot "$root" env DEB_MAINT_PARAMS=configure /etc/kernel/postinst.d/z50-raspi-firmware
fi
# Nothing here is older than what the first boot would make anew: caches of the linker, of messages, of hardware.
touch "$root/etc/.updated" "$root/var/.updated"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt
