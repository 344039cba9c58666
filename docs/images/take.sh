#!/bin/bash
# Takes the pictures of the status page: a lab with a switchover behind it and under load, looked at by headless Chromium
# on the lab's client host. Usage: docs/images/take.sh HACTL_LAB (needs root and chromium).
set -euo pipefail

lab=${1:?usage: $0 path/to/hactl-lab}
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
end() { "$lab" --dir "$dir/lab" down || true; rm -rf "$dir"; }
trap end EXIT

run() { "$lab" --dir "$dir/lab" "$@"; }

# The lab's hosts see little of /etc: the program itself rather than the distribution's wrapper.
browser=/usr/lib/chromium/chromium
[ -x "$browser" ] || { echo "chromium is missing: apt-get install chromium" >&2; exit 1; }

picture() { # NAME WIDTH,HEIGHT
    run exec client -- sh -c "HOME=/tmp $browser --headless --no-sandbox --disable-gpu --hide-scrollbars \
        --user-data-dir=/tmp/chromium --window-size=$2 --screenshot=/lab/$1.png http://10.0.1.21:7000/" 2>/dev/null
    cp "$dir/lab/client/work/$1.png" "$here/$1.png"
}

run up
run load --seconds 60 &
load=$!
run exec client -- hactl switchover --yes
# So that the graph has something to show.
sleep 25
picture status-page-wide 1280,1000
picture status-page-narrow 500,1500
wait "$load"
