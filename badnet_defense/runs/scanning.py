"""From a net's file and clean pictures to its flagged labels, their triggers and a repair."""

import json
import logging
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from badnet_defense.data import read_images
from badnet_defense.data.files import data_sha256, replace_when_done
from badnet_defense.data.input_range import UNIT
from badnet_defense.errors import InputError
from badnet_defense.guard.disagreement import build_guard
from badnet_defense.measure.belonging import check_belonging, check_range
from badnet_defense.measure.evaluation import evaluate_defense
from badnet_defense.measure.results import provenance, write_json
from badnet_defense.nets import build, predict_probabilities, read_net, save_net
from badnet_defense.nets.graph import layer_to_prune
from badnet_defense.repair.trigger_pruning import prune_by_triggers
from badnet_defense.repair.unlearning import UNLEARN, unlearn
from badnet_defense.report.scan_plots import plot_norms, plot_triggers
from badnet_defense.scan.progress import Progress
from badnet_defense.scan.scan import scan, way

log = logging.getLogger(__name__)

PICTURES = 1000
"""Clean pictures that a scan draws from; more cost reading, and hardly change a trigger."""
MOST_UNLEARNT = 8
"""Triggers that a repair takes on; more flagged labels speak of a bad scan."""


def scan_file(
    model,
    clean,
    *,
    out,
    labels=None,
    budget="fast",
    repair=None,
    pseudo_labels=False,
    input_range=UNIT,
    seed=0,
):
    """Scans the net in `model` and writes `<out>.npz`, `.json`, `.triggers.png` and `.norms.png`.

    A scan that was stopped is taken up where it was; its finished units lie in `<out>.partial`
    until everything is written.

    Args:
        model: path of the suspect net.
        clean: path of clean pictures; without `repair` their labels play no part.
        out: path of what is written, without its endings.
        labels: class numbers to scan; default: all.
        budget: "fast" or "full".
        repair: None, "prune" or "unlearn"; writes `<out>.<repair>.h5` and `.guard.keras` too.
        pseudo_labels: the net's own answers are the labels of the repair.
        input_range, seed: as for `scan`.

    Returns:
        The result as a dict, as it stands in the JSON file.

    Raises:
        InputError: the net or the pictures cannot be used, or a label that the net doesn't have.
    """
    start = time.perf_counter()
    spec = read_net(model)
    _check(model, spec, labels, out, repair)
    images = _pictures(model, spec, clean, repair, pseudo_labels, input_range)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(images))[:PICTURES])
    pictures = images.pictures[drawn]
    about = {
        "net": spec.attributes["file_sha256"],
        "data": data_sha256(clean),
        "labels": None if labels is None else [int(label) for label in labels],
        "settings": [seed, str(input_range), way(budget)],
    }
    progress = Progress(f"{out}.partial", about)
    found = scan(
        spec,
        pictures,
        labels=labels,
        budget=budget,
        input_range=input_range,
        seed=seed,
        progress=progress,
    )
    result = {
        **provenance(
            net_path=model,
            data_paths={"clean": clean},
            classes=spec.classes,
            seed=seed,
            seconds=time.perf_counter() - start,
        ),
        **figures(found),
        "budget": budget,
        "pictures": len(pictures),
        "input_range": str(input_range),
    }
    if repair and result["flagged"]:
        result["repair"] = _repair(
            repair, spec, images, found, out, pseudo_labels, input_range, seed
        )
    _write(Path(out), found, pictures, result, Path(model).stem)
    progress.forget()
    return result


def _check(model, spec, labels, out, repair):
    """Refuses what would only fail after the scan."""
    if labels is not None and max(labels) >= spec.classes:
        raise InputError(
            f"--labels: {max(labels)} came, but {model} has {spec.classes} classes "
            f"(0..{spec.classes - 1})."
        )
    if Path(f"{out}.{repair}.h5").resolve() == Path(model).resolve():
        raise InputError(f"--out {out}: the repair would overwrite {model} itself; name another.")
    if repair == "prune":
        layer_to_prune(spec)


def _pictures(model, spec, clean, repair, pseudo_labels, input_range):
    """The clean pictures, labelled where a repair needs it."""
    labelled = bool(repair) and not pseudo_labels
    images = read_images(
        clean,
        shape=spec.input_shape,
        classes=spec.classes if labelled else None,
        need_labels=labelled,
    )
    net = build(spec)
    if labelled:
        check_belonging(net, images, classes=spec.classes, input_range=input_range, net_name=model)
    elif images.labels is not None:  # perhaps other people's numbers: only a wrong range refuses
        check_range(net, images, input_range=input_range, net_name=model)
    return images


def figures(found):
    """A `Scan` as plain numbers: what its JSON file says beside where it came from."""
    places = {int(label): place for place, label in enumerate(found.labels)}

    def about(label):
        place = places[label]
        return {
            "label": label,
            "l1": float(found.norms[place]),
            "anomaly_index": float(found.outliers.index[place]),
            "mad_anomaly_index": float(found.mad.index[place]),
        }

    return {
        "flagged": [
            {**about(label), "attack_success": found.trigger(label)[2]} for label in found.flagged()
        ],
        "median": found.mad.median,
        "mad": found.mad.mad,
        "mad_flagged": [
            int(found.labels[one]) for one in found.mad.flagged if not found.stopped[one]
        ],
        "limit": found.outliers.limit,
        "labels": len(found.labels),
        "all": [
            {**about(label), "stopped_early": bool(found.stopped[places[label]])}
            for label in places
        ],
    }


def _repair(how, spec, images, found, out, pseudo_labels, input_range, seed):
    """Repairs the net with the triggers that were found and writes it and its guard."""
    bad = build(spec)
    targets = None
    if pseudo_labels:
        targets = predict_probabilities(bad, images.pictures, input_range=input_range)
        images = replace(images, labels=targets.argmax(axis=1).astype(np.int64))
    triggers = [(label, *found.trigger(label)[:2]) for label in found.flagged()[:MOST_UNLEARNT]]
    notes = {
        "made_by": "badnet_defense",
        "source_sha256": spec.attributes["file_sha256"],
        "input_range": str(input_range),
    }
    if how == "prune":
        repaired, report = prune_by_triggers(spec, images, triggers, input_range=input_range)
        about = asdict(report)
    else:
        repaired, report = unlearn(
            spec, images, triggers, targets=targets, input_range=input_range, seed=seed
        )
        about = {**report.as_dict(), "recipe": asdict(UNLEARN)}
        notes["recipe"] = json.dumps(asdict(UNLEARN))
    nets = {"bad": bad, "repaired": build(repaired)}
    stages = evaluate_defense(
        nets, {"clean_validation": images}, classes=spec.classes, input_range=input_range
    )
    with replace_when_done(f"{out}.{how}.guard.keras") as partial:
        build_guard(nets["bad"], nets["repaired"]).save(partial)
    save_net(nets["repaired"], f"{out}.{how}.h5", attributes=notes)
    labels = [label for label, *_ in triggers]
    return {"method": how, "labels": labels, "pseudo_labels": pseudo_labels, **about, **stages}


def _write(out, found, pictures, result, stem):
    """The four files; the JSON comes last, so that where it is, the others are too."""
    with replace_when_done(f"{out}.npz") as partial:
        names = ("labels", "norms", "stopped", "finished", "masks", "patterns", "attack_success")
        np.savez_compressed(partial, **{name: getattr(found, name) for name in names})
    triggers = {label: found.trigger(label) for label in found.flagged()}
    plot_triggers(f"{out}.triggers.png", triggers, pictures[0], result, net=stem)
    plot_norms(f"{out}.norms.png", result, net=stem)
    write_json(f"{out}.json", result)
