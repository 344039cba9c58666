#!/bin/bash
# Makes the file system of the virtual machine of `make test-watchdog`: busybox, the kernel's watchdog drivers, pg-guard, the
# test's own program as its agent, and a PostgreSQL that only sleeps.
#
#   initramfs.sh KERNEL_TREE GUARD GUEST OUT     KERNEL_TREE: an unpacked kernel package
set -euo pipefail

tree=$1 guard=$2 guest=$3 out=$4
root=$(mktemp -d)
chmod 0755 "$root" # it becomes the root directory, which PostgreSQL's user must pass
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc,var/lib,modules,data,usr/lib/postgresql/15/bin}

cp "$(command -v busybox)" "$root/bin/busybox"
for name in sh mount insmod sleep chmod sed poweroff; do ln -s busybox "$root/bin/$name"; done

cp "$guard" "$root/bin/pg-guard"
cp "$guest" "$root/bin/guest"
# The libraries of both, at the paths where their loader looks for them.
ldd "$guard" "$guest" | grep -o '/[^ ]*\.so[^ ]*' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

for module in watchdog softdog i6300esb; do
    file=$(find "$tree" -name "$module.ko*" -print -quit)
    case $file in
    *.ko) cp "$file" "$root/modules/$module.ko" ;;
    *.ko.xz) xz -dc "$file" >"$root/modules/$module.ko" ;;
    *.ko.zst) zstd -qdc "$file" >"$root/modules/$module.ko" ;;
    '') [ "$module" = watchdog ] || { echo "no $module in $tree" >&2; exit 1; } ;;
    esac
done

printf 'root:x:0:0::/:/bin/sh\npostgres:x:100:100::/:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\npostgres:x:100:\n' >"$root/etc/group"
printf '#!/bin/sh\nexec /bin/sleep 100000\n' >"$root/usr/lib/postgresql/15/bin/postgres"
cat >"$root/etc/cluster.toml" <<'TOML'
name = "machine"
[[database]]
name = "pg1"
address = "127.0.0.1"
[postgres]
bin_dir = "/usr/lib/postgresql/15/bin"
data_dir = "/data"
log_file = "/tmp/postgres.log"
# Everything is slow in an emulated machine: times are long, and only the order of what happens is judged.
[failover]
lease_ttl = "20s"
member_ttl = "60s"
[guard]
watchdog = "required"
TOML
cat >"$root/init" <<'INIT'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
chmod 1777 /tmp
driver=$(sed -n 's/.*guest\.driver=\([a-z0-9]*\).*/\1/p' /proc/cmdline)
[ -e /modules/watchdog.ko ] && insmod /modules/watchdog.ko
insmod "/modules/$driver.ko"
IN_THE_MACHINE=1 /bin/guest --ignored --exact guest --nocapture
echo "GUEST ended with $?"
poweroff -f
INIT
chmod 0755 "$root/init" "$root/usr/lib/postgresql/15/bin/postgres"

(cd "$root" && find . -print0 | cpio --null --quiet -o -H newc) | gzip -1 >"$out"
