#!/bin/sh
# setup.sh ROOT: what must lie there before the packages come. Run by mmdebstrap.
set -eu
root=$1
mkdir -p "$root/etc/default" "$root/boot/firmware" "$root/data"
cp -a --no-preserve=ownership "$ROOTFS/etc/initramfs-tools" "$root/etc/"
mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
printf 'MODULES=list\nCOMPRESS=zstd\n' >"$root/etc/initramfs-tools/conf.d/image"
printf '%s\n' $INITRAMFS_MODULES >"$root/usr/share/initramfs-tools/modules.d/image.conf"
# The initial file system is made once, at the end, and not by each package.
printf 'update_initramfs=no\nbackup_initramfs=no\n' >"$root/etc/initramfs-tools/update-initramfs.conf"
printf 'ROOTPART=LABEL=root\nCONSOLES="tty0 ttyS1,115200"\nCMA=0\n' >"$root/etc/default/raspi-firmware"
# A restart of the exporter drops no relay.
printf '%s\n' ro pinctrl_bcm2835.persist_gpio_outputs=1 | paste -sd ' ' >"$root/etc/default/raspi-extra-cmdline"
