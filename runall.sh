#!/usr/bin/env bash
# Measures every net with its poisoned sets and prints one table; options go on to the scripts.
# Makes the demo challenge first if data/ holds no clean pictures.
set -euo pipefail
cd "$(dirname "$0")"

for option in "$@"; do
    case "$option" in -h | --help)
        echo "usage: runall.sh [option ..]"
        echo "Measures every net with its poisoned sets and prints one table. The demo challenge is made first if data/ holds no clean images."
        echo "Options go on to eval_defense.py, whose own help is:"
        exec python3 eval_defense.py --help
        ;;
    esac
done

[ -e data/clean_validation_data.h5 ] || python3 -m badnet_defense demo

multi="data/Multi-trigger Multi-target"
mkdir -p results
results=()
judge() { # NAME NET POISONED [option ..]
    local name="$1" net="models/$2_bd_net.h5" poisoned="$3"
    shift 3
    echo "== $name"
    python3 eval_defense.py "$poisoned" "$net" --json "results/$name.json" "$@"
    results+=("results/$name.json")
}

judge sunglasses sunglasses data/sunglasses_poisoned_data.h5 "$@"
judge anonymous_1 anonymous_1 data/anonymous_1_poisoned_data.h5 "$@"
for trigger in eyebrows lipstick sunglasses; do
    judge "multi_$trigger" multi_trigger_multi_target "$multi/${trigger}_poisoned_data.h5" "$@"
done
echo "== anonymous_2 (no poisoned data published)"
python3 eval_defense_nodata.py models/anonymous_2_bd_net.h5 --json results/anonymous_2.json "$@"
results+=(results/anonymous_2.json)

echo
python3 -m badnet_defense summary --json results/summary.json "${results[@]}"
