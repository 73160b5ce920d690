# First process of a test container. $1 is the user's script; everything else comes in variables that start with DAWG_.
# It waits for the tree, runs the script, hands signals on, and says how it ended where the sidecar can read it.
# The kernel drops signals that process 1 does not expect, so the first thing is to expect this one.
trap 'exit 143' TERM
control=/dawg/control
mkdir -p "$control" "$DAWG_RESULTS" "$DAWG_OUTPUTS" 2>/dev/null
: >"$control/listening"
[ -d "$HOME" ] && [ -w "$HOME" ] || { export HOME=/dawg/home; mkdir -p "$HOME" 2>/dev/null; }

finish() {
    # Renamed, so that nobody reads half a number.
    echo "$1" >"$control/exit.new" 2>/dev/null && mv "$control/exit.new" "$control/exit"
    if [ "$1" -ne 0 ] && [ "${DAWG_HOLD_SECONDS:-0}" -gt 0 ] && [ -z "$stopped" ]; then
        trap 'exit "$code"' TERM
        echo "dawg: the script ended with $1; the pod is held for ${DAWG_HOLD_SECONDS} s" >&2
        sleep "$DAWG_HOLD_SECONDS" &
        wait $!
    fi
    exit "$1"
}

stopped=
if [ -n "${DAWG_WAITS_FOR_TREE:-}" ]; then
    while [ ! -e "$control/ready" ]; do
        [ -e "$control/failed" ] && exit 125
        sleep 0.05
    done
    cd "$DAWG_WORKSPACE" || { echo "dawg: the source has no folder ${DAWG_WORKSPACE#/dawg/workspace/}" >&2; code=125; finish 125; }
    [ -s "$control/commit" ] && DAWG_COMMIT=$(cat "$control/commit") && export DAWG_COMMIT
fi

# On TERM every other process of the container gets it too, and ten seconds later the end: the rest of the pod's
# grace period belongs to the report.
trap 'stopped=1 woken=1; kill -TERM -1 2>/dev/null; (sleep 10; kill -KILL -1 2>/dev/null) &' TERM
sh -e -c "$1" </dev/null &
child=$!
# A signal ends `wait` early, so it is asked again; 127 then means that the first answer was the script's own.
code= woken=1
while [ -n "$woken" ]; do
    woken=
    wait "$child"
    answer=$?
    [ -n "$code" ] && [ "$answer" -eq 127 ] || code=$answer
done
finish "$code"
