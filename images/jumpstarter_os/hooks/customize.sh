#!/bin/sh
# customize.sh ROOT: what is done once the packages are there. Run by mmdebstrap.
set -eu
root=$1
cp -a --no-preserve=ownership "$ROOTFS/." "$root/"
mkdir -p "$root/usr/lib/jumpstarter-image"
cp -a --no-preserve=ownership "$PROGRAM" "$root/usr/lib/jumpstarter-image/"
find "$root/usr/lib/jumpstarter-image" -name __pycache__ -prune -exec rm -r {} +
rm -f "$root"/usr/lib/jumpstarter-image/*/test_*.py
cp "$EXAMPLE" "$root/boot/firmware/jumpstarter.yaml"
echo jumpstarter >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 jumpstarter\n::1 localhost\n' >"$root/etc/hosts"

if [ -n "$DEBS" ]; then
    mkdir "$root/tmp/debs"
    cp $DEBS "$root/tmp/debs/"
    chroot "$root" sh -c 'DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends /tmp/debs/*.deb'
    # The way back of the first update, and libraries that no update replaces under the feet of what takes it back. Links take no
    # room, and dpkg leaves them as they are.
    mkdir "$root/usr/lib/jumpstarter-image/packages"
    mv "$root/tmp/debs"/*.deb "$root/usr/lib/jumpstarter-image/packages/"
    rmdir "$root/tmp/debs"
    cp -al "$root/usr/lib/jumpstarter/exporter/lib" "$root/usr/lib/jumpstarter-image/lib"
    # Who logs in with a key of jumpstarter.yaml; there is no password.
    chroot "$root" useradd --create-home --shell /bin/bash --groups sudo,jumpstarter lab
    echo 'lab ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/lab"
    chmod 0440 "$root/etc/sudoers.d/lab"
    # Compiled here: the root is read-only there.
    chroot "$root" python3.13 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/jumpstarter-image/jumpstarter_image
    chroot "$root" systemctl enable --quiet jumpstarter-image.service jumpstarter-image.path \
        jumpstarter-image-enrol.service jumpstarter-image-status.timer jumpstarter-controller.service \
        jumpstarter-exporter.service jumpstarter-exporter.socket jumpstarter-image-update.service \
        jumpstarter-image-time-sources.path jumpstarter-image-time-sources.service \
        jumpstarter-image-time-server.service
fi
chroot "$root" systemctl enable --quiet systemd-networkd systemd-resolved chrony jumpstarter-image-grow.service \
    jumpstarter-image-clock.service jumpstarter-image-clock-keep.timer
# The first start of a host without a clock is not before this (systemd(1), "/usr/lib/clock-epoch").
touch "$root/usr/lib/clock-epoch"
# wpa_supplicant is started for each radio by a rule of ours.
chroot "$root" systemctl disable --quiet wpa_supplicant 2>/dev/null || true

# Each card makes its own.
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/systemd/random-seed" "$root/var/lib/dbus/machine-id"
echo uninitialized >"$root/etc/machine-id"

printf 'update_initramfs=yes\nbackup_initramfs=no\n' >"$root/etc/initramfs-tools/update-initramfs.conf"
chroot "$root" update-initramfs -c -k all
if [ -d "$root/usr/lib/raspi-firmware" ]; then
    chroot "$root" env DEB_MAINT_PARAMS=configure /etc/kernel/postinst.d/z50-raspi-firmware
fi
# The boot loader reads the kernel of the first partition; the package's own copy of it is 52 MB more.
rm -f "$root"/usr/lib/modules/*/vmlinuz
# What the host starts from stays as it is: only a new image replaces it, whole (docs/image.md, "Updates").
printf 'update_initramfs=no\nbackup_initramfs=no\n' >"$root/etc/initramfs-tools/update-initramfs.conf"
chroot "$root" sh -c 'dpkg-query -W -f "\${Package}\n" | grep -xE "linux-image-.*|raspi-firmware" | xargs apt-mark hold' >/dev/null
# Debian's own archive, however this machine reaches one; and dpkg writes so that a power cut finds the old or the new.
rm -rf "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*
for suite in "$RELEASE" "$RELEASE-updates"; do
    echo "deb http://deb.debian.org/debian $suite $COMPONENTS"
done >"$root/etc/apt/sources.list.d/debian.list"
echo "deb http://deb.debian.org/debian-security $RELEASE-security $COMPONENTS" >>"$root/etc/apt/sources.list.d/debian.list"
echo 'Apt::Install-Recommends "false";' >"$root/etc/apt/apt.conf.d/99mmdebstrap"
sed -i '/^force-unsafe-io$/d' "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"

# Nothing here is older than what the first boot would make anew: caches of the linker, of messages, of hardware.
touch "$root/etc/.updated" "$root/var/.updated"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt
