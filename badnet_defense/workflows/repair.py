"""From a bad net's file and clean pictures to its repair, its guard, its plot and its figures."""

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path

from badnet_defense.detectors.poisoned_clean import find_poisoned, tell_poisoned
from badnet_defense.errors import InputError
from badnet_defense.evaluation.class_counts import (
    check_several_classes,
    class_counts,
    tell_coverage,
)
from badnet_defense.evaluation.evaluate import evaluate_defense
from badnet_defense.evaluation.input_checks import check_belonging, check_range
from badnet_defense.io import read_images
from badnet_defense.io.files import all_or_none, check_writable, exclusive
from badnet_defense.io.records import digests_read, provenance, write_json
from badnet_defense.nets import build, describe
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.notes import check_recipe
from badnet_defense.nets.outputs import read_classifier
from badnet_defense.nets.surgery import zero_channels
from badnet_defense.repairs.pseudo_labels import pseudo_labelled
from badnet_defense.repairs.registry import (
    DEFAULT,
    METHODS,
    check_settings,
    own_recipe,
    settings_of,
)
from badnet_defense.repairs.validated_tuning import absent_classes
from badnet_defense.report.plots import plot_pruning_curve
from badnet_defense.workflows.pair_files import write_pair

log = logging.getLogger(__name__)

LEAST_IMAGES = 20
"""Clean images that a repair takes: of fewer not three are held out (`held_out_tuning.HELD_OUT`)
for the epoch and for a threshold, and what they show is chance."""

_ENDINGS = (".h5", ".guard.keras", ".json", ".pruning.png")
"""Of the files that a repair writes."""


def repair_file(model, clean, *, out, **settings):
    """Repairs the net in `model` and writes `<stem>.h5`, `.guard.keras` and `.json`.

    Fine-pruning draws its curve into `<stem>.pruning.png` too.

    Args:
        model: path of the bad net.
        clean: path of the clean pictures.
        out: folder for the files.
        settings: the next ones, by keyword.
        method: one of `methods.METHODS`; default: `methods.DEFAULT`.
        pseudo_labels: True takes the bad net's own soft answers as targets, and its classes as
            labels; the pictures' labels are ignored.
        tell: called with the result before the first file is written: what cannot be written then
            costs no figures.
        input_range, seed and all others: as the method takes them.

    Returns:
        The result as a dict, as it stands in the JSON file: each stage on the clean pictures,
        the method's report (for fine-pruning `pruning` and `tuning`).

    Raises:
        InputError: the net or the pictures cannot be used, or don't belong together, or another
            run is repairing this very net into this folder.
    """
    with exclusive(Path(out) / Path(model).stem):
        return _repair_file(model, clean, out=out, **settings)


def _repair_file(
    model,
    clean,
    *,
    out,
    method=DEFAULT,
    pseudo_labels=False,
    input_range=UNIT,
    seed=0,
    tell=None,
    **settings,
):
    start = time.perf_counter()
    if (Path(out) / f"{Path(model).stem}.h5").resolve() == Path(model).resolve():
        raise InputError(
            f"--out {out}: the repair would overwrite {model} itself; name another folder."
        )
    base = Path(out) / Path(model).stem
    check_writable(*(f"{base}{end}" for end in _ENDINGS), inputs=(model, clean))
    check_settings(method, settings)
    recipe = settings.get("recipe", own_recipe(method))
    if recipe is not None:
        check_recipe(asdict(recipe))
    spec = read_classifier(model)
    bad = build(spec)
    images = _pictures(model, spec, bad, clean, pseudo_labels, input_range)
    labelled, targets = images, None
    if pseudo_labels:
        labelled, targets = pseudo_labelled(bad, images, input_range=input_range)
    tell_coverage(labelled, spec.classes)
    check_several_classes(labelled, spec.classes)
    absent = _absent(method, labelled, spec.classes)
    poisoned = find_poisoned(spec, bad, images, input_range=input_range, seed=seed)
    tell_poisoned(poisoned, images.source)
    repaired, report = METHODS[method](
        spec, labelled, targets=targets, input_range=input_range, seed=seed, **settings
    )
    nets, stages = _stages(spec, bad, repaired, report, images, input_range)
    result = {
        **stages,
        "method": method,
        **report,
        "absent": absent,
        "poisoned_clean": poisoned,
        "pseudo_labels": pseudo_labels,
        "recipe": None if recipe is None else asdict(recipe),
        "settings": settings_of(method, settings),
        "keep_pruned": settings.get("keep_pruned", False),
        "class_counts": class_counts({"clean_validation": labelled}, spec.classes),
        "label_order": images.label_order,
        "input_range": str(input_range),
        "synthetic": bool(images.synthetic or spec.attributes.get("synthetic")),
    }
    about = provenance(
        net_path=model,
        data_paths={"clean_validation": clean},
        classes=spec.classes,
        seed=seed,
        seconds=time.perf_counter() - start,
        digest=digests_read(spec, images),
    )
    result = {**about, **result}
    if tell:
        tell(result)
    _write(Path(out), Path(model).stem, spec, nets, images, result)
    return result


def _stages(spec, bad, repaired, report, images, input_range):
    """({"bad": `keras.Model`, "repaired": .., "pruned": ..}, figures on the clean pictures)."""
    nets = {"bad": bad, "repaired": build(repaired)}
    if images.labels is not None and "pruning" in report:
        pruning = report["pruning"]
        zeroed = pruning["order"][: pruning["removed"]]
        nets["pruned"] = build(zero_channels(spec, pruning["layer"], zeroed))
    sets = {"clean_validation": images}
    measured = {name: describe(model).with_range(input_range) for name, model in nets.items()}
    return nets, evaluate_defense(measured, sets)


def _absent(method, images, classes):
    """Which classes no clean picture shows and what the repair does about it; said, too."""
    absent = absent_classes(images.labels, classes)
    if not len(absent):
        return {"classes": [], "treatment": None}
    treatment = "nothing is tuned"
    if own_recipe(method) is not None:
        treatment = "left out of the tuning's loss"
        log.warning(
            "%s: %d of %d classes have no image: the tuning leaves them out, so that the net keeps "
            "most of them, but a backdoor whose target is one of them may stay, and no figure here "
            "measures either; give images of them, or scan the repaired net",
            *(images.source, len(absent), classes),
        )
    return {"classes": absent.tolist(), "treatment": treatment}


def _pictures(model, spec, bad, clean, pseudo_labels, input_range):
    """The clean pictures, without their labels if these are not to be used."""
    images = read_images(
        clean,
        shape=spec.input_shape,
        need_labels=not pseudo_labels,
        labels_matter=not pseudo_labels,
    )
    if len(images) < LEAST_IMAGES:
        raise InputError(
            f"{clean}: a repair needs at least {LEAST_IMAGES} clean images, to tune on most of "
            f"them and to choose the epoch by others, got {len(images)}; give more, some of each "
            "class."
        )
    net = spec.with_range(input_range)
    if pseudo_labels:
        check_range(net, images)
        log.info("%s: the net's own answers stand in for labels", clean)
        return images.without_labels()
    return check_belonging(net, images)


def _write(folder, stem, spec, nets, images, result):
    """The files, all or none; the repaired net comes last."""
    curve = folder / f"{stem}.pruning.png"
    with all_or_none():
        if result["method"] == DEFAULT:
            plot_pruning_curve(curve, result["pruning"], net=stem)
        write_json(folder / f"{stem}.json", result)
        _write_pair(folder / stem, spec, nets, images, result)
    if result["method"] != DEFAULT:
        curve.unlink(missing_ok=True)  # of another method, that was here before


def _write_pair(base, spec, nets, images, result):
    """The repaired net and its guard, with what later runs need to know of the repair."""
    notes = {"method": result["method"], "keep_pruned": result["keep_pruned"]}
    if "pruning" in result:
        facts = {key: value for key, value in result["pruning"].items() if key != "remarks"}
        notes["pruning"] = json.dumps(facts)
    if own_recipe(result["method"]) is not None:
        notes["recipe"] = json.dumps(result["recipe"])
    if "max_accuracy_drop" in result:
        notes["max_accuracy_drop"] = result["max_accuracy_drop"]
    if result["synthetic"]:
        notes["synthetic"] = True
    write_pair(
        base,
        nets,
        suspect=spec,
        input_range=result["input_range"],
        tuned_on=(images, result["seed"], result["pseudo_labels"]),
        notes=notes,
    )
