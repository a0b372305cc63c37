#!/bin/busybox sh
# The guest's first process: loads modules, mounts the host's root and hands over to session.sh in there.
export PATH=/bin
/bin/busybox --install -s /bin

give_up() {
    echo "guest: $1"
    poweroff -f
}

mount -t proc proc /proc
while read -r module; do
    insmod "/modules/$module" || give_up "cannot load $module"
done </modules/order

# The host's files don't change under a test: the guest may cache them for good.
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=1048576 hostroot /newroot ||
    give_up "cannot mount the host's root"

# A clone below /tmp would vanish under the new /tmp: it is put back in its place.
project=$(cat /project-path)
mount --bind "/newroot$project" /project || give_up "cannot find $project"
for folder in tmp run var/tmp; do
    mount -t tmpfs -o mode=1777 tmpfs "/newroot/$folder" || give_up "cannot mount /$folder"
done
mkdir -p "/newroot$project"
mount --move /project "/newroot$project" || give_up "cannot mount $project"

mount -t devtmpfs devtmpfs /newroot/dev || give_up "cannot mount /dev"
mount -t sysfs sysfs /newroot/sys || give_up "cannot mount /sys"
mount --move /proc /newroot/proc
mkdir /newroot/run/guest /newroot/run/results
cp /bin/busybox /session.sh /newroot/run/guest/
# And not chroot: a process in one may make no user namespace.
exec switch_root /newroot /run/guest/busybox sh /run/guest/session.sh
