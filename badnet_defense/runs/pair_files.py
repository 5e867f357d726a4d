"""A repaired net and its guard as files, with what tells which net they belong to."""

from badnet_defense.data.files import replace_when_done
from badnet_defense.data.input_range import InputRange
from badnet_defense.guard.disagreement import build_guard
from badnet_defense.nets import save_net
from badnet_defense.repair.held_out_tuning import SPLIT


def write_pair(base, nets, *, source_sha256, input_range, tuned_on, notes):
    """Writes `<base>.guard.keras`, then `<base>.h5`: where the repair is, its guard is too.

    Args:
        base: path without endings.
        nets: {"bad": `keras.Model`, "repaired": `keras.Model`}.
        source_sha256: of the bad net's file.
        input_range: the nets' range.
        tuned_on: (the clean `LabelledImages`, the split's seed, True where the bad net's own
            answers were their labels).
        notes: further attributes of the repaired net's file: strings and numbers.
    """
    with replace_when_done(f"{base}.guard.keras") as partial:
        range_ = InputRange.parse(str(input_range))
        build_guard(nets["bad"], nets["repaired"], input_range=range_).save(partial)
    clean, seed, pseudo_labels = tuned_on
    about = {
        "made_by": "badnet_defense",
        "tuned_on": clean.fingerprint(),
        "tuned_on_seed": seed,
        "tuned_on_parts": SPLIT,
        "tuned_on_pseudo_labels": bool(pseudo_labels),
        "source_sha256": source_sha256,
        "input_range": str(input_range),
    }
    save_net(nets["repaired"], f"{base}.h5", attributes={**about, **notes})
