#!/bin/bash
# Builds all fuzz targets and runs them one after another, or those that are named.
#
#   fuzz/run.sh SECONDS [TARGET...]     SECONDS in all, shared out evenly
#
# Everything that a run leaves is below target/fuzz: <target>.log, corpus/<target> (what it found worth keeping, where the next
# run goes on) and findings/<target>- (inputs that failed). Ends with a table, and with an error if there is a finding.
set -euo pipefail

seconds=${1:?usage: fuzz/run.sh SECONDS [TARGET...]}
shift
cd "$(dirname "$0")"
cargo build --locked --release --bins
out=$PWD/../target/fuzz
programs=$out/$(rustc -vV | awk '/^host/ { print $2 }')/release

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    targets=($(cd corpus && ls))
fi
each=$((seconds / ${#targets[@]}))
[ "$each" -gt 0 ] || each=1

status=0
table=()
for target in "${targets[@]}"; do
    [ -d "corpus/$target" ] || { printf 'fuzz: no target %s; there are: %s\n' "$target" "$(ls corpus | xargs)" >&2; exit 2; }
    mkdir -p "$out/corpus/$target" "$out/findings"
    log=$out/$target.log
    printf 'fuzz: %s for %s s, log in target/fuzz/%s.log\n' "$target" "$each" "$target" >&2
    result=none
    # The first corpus is the one that is written to.
    if ! "$programs/$target" "$out/corpus/$target" "corpus/$target" -dict=words.dict -max_len=12000 -timeout=60 \
        -rss_limit_mb=1024 -max_total_time="$each" -print_final_stats=1 -artifact_prefix="$out/findings/$target-" \
        >"$log" 2>&1; then
        result=$(grep -m 1 -E 'panicked at|ERROR: libFuzzer' "$log" || echo 'see its log')
        tail -n 40 "$log" >&2
        status=1
    fi
    executions=$(awk '/^stat::number_of_executed_units/ { print $2 }' "$log" || true)
    kept=$(ls "$out/corpus/$target" | wc -l)
    covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 | cut -d ' ' -f 2 || true)
    table+=("| $target | $each | ${executions:-?} | ${covered:-?} | $kept | $result |")
done
printf '| target | seconds | executions | edges | inputs kept | finding |\n|---|---|---|---|---|---|\n'
printf '%s\n' "${table[@]}"
exit "$status"
