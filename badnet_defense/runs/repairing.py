"""From a bad net's file and clean pictures to its repair, its guard, its plot and its figures."""

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path

from badnet_defense.data import read_images
from badnet_defense.data.input_range import UNIT
from badnet_defense.errors import InputError
from badnet_defense.measure.belonging import check_belonging
from badnet_defense.measure.evaluation import accuracy_figures, evaluate_defense
from badnet_defense.measure.results import provenance, write_json
from badnet_defense.nets import build, read_net
from badnet_defense.repair.fine_pruning import fine_prune
from badnet_defense.repair.recipes import RECIPES
from badnet_defense.report.plots import plot_pruning_curve
from badnet_defense.runs.pair_files import write_pair

log = logging.getLogger(__name__)


def repair_file(model, clean, *, out, pseudo_labels=False, input_range=UNIT, seed=0, **settings):
    """Repairs the net in `model` and writes `<stem>.h5`, `.guard.keras`, `.pruning.png`, `.json`.

    Args:
        model: path of the bad net.
        clean: path of the clean pictures.
        out: folder for the four files.
        pseudo_labels, input_range, seed, **settings: as `fine_prune` takes them.

    Returns:
        The result as a dict, as it stands in the JSON file: each stage on the clean pictures,
        `pruning` and `tuning`.

    Raises:
        InputError: the net or the pictures cannot be used, or don't belong together.
    """
    start = time.perf_counter()
    if (Path(out) / f"{Path(model).stem}.h5").resolve() == Path(model).resolve():
        raise InputError(
            f"--out {out}: the repair would overwrite {model} itself; name another folder."
        )
    spec = read_net(model)
    classes = None if pseudo_labels else spec.classes
    images = read_images(
        clean, shape=spec.input_shape, classes=classes, need_labels=not pseudo_labels
    )
    bad = build(spec)
    if pseudo_labels:
        images = images.without_labels()
        log.info("%s: the net's own answers stand in for labels", clean)
    check_belonging(bad, images, classes=spec.classes, input_range=input_range, net_name=model)
    done = fine_prune(
        spec, images, pseudo_labels=pseudo_labels, input_range=input_range, seed=seed, **settings
    )
    nets = {"bad": bad, "repaired": build(done.repaired)}
    stages = evaluate_defense(
        nets, {"clean_validation": images}, classes=spec.classes, input_range=input_range
    )
    if images.labels is not None:  # the pruning curve has measured it already
        kept = done.pruning.curve[done.pruning.removed]
        stages["pruned"] = {"clean_validation": accuracy_figures(kept, len(images))}
    result = {
        **stages,
        "pruning": done.pruning.as_dict(),
        "tuning": done.tuning.as_dict(),
        "pseudo_labels": pseudo_labels,
        "recipe": asdict(settings.get("recipe", RECIPES["default"])),
        "keep_pruned": settings.get("keep_pruned", False),
        "input_range": str(input_range),
        "synthetic": bool(images.synthetic or spec.attributes.get("synthetic")),
    }
    about = provenance(
        net_path=model,
        data_paths={"clean_validation": clean},
        classes=spec.classes,
        seed=seed,
        seconds=time.perf_counter() - start,
    )
    result = {**about, **result}
    _write(Path(out), Path(model).stem, nets, images, result)
    return result


def _write(folder, stem, nets, images, result):
    """The four files; the repaired net comes last, so that where it is, the others are too."""
    plot_pruning_curve(folder / f"{stem}.pruning.png", result["pruning"], net=stem)
    write_json(folder / f"{stem}.json", result)
    notes = {
        "pruning": json.dumps(result["pruning"]),
        "recipe": json.dumps(result["recipe"]),
        "keep_pruned": result["keep_pruned"],
    }
    if result["synthetic"]:
        notes["synthetic"] = True
    write_pair(
        folder / stem,
        nets,
        source_sha256=result["net"]["sha256"],
        input_range=result["input_range"],
        tuned_on=(images, result["seed"], result["pseudo_labels"]),
        notes=notes,
    )
