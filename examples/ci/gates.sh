#!/bin/sh
# Usage: gates.sh GRID TRACE POLICY GATES...
# Replays TRACE over the manifests in GRID, under their own policy and under POLICY, and holds the GATES against the
# latter, the former being the baseline. Leaves reports/. Ends with 0 when all hold, 99 when one failed, 3 when one
# could not be decided or an input is wrong.
set -eu
if [ $# -lt 4 ]; then
    sed -n 's/^# //p' "$0" >&2
    exit 2
fi
grid=$1 trace=$2 policy=$3
shift 3
for file in "$@"; do
    set -- "$@" --gate "$file"
    shift
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CONFIG_HOME="$work" GRIDCTL_STORE="$work/grid"
mkdir -p reports

gridctl replay gate "$@" --dry-run --quiet >reports/gates.txt
gridctl init "$work/grid" --quiet
gridctl apply -f "$grid" --store "$work/grid" --quiet >/dev/null
gridctl replay run "$trace" --name base --no-centralized --quiet >/dev/null

code=0
gridctl replay run "$trace" --name new --policy "$policy" --no-centralized --baseline base "$@" \
    --junit reports/gates.xml || code=$?
if gridctl run get new >/dev/null 2>&1; then
    gridctl replay compare base new -o markdown >reports/compare.md
    gridctl replay gate new --baseline base "$@" -o json >reports/gates.json 2>/dev/null || true
fi
exit "$code"
