"""A repaired net and its guard as files, with what tells which net they belong to."""

from badnet_defense.guards.disagreement import build_guard
from badnet_defense.io.files import atomic_write
from badnet_defense.nets import build, save_net
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.outputs import FORM, as_given
from badnet_defense.repairs.validated_tuning import SPLIT


def write_pair(base, nets, *, input_range, tuned_on, notes):
    """Writes `<base>.guard.keras`, then `<base>.h5`: where the repair is, its guard is too.

    Args:
        base: path without endings.
        nets: {"bad": the suspect model (`Net`) as it was read, "repaired": `Net`}: the repaired
            net's file has the same kind of output as the suspect model's own, the guard's nets
            have probabilities.
        input_range: the nets' range.
        tuned_on: (the clean `Dataset`, the split's seed, True where the bad net's own
            answers were their labels).
        notes: further attributes of the repaired net's file: strings and numbers.
    """
    suspect, repaired = nets["bad"], nets["repaired"]
    with atomic_write(f"{base}.guard.keras") as partial:
        range_ = InputRange.parse(str(input_range))
        build_guard(*(net.with_range(range_) for net in (suspect, repaired))).save(partial)
    clean, seed, pseudo_labels = tuned_on
    about = {
        "made_by": "badnet_defense",
        "tuned_on": clean.fingerprint(),
        "tuned_on_seed": seed,
        "tuned_on_parts": SPLIT,
        "tuned_on_pseudo_labels": bool(pseudo_labels),
        "source_sha256": suspect.attributes["file_sha256"],
        "input_range": str(input_range),
    }
    written = as_given(repaired, suspect.attributes.get(FORM))
    save_net(build(written), f"{base}.h5", attributes={**about, **notes})
