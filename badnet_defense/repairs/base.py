"""One repair from Python: the inputs are checked as on the command line, then a method runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from badnet_defense.errors import InputError
from badnet_defense.evaluation.class_counts import check_several_classes, tell_coverage
from badnet_defense.evaluation.input_checks import check_belonging, check_range
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.net import Net
from badnet_defense.repairs.pseudo_labels import labels_of, pseudo_labelled
from badnet_defense.repairs.registry import DEFAULT, REPAIRS
from badnet_defense.repairs.scanned_triggers import Trigger
from badnet_defense.repairs.validated_tuning import absent_classes

log = logging.getLogger(__name__)

MIN_IMAGES = 20
"""Clean images that a repair needs: of fewer, less than three are held out for the epoch and for a
threshold, and what they show is chance."""


def repair(
    net: Net,
    data: Dataset,
    method: str = DEFAULT,
    config: Any = None,
    *,
    pseudo_labels: bool = False,
    seed: int = 0,
    triggers: Sequence[Trigger] | None = None,
) -> tuple[Net, dict[str, Any]]:
    """Repairs a suspect model with clean images.

    Args:
        net: the suspect model, which answers with probabilities; unchanged.
        data: clean images, pixels 0-255, with labels; `MIN_IMAGES` or more, of several classes.
        method: name of a repair (`REPAIRS.names()`).
        config: the method's settings (`REPAIRS[method].config`); None: its defaults.
        pseudo_labels: True tunes on the model's predicted probabilities; the labels are ignored.
        seed: random seed.
        triggers: [(label, mask (h, w, 1), pattern (h, w, c))] of a finished scan, both in [0, 1],
            for methods that use a scan; None: these scan the model themselves.

    Returns:
        (the repaired `Net`, report of plain numbers: `method`, `config`, what the method reports,
        and the classes that are `absent` from the images).

    Raises:
        InputError: unknown method, settings of another method, or images that cannot repair this
            model: another shape, too few, of one class, unlabelled, not known to the model, or in
            another input range.
        CannotJudgeError: the method uses a scan, and the scan says nothing about the model.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from badnet_defense.nets import describe
        >>> from badnet_defense.repairs import REPAIRS, Recipe, repair
        >>> layers = [keras.layers.Flatten(), keras.layers.Dense(2, "softmax")]
        >>> model = keras.Sequential([keras.Input((4, 4, 1)), *layers])
        >>> model.set_weights([np.tile([[-1.0, 1.0]], (16, 1)), np.array([8.0, -8.0])])
        >>> net = describe(model)  # dark images are of class 0, bright ones of class 1
        >>> images = np.repeat(np.uint8([20, 230]), 20)[:, None, None, None] * np.ones((4, 4, 1))
        >>> data = Dataset(images.astype(np.uint8), np.repeat([0, 1], 20))
        >>> short = Recipe(learning_rate=1e-3, epochs=1, batch_size=8)
        >>> config = REPAIRS["fine-tuning"].make_config({"tuning": short})
        >>> repaired, report = repair(net, data, "fine-tuning", config)
        >>> report["tuning"]["steps"]
        5
    """
    inputs = check_inputs(net, data, method, config, pseudo_labels=pseudo_labels)
    return run_method(net, inputs, seed=seed, triggers=triggers)


@dataclass(frozen=True)
class RepairInputs:
    """A method, its settings and clean images that were checked for a net.

    Attributes:
        method: name of the repair.
        config: its settings.
        data: the images with labels 0..N-1, the model's own predictions as pseudo-labels.
        targets: (n, N) predicted probabilities as pseudo-labels; else None.
        absent: numbers of the classes that no image shows.
    """

    method: str
    config: Any
    data: Dataset
    targets: np.ndarray | None
    absent: list[int]

    @property
    def absent_treatment(self) -> str | None:
        """What the repair does about absent classes; None where there are none."""
        if not self.absent:
            return None
        tuned = hasattr(self.config, "tuning")
        return "left out of the tuning's loss" if tuned else "nothing is tuned"


def check_inputs(
    net: Net, data: Dataset, method: str, config: Any, *, pseudo_labels: bool = False
) -> RepairInputs:
    """The inputs of a repair, checked; arguments and errors as of `repair`."""
    registered = REPAIRS[method]
    config = registered.config() if config is None else config
    if not isinstance(config, registered.config):
        raise InputError(
            f"{method}: got settings of type {type(config).__name__}, expected "
            f"{registered.config.__name__}."
        )
    _check_images(net, data)
    targets = None
    if pseudo_labels:
        check_range(net, data)
        log.info("%s: the model's predictions are used as labels", data.source)
        data, targets = pseudo_labelled(net, data.without_labels())
    else:
        labels_of(data)
        data = check_belonging(net, data)
    tell_coverage(data, net.classes)
    check_several_classes(data, net.classes)
    absent = absent_classes(labels_of(data), net.classes).tolist()
    inputs = RepairInputs(method, config, data, targets, absent)
    if absent and hasattr(config, "tuning"):
        log.warning(
            "%s: %d of %d classes have no image: the tuning leaves them out, so that the net keeps "
            "most of them, but a backdoor whose target is one of them may stay, and no figure here "
            "measures either; give images of them, or scan the repaired net",
            *(data.source, len(absent), net.classes),
        )
    return inputs


def _check_images(net: Net, data: Dataset) -> None:
    """Refuses images of another shape, and too few."""
    if data.images.shape[1:] != net.input_shape:
        raise InputError(
            f"{data.source}: got images of shape {data.images.shape[1:]}, but the model takes "
            f"{net.input_shape} (height, width, channels); resize them."
        )
    if len(data) < MIN_IMAGES:
        raise InputError(
            f"{data.source}: a repair needs at least {MIN_IMAGES} clean images, to tune on most of "
            f"them and to choose the epoch by others, got {len(data)}; give more, some of each "
            "class."
        )


def run_method(
    net: Net,
    inputs: RepairInputs,
    *,
    seed: int = 0,
    triggers: Sequence[Trigger] | None = None,
) -> tuple[Net, dict[str, Any]]:
    """Runs a method on inputs that were checked; result as of `repair`."""
    registered = REPAIRS[inputs.method]
    scanned = {}
    if triggers is not None:
        if not registered.facts.get("uses_triggers"):
            raise InputError(f"{inputs.method} uses no triggers of a scan; leave them out.")
        scanned["triggers"] = triggers
    repaired, report = registered.run(
        net, inputs.data, config=inputs.config, targets=inputs.targets, seed=seed, **scanned
    )
    about = {"method": inputs.method, "config": asdict(inputs.config)}
    absent = {"classes": inputs.absent, "treatment": inputs.absent_treatment}
    return repaired, {**about, **report, "absent": absent}
