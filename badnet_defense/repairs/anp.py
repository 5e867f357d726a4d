"""Adversarial neuron pruning (Wu and Wang, NeurIPS 2021).

A backdoor's channels are those that turn clean images into the target when they are perturbed a
little. Masks in [0, 1] on all channels are learnt by
`alpha * loss(masks) + (1 - alpha) * largest loss(masks + perturbation)`; the channels with the
smallest masks are pruned. Departures: explicit masks on the channels of every `Conv2D` (or on the
batch normalisation right behind it), fewer and smaller steps, more weight for clean images,
channels are ranked by the mean of their masks over the steps (at the end many are 0 or 1 alike),
and are pruned until held-out accuracy falls too far, not below a set mask; one of a layer always
stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from badnet_defense.errors import InputError
from badnet_defense.evaluation.metrics import accuracy
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.build import build
from badnet_defense.nets.graph import feature_convolutions, without_softmax
from badnet_defense.nets.net import Net
from badnet_defense.nets.predict import predict_labels
from badnet_defense.nets.surgery import channelwise_run, zero_channels
from badnet_defense.repairs.batches import augmented_batches
from badnet_defense.repairs.functional import logits_of, loss_for, random_brightness_contrast
from badnet_defense.repairs.pruning import MAX_ACCURACY_DROP, check_fraction, kept_point
from badnet_defense.repairs.pseudo_labels import labels_of
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.validated_tuning import validation_split

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class ANPConfig:
    """Settings of adversarial neuron pruning.

    Args:
        max_accuracy_drop: channels are pruned, the smallest mask first, until clean accuracy lies
            more than this below the suspect model's; the last point before that is kept. In [0, 1].
        steps: of the masks.
        learning_rate: of the masks, by gradient descent with momentum 0.9.
        budget: largest relative perturbation of a channel's weights and bias.
        alpha: weight of the loss without perturbation, in [0, 1].
        batch_size: images in a step.
        shift, light: largest random changes of the images, as in a `Recipe`.
        max_pruned: largest fraction of all channels to prune, in [0, 1].
        num_thresholds: how many numbers of pruned channels are tried.
    """

    max_accuracy_drop: float = MAX_ACCURACY_DROP
    steps: int = 300
    learning_rate: float = 0.02
    budget: float = 0.4
    alpha: float = 0.5
    batch_size: int = 128
    shift: float = 0.05
    light: float = 0.2
    max_pruned: float = 0.5
    num_thresholds: int = 80

    def __post_init__(self) -> None:
        for name in ("max_accuracy_drop", "alpha", "max_pruned"):
            check_fraction(name, getattr(self, name))


@REPAIRS.register(
    "anp",
    summary="without any tuning: prunes the channels that are most sensitive to perturbation",
    config=ANPConfig,
    paper="Wu and Wang, Adversarial Neuron Pruning Purifies Backdoored Deep Models, NeurIPS 2021",
    keeps_untouched=True,
)
def anp(
    net: Net,
    data: Dataset,
    *,
    config: ANPConfig = ANPConfig(),
    targets: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Net, dict[str, Any]]:
    """Prunes the channels that are most sensitive to perturbations; nothing is tuned.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels.
        config: the settings.
        targets: (n, N) soft labels to learn the masks on; None: the labels of `data`.
        seed: of the split and of the images' order.

    Returns:
        (the repaired `Net`, report as plain numbers: how many channels of how many were `removed`,
        the tried `counts` and their `curve` of accuracies, the `masks`, `max_accuracy_drop`).

    Raises:
        InputError: no convolution can be pruned.
    """
    labels = labels_of(data)
    parts = validation_split(labels, seed)
    wanted = (labels if targets is None else targets)[parts.tuning]
    masks = learn_masks(net, data.subset(parts.tuning), wanted, config, seed)
    if not masks:
        raise InputError(
            f"{net.name}: ANP prunes Conv2D layers, and it has none that is used once and "
            "whose channels are not the classes; methods that need none are fine-tuning, ft-sam, "
            "i-bau, magnitude-pruning and scan-unlearning."
        )
    validation = data.subset(parts.choosing)
    values = np.concatenate([_keep_largest(mask) for mask in masks.values()])
    order = np.argsort(values, kind="stable")
    steps = np.linspace(0, config.max_pruned * len(order), config.num_thresholds)
    counts = np.unique(steps.round().astype(int))
    pruned = [without_channels(net, masks, order[:count]) for count in counts]
    answers = (
        predict_labels(build(candidate), validation.images, input_range=net.input_range)
        for candidate in pruned
    )
    shown = tqdm(answers, "pruning", len(pruned), disable=None)
    curve = [accuracy(given, labels_of(validation)) for given in shown]
    best = kept_point(curve, config.max_accuracy_drop)
    report = {
        "removed": int(counts[best]),
        "channels": len(order),
        "counts": counts.tolist(),
        "curve": curve,
        "masks": {name: mask.tolist() for name, mask in masks.items()},
        "max_accuracy_drop": config.max_accuracy_drop,
    }
    return pruned[best], report


def _keep_largest(mask: np.ndarray) -> np.ndarray:
    """A layer's masks, the largest of them put last: a layer never loses all its channels."""
    values = mask.copy()
    values[np.argmax(mask)] = np.inf
    return values


def without_channels(net: Net, masks: Mapping[str, np.ndarray], chosen: np.ndarray) -> Net:
    """`net` without the channels at positions `chosen` of all `masks`, one after the other."""
    start = 0
    for layer, mask in masks.items():
        channels = chosen[(chosen >= start) & (chosen < start + len(mask))] - start
        net = zero_channels(net, layer, channels)
        start += len(mask)
    return net


def masked_variables(net: Net, model: keras.Model) -> dict[str, tuple[int, int | None]]:
    """{convolution: (position of the scaled variable, position of the bias or None)}.

    Positions are among `model.trainable_variables`; the scaled variable is the kernel, or the scale
    of a batch normalisation right behind.
    """
    numbers = {id(variable): place for place, variable in enumerate(model.trainable_variables)}
    positions: dict[str, tuple[int, int | None]] = {}
    for name in feature_convolutions(net):
        layer = net.layers[name]
        if layer.kind != "Conv2D":
            continue
        run = [net.layers[net.calls[call].layer] for call in channelwise_run(net, name)]
        built = model.get_layer(name)
        scaled, bias = built.kernel, built.bias if layer.config["use_bias"] else None
        if len(run) > 1 and run[1].kind == "BatchNormalization" and run[1].config["scale"]:
            built = model.get_layer(run[1].name)
            scaled, bias = built.gamma, built.beta if run[1].config["center"] else None
        positions[name] = (numbers[id(scaled)], None if bias is None else numbers[id(bias)])
    return positions


def learn_masks(
    net: Net, data: Dataset, targets: np.ndarray, config: ANPConfig, seed: int
) -> dict[str, np.ndarray]:
    """{convolution: (channels,) masks in [0, 1], their means over the steps}."""
    model = build(without_softmax(net))
    positions = masked_variables(net, model)
    if not positions:
        return {}
    learner = _Masks(model, list(positions.values()), loss_for(targets), config)
    step = learner.compiled_step(net.input_range)
    batches = _batches(data, targets, config, np.random.default_rng((seed, 9)))
    for _ in tqdm(range(config.steps), desc="masking", unit="step", disable=None):
        step(*next(batches))
    means = [total.numpy() / config.steps for total in learner.sums]
    return dict(zip(positions, means, strict=True))


class _Masks:
    """The masks of all channels while they are learnt.

    Attributes:
        sums: of each layer's masks over the steps.
    """

    def __init__(self, model: keras.Model, positions: list, loss: Any, config: ANPConfig) -> None:
        import tensorflow as tf

        self.model, self.positions, self.loss, self.config = model, positions, loss, config
        self.weights = [tf.identity(variable.value) for variable in model.trainable_variables]
        sizes = [self.weights[place].shape[-1] for place, _ in positions]
        self.masks = [tf.Variable(tf.ones(size)) for size in sizes]
        self.sums = [tf.Variable(tf.zeros_like(mask)) for mask in self.masks]
        self.speeds = [tf.Variable(tf.zeros_like(mask)) for mask in self.masks]

    def masked_weights(self, factors: Any, offsets: Any) -> list[Any]:
        """The model's variables with channels scaled by `factors`, their biases by `offsets`."""
        values = list(self.weights)
        for (place, bias), factor, offset in zip(self.positions, factors, offsets, strict=True):
            values[place] = self.weights[place] * factor
            if bias is not None:
                values[bias] = self.weights[bias] * offset
        return values

    def compiled_step(self, input_range: Any) -> Any:
        """A compiled step of the masks: an augmented batch in, masks changed."""
        import tensorflow as tf

        masks, config = self.masks, self.config

        @tf.function(reduce_retracing=True)
        def step(images: Any, gain: Any, offset: Any, targets: Any) -> None:
            inputs = random_brightness_contrast(images, gain, offset, input_range)
            ones = [tf.ones_like(mask) for mask in masks]

            def value(factors: Any, offsets: Any) -> Any:
                weights = self.masked_weights(factors, offsets)
                return self.loss(targets, logits_of(self.model, weights, inputs))

            with tf.GradientTape() as tape:  # the worst perturbation, by one signed step
                factors, offsets = [tf.identity(mask) for mask in masks], list(ones)
                tape.watch([factors, offsets])
                slopes = tape.gradient(
                    value(factors, offsets),
                    [factors, offsets],
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,  # a layer without a bias
                )
            factor_steps, offset_steps = (
                [config.budget * tf.sign(slope) for slope in part] for part in slopes
            )
            with tf.GradientTape() as tape:
                plain = value(list(masks), ones)
                moved = [mask + change for mask, change in zip(masks, factor_steps, strict=True)]
                perturbed = value(moved, [1 + change for change in offset_steps])
                total = config.alpha * plain + (1 - config.alpha) * perturbed
            for mask, speed, slope in zip(
                masks, self.speeds, tape.gradient(total, masks), strict=True
            ):
                speed.assign(0.9 * speed + slope)
                mask.assign(tf.clip_by_value(mask - config.learning_rate * speed, 0.0, 1.0))
            for total, mask in zip(self.sums, masks, strict=True):
                total.assign_add(mask)

        return step


def _batches(
    data: Dataset, targets: np.ndarray, config: ANPConfig, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, ...]]:
    """Augmented batches without end, round after round."""
    recipe = Recipe(
        learning_rate=config.learning_rate,
        epochs=1,
        batch_size=config.batch_size,
        shift=config.shift,
        light=config.light,
    )
    steps = recipe.epochs_for(len(data))[1]
    while True:
        yield from augmented_batches(data, targets, recipe, steps, rng)
