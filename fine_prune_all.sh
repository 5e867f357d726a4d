#!/usr/bin/env bash
# Repairs the four nets of the challenge and prints one table; options go on to fine_prune.py.
# Makes the demo challenge first if data/ holds no clean pictures.
set -euo pipefail
cd "$(dirname "$0")"

for option in "$@"; do
    case "$option" in -h | --help)
        echo "usage: fine_prune_all.sh [option ..]"
        echo "Repairs the four nets of the challenge and prints one table. The demo challenge is made first if data/ holds no clean images."
        echo "Options go on to fine_prune.py, whose own help is:"
        exec python3 fine_prune.py --help
        ;;
    esac
done

[ -e data/clean_validation_data.h5 ] || python3 -m badnet_defense demo

out=fine_pruned_models
previous=""
for option in "$@"; do
    case "$option" in --out=*) out="${option#--out=}" ;; esac
    [ "$previous" = "--out" ] && out="$option"
    previous="$option"
done

results=()
for net in sunglasses anonymous_1 anonymous_2 multi_trigger_multi_target; do
    python3 fine_prune.py "models/${net}_bd_net.h5" "$@"
    results+=("$out/${net}_bd_net.json")
done
echo
python3 -m badnet_defense summary "${results[@]}"
