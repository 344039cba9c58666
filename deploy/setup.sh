#!/bin/bash
# Installs what building and the lab need on Debian and Ubuntu. Says nothing when nothing is missing.
#
#   deploy/setup.sh         what the programs, the lab and the demonstration need
#   deploy/setup.sh test    and what the tests run beside them: HAProxy, Keepalived, FRR, Patroni, strace, psycopg, Java
#                           with JDBC, Chromium
#   deploy/setup.sh bench   and what pg-proxy is measured against: HAProxy, PgBouncer
#   deploy/setup.sh watchdog   and the emulator that runs a kernel with watchdog devices (that kernel is unpacked, not installed)
#   deploy/setup.sh pictures   and Chromium, which takes the pictures of the status page
#
# Nothing is started and no PostgreSQL cluster is created by it; a cluster or an etcd that exists is left alone.
set -euo pipefail

say() { printf 'setup: %s\n' "$*" >&2; }

missing=()

# need COMMAND PACKAGE: the package when no such command is found.
need() {
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

# For the status page. Ubuntu has Chromium only as a snap: what looks at the page is left out there.
browser() {
    if [ ! -x /usr/lib/chromium/chromium ] && ! grep -q '^ID=ubuntu' /etc/os-release; then
        missing+=(chromium fonts-dejavu-core)
    fi
}

PATH=$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin
need cc build-essential
need make make
need protoc protobuf-compiler
need ip iproute2
need nft nftables
need setpriv util-linux
need psql postgresql-client
need ps procps
need etcd etcd-server
need etcdctl etcd-client
# Services that the tests start in their own hosts, never on this machine.
peers=()
case ${1:-} in
"") ;;
test)
    for peer in haproxy keepalived patroni; do
        command -v "$peer" >/dev/null 2>&1 || peers+=("$peer")
    done
    [ -x /usr/lib/frr/vrrpd ] || peers+=(frr)
    missing+=(${peers[@]+"${peers[@]}"})
    need strace strace
    [ -e /usr/lib/python3/dist-packages/psycopg2 ] || missing+=(python3-psycopg2)
    # Patroni asks etcd over TLS by way of it, and its package only recommends it.
    [ -e /usr/lib/python3/dist-packages/idna ] || missing+=(python3-idna)
    # Tests run JDBC by a script, so a compiler is not needed.
    need java default-jre-headless
    [ -e /usr/share/java/bsh.jar ] || missing+=(libbsh-java)
    [ -e /usr/share/java/postgresql.jar ] || missing+=(libpostgresql-jdbc-java)
    browser
    ;;
bench)
    for peer in haproxy pgbouncer; do
        command -v "$peer" >/dev/null 2>&1 || peers+=("$peer")
    done
    missing+=(${peers[@]+"${peers[@]}"})
    ;;
watchdog)
    need qemu-system-x86_64 qemu-system-x86
    need busybox busybox-static
    need cpio cpio
    ;;
pictures) browser ;;
*)
    say "usage: deploy/setup.sh [test|bench|watchdog|pictures]"
    exit 2
    ;;
esac
if ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && ! compgen -G '/usr/pgsql-*/bin/postgres' >/dev/null; then
    missing+=(postgresql)
fi

# On a fresh machine prost's well-known types come with protoc's headers.
if [ ! -e /usr/include/google/protobuf/empty.proto ] && [ -e /etc/debian_version ]; then
    missing+=(libprotobuf-dev)
fi

install_missing() {
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || { say "root (or sudo) is needed to install: ${missing[*]}"; exit 1; }
        root=(sudo)
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        say "missing: ${missing[*]}"
        say "this script knows apt-get only; install these by the names your distribution gives them"
        exit 1
    fi
    say "installing ${missing[*]}"
    local policy=/usr/sbin/policy-rc.d no_cluster=/etc/postgresql-common/createcluster.d/matriarch-setup.conf
    local undo=()
    # The packages must neither start a daemon nor create a cluster: the lab starts its own.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod 0755 "$policy"
        undo+=("$policy")
    fi
    "${root[@]}" mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' | "${root[@]}" tee "$no_cluster" >/dev/null
    undo+=("$no_cluster")
    # shellcheck disable=SC2064 # the list is complete here
    trap "${root[*]} rm -f ${undo[*]}" EXIT
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y "${missing[@]}"
    # Nor may they start at the next boot, where there is something that would start them.
    if [ ${#peers[@]} -gt 0 ] && command -v systemctl >/dev/null 2>&1; then
        "${root[@]}" systemctl --quiet disable "${peers[@]}" || say "could not disable ${peers[*]}: look at them before the next boot"
    fi
}

if [ ${#missing[@]} -gt 0 ]; then
    install_missing
fi

if ! command -v cargo >/dev/null 2>&1; then
    say "cargo is missing. Install Rust's tool chain manager, then run this again:"
    say "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
    say "the right version follows from rust-toolchain.toml"
    exit 1
fi
