"""A scan: triggers for all labels of a net, and which of the labels are targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from badnet_defense.evaluation.input_checks import check_range
from badnet_defense.io.current import dependencies
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.parallel import SerialExecutor, open_executor
from badnet_defense.scan import halving, schedule
from badnet_defense.scan.attack_success import MIN_ATTACK_SUCCESS
from badnet_defense.scan.outliers import (
    joint_outliers,
    mad_outliers,
    odds_outliers,
    weight_outliers,
)
from badnet_defense.scan.progress import Progress
from badnet_defense.scan.registry import INVERSION, SCAN_PASSES, WEIGHTS, passes_of
from badnet_defense.scan.result import PassResult, ScanResult
from badnet_defense.scan.suitability import check_answers, check_count
from badnet_defense.scan.tasks import Job
from badnet_defense.scan.trigger_inversion import InversionConfig, from_tanh_space

MAX_IMAGES = 1000
"""Clean images that a scan draws from; more cost reading, and hardly change a trigger."""


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """What a scan is asked for.

    Args:
        labels: class numbers that are asked about; None: all. Where they are few, others are
            scanned beside them (`schedule.MIN_LABELS_SCANNED`), to compare them with.
        budget: "fast" gives most steps to the labels whose triggers look small, "full" all steps to
            all labels.
        inversion: how triggers are inverted.
    """

    labels: tuple[int, ...] | None = None
    budget: str = "fast"
    inversion: InversionConfig = field(default_factory=InversionConfig)


ALL_LABELS = ScanConfig()
"""All labels, within the fast budget."""


def scan(
    net: Net,
    data: Dataset,
    *,
    labels: Sequence[int] | None = None,
    budget: str = "fast",
    seed: int = 0,
    workers: int | None = 1,
) -> ScanResult:
    """Finds the target labels of a net: those whose inverted triggers are suspiciously small.

    Wang et al., "Neural Cleanse", IEEE S&P 2019, with the departures that `trigger_inversion` and
    `outliers` name.

    Args:
        net: the suspect model.
        data: 32 or more different clean images, of several of the net's classes. Labels are not
            needed; where there are any, they show a wrong input range.
        labels: class numbers that are asked about; None: all.
        budget: "fast" or "full", see `ScanConfig`.
        seed: random seed; the same seed gives the same triggers.
        workers: processes that share the work; 1: this process alone, None: one per core or GPU.

    Returns:
        `ScanResult`: `.verdict()`, `.flagged()`, `.trigger(label)`.

    Raises:
        InputError: another input range fits the labelled images clearly better.
        CannotJudgeError: the images are too few, too alike, or nearly all of one class.

    Examples:
        >>> from badnet_defense.nets import deep_id, describe
        >>> net = describe(deep_id(classes=4))
        >>> few = Dataset(np.random.default_rng(0).integers(0, 256, (8, 55, 47, 3), dtype="uint8"))
        >>> scan(net, few)
        Traceback (most recent call last):
        badnet_defense.errors.CannotJudgeError: cannot be judged: got 8 clean images; a scan needs at least 32 different ones, of several classes: give more.
    """  # noqa: E501
    check_range(net, data)
    images = data.sample(MAX_IMAGES, seed).images
    config = ScanConfig(labels=None if labels is None else tuple(labels), budget=budget)
    if workers == 1:
        return scan_images(net, images, config=config, seed=seed)
    with open_executor("local", workers=workers) as executor:
        return scan_images(net, images, config=config, seed=seed, executor=executor)


def scan_images(
    net: Net,
    images: np.ndarray,
    *,
    config: ScanConfig = ALL_LABELS,
    seed: int = 0,
    progress: Progress | None = None,
    executor: Any = None,
    exclusive: bool = True,
) -> ScanResult:
    """Inverts a trigger for each label by every inversion pass, and compares them.

    Args:
        net: the net.
        images: (n, h, w, c) clean images, pixels 0-255; no labels are needed.
        config: what is asked.
        seed: of patterns, images and shifts.
        progress: keeps finished tasks; default: nothing is kept.
        executor: what runs the tasks (`badnet_defense.parallel`); default: this process.
        exclusive: False where other scans use the executor, too: no progress bar, and every task
            is the executor's.

    Raises:
        CannotJudgeError: the images are too few, too alike, or nearly all of one class.
    """
    check_count(images)
    asked = np.arange(net.classes) if config.labels is None else np.asarray(config.labels)
    labels = schedule.with_others(config.labels, net.classes, seed=seed)
    plans = _plans(config.budget, len(labels))
    rungs = rungs_of(config.budget, len(labels))
    job = Job.of(net, config.inversion, rungs, seed)
    weights = _weight_indices(net, labels)
    references = schedule.references(labels, seed=seed)
    always = references.union(*(schedule.suspects(labels, index) for index in weights.values()))
    searching = halving.SuccessiveHalving(
        job,
        images,
        len(labels),
        executor or SerialExecutor(),
        progress or Progress(None, {}),
        exclusive,
    )
    with searching as search:
        check_answers(search.predict(), net.classes)
        finished, history, states = _run_rungs(search, rungs, labels, always, exclusive)
        # Where all labels went all the way, all are as good a sample as the references.
        all_the_way = len(finished) == len(labels)
        sample = np.isin(labels, finished if all_the_way else list(references))
        passes, end = [], 0
        for method, pass_rungs in plans:
            end += len(pass_rungs)
            triggers = [states[end - 1][label] for label in finished.tolist()]
            measured = _measure(search, pass_rungs[-1], triggers, finished)
            norms = _norms(labels, finished, measured, history[:end], sample)
            passes.append(_pass_result(method, pass_rungs[-1], norms, measured, sample))
    joint = joint_outliers([each.outliers.index for each in passes], list(weights.values()), sample)
    stopped = ~np.isin(labels, finished)
    return ScanResult(asked, labels, stopped, finished, tuple(passes), weights, joint)


def scan_whole(images: np.ndarray, net: Net, config: ScanConfig, seed: int) -> ScanResult:
    """A scan as one task."""
    return scan_images(net, images, config=config, seed=seed, exclusive=False)


def scan_dependencies(
    net_sha256: str, clean_sha256: str, config: ScanConfig, input_range: InputRange, seed: int
) -> dict[str, Any]:
    """What a scan's result depends on, for `is_current`.

    Args:
        net_sha256: of the model file.
        clean_sha256: of the clean images' file or folder.
        config, seed: as for `scan_images`.
        input_range: the net's range.
    """
    return _dependencies(
        (net_sha256, clean_sha256), config, input_range, seed, ("answers", "inversion", "statistic")
    )


def task_dependencies(
    net_sha256: str, clean_sha256: str, config: ScanConfig, input_range: InputRange, seed: int
) -> dict[str, Any]:
    """The same of its tasks, whose triggers are there before the statistic is asked."""
    return _dependencies(
        (net_sha256, clean_sha256), config, input_range, seed, ("answers", "inversion")
    )


def _dependencies(
    files: tuple[str, str],
    config: ScanConfig,
    input_range: InputRange,
    seed: int,
    parts: tuple[str, ...],
) -> dict[str, Any]:
    labels = None if config.labels is None else [int(label) for label in config.labels]
    return dependencies(
        inputs=dict(zip(("net", "clean"), files, strict=True)),
        settings={
            "labels": labels,
            "seed": seed,
            "input_range": str(input_range),
            **fingerprint(config),
        },
        parts=parts,
        methods=[("scan pass", method) for method in SCAN_PASSES],
    )


def fingerprint(config: ScanConfig) -> dict[str, Any]:
    """The settings that decide on a scan beside labels, seed and input range, as plain values."""
    constants = (
        *(halving.LABELS_AT_ONCE, halving.IMAGES_AT_ONCE, halving.TASKS_MULTIPLE),
        *(schedule.MIN_SURVIVORS, schedule.REFERENCES, schedule.SUSPECTS, schedule.PLACES),
        schedule.MIN_LABELS_SCANNED,
    )
    return {
        "budget": config.budget,
        "inversion": asdict(config.inversion),
        "passes": [
            [method.name, asdict(method.config()), [asdict(rung) for rung in rungs]]
            for method, rungs in _rungs_by_pass(config.budget)
        ],
        "weights": [[method.name, asdict(method.config())] for method in passes_of(WEIGHTS)],
        "constants": list(constants),
    }


def rungs_of(budget: str, labels: int) -> tuple[schedule.Rung, ...]:
    """The rungs of all inversion passes for so many labels, in the order in which they run.

    Examples:
        >>> [rung.keep for rung in rungs_of("fast", 1283)]
        [0.25, 0.25, 0.25, 1.0, 1.0]
        >>> {rung.keep for rung in rungs_of("fast", 43)}
        {1.0}
    """
    return tuple(rung for _, rungs in _plans(budget, labels) for rung in rungs)


def _rungs_by_pass(budget: str) -> list[tuple[Any, tuple[schedule.Rung, ...]]]:
    """[(inversion pass, its rungs)] of a budget, in the order in which they run."""
    return [(method, method.run(budget, method.config())) for method in passes_of(INVERSION)]


def _plans(budget: str, labels: int) -> list[tuple[Any, tuple[schedule.Rung, ...]]]:
    """The same for so many labels."""
    return [(method, schedule.plan(rungs, labels)) for method, rungs in _rungs_by_pass(budget)]


def _weight_indices(net: Net, labels: np.ndarray) -> dict[str, np.ndarray]:
    """{weights pass: (L,) anomaly indices}, of those that find something to read."""
    scores = {method.name: method.run(net, method.config()) for method in passes_of(WEIGHTS)}
    return {
        name: weight_outliers(found).index[labels]
        for name, found in scores.items()
        if found is not None
    }


def _run_rungs(
    search: halving.SuccessiveHalving,
    rungs: Sequence[schedule.Rung],
    labels: np.ndarray,
    always: set[int],
    exclusive: bool,
) -> tuple[np.ndarray, list[dict[int, float]], list[dict[int, Any]]]:
    """(labels that went all the way, {label: norm} and {label: trigger} after each rung)."""
    total = schedule.image_gradients(rungs, len(labels))
    history, states = [], []
    with tqdm(
        total=total,
        desc="inverting",
        unit="image",
        unit_scale=True,
        disable=None if exclusive else True,
    ) as bar:
        for number, rung in enumerate(rungs):
            norms = search.run_rung(number, rung, labels, bar)
            history.append(dict(zip(labels.tolist(), norms.tolist(), strict=True)))
            labels = schedule.survivors(labels, norms, rung, always)
            states.append({label: search.states[label][:2] for label in labels.tolist()})
    return labels, history, states


def _measure(
    search: halving.SuccessiveHalving,
    rung: schedule.Rung,
    triggers: Sequence[tuple[np.ndarray, np.ndarray]],
    finished: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(masks, patterns, ASR) as they are stamped, of triggers (mask, pattern) before their tanh."""
    blur = schedule.pixels(rung.blur, triggers[0][0].shape[:2])
    masks, patterns = (
        from_tanh_space(np.stack(part), blur) for part in zip(*triggers, strict=True)
    )
    masks, success = search.measure(finished, masks, patterns)
    return masks, patterns, success


def _norms(
    labels: np.ndarray,
    finished: np.ndarray,
    measured: tuple[np.ndarray, np.ndarray, np.ndarray],
    history: Sequence[dict[int, float]],
    sample: np.ndarray,
) -> np.ndarray:
    """(L,) norms of a pass, lower bounds for labels that stopped early."""
    masks, _, success = measured
    area = float(np.prod(masks.shape[1:]))
    pixels = np.where(success < MIN_ATTACK_SUCCESS, area, masks.sum(axis=(1, 2, 3)))
    final = dict(zip(finished.tolist(), pixels.tolist(), strict=True))
    return np.minimum(lower_bounds(labels, history, final, set(labels[sample]), area), area)


def _pass_result(
    method: Any,
    rung: schedule.Rung,
    norms: np.ndarray,
    measured: tuple[np.ndarray, np.ndarray, np.ndarray],
    sample: np.ndarray,
) -> PassResult:
    masks, patterns, success = measured
    return PassResult(
        name=method.name,
        shift=rung.shift,
        blur=rung.blur,
        min_gap=method.config().min_gap,
        norms=norms,
        masks=masks.astype(np.float32),
        patterns=patterns.astype(np.float32),
        attack_success=success,
        outliers=odds_outliers(norms, float(np.prod(masks.shape[1:])), sample),
        mad=mad_outliers(norms, sample),
    )


def lower_bounds(
    labels: np.ndarray,
    history: Sequence[dict[int, float]],
    final: dict[int, float],
    always: set[int],
    area: float,
) -> np.ndarray:
    """Final norms, and for labels that stopped early what they could at best have fallen to.

    The references, drawn at random, show by which factor norms fall after each rung; a stopped
    label's bound is its norm times the smallest of their factors. A reference that is itself an
    outlier among them may be a target, which shows nothing about the others.

    Args:
        labels: (L,) class numbers.
        history: a {label: norm} for each rung.
        final: {label: norm} of those that went all the way.
        always: the references' labels.
        area: pixels of an image.

    Returns:
        (L,) norms.
    """
    known = [label for label in final if label in always] or list(final)
    odd = odds_outliers([final[label] for label in known], area).flagged
    known = [label for place, label in enumerate(known) if place not in odd]
    factors = [min(_factor(final[label], norms[label]) for label in known) for norms in history]
    bounds = []
    for label in labels.tolist():
        last = max(number for number, norms in enumerate(history) if label in norms)
        bounds.append(final.get(label, history[last][label] * factors[last]))
    return np.array(bounds)


def _factor(later: float, before: float) -> float:
    """What a norm is multiplied by from one rung to another; a trigger of nothing stays one."""
    return later / before if before else 1.0
