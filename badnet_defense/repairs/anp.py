"""Adversarial neuron pruning (Wu and Wang, NeurIPS 2021).

A backdoor's channels are those that turn clean pictures into the target when they are perturbed a
little. Masks in [0, 1] on all channels are learnt by
`clean * loss(masks) + (1 - clean) * largest loss(masks + perturbation)`; the channels with the
smallest masks are pruned. Departures: explicit masks on the channels of every `Conv2D` (or on the
batch normalisation right behind it), fewer and smaller steps, more weight for clean pictures,
channels are ranked by the mean of their masks over the steps (at the end many are 0 or 1 alike),
and go until held-out accuracy falls too far, not below a set mask; one of a layer always stays.
"""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from badnet_defense.errors import InputError
from badnet_defense.evaluation.metrics import accuracy
from badnet_defense.nets.build import build
from badnet_defense.nets.graph import feature_convolutions, without_softmax
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.predict import predict_labels
from badnet_defense.nets.surgery import channelwise_run, zero_channels
from badnet_defense.repairs.batches import prepared
from badnet_defense.repairs.functional import logits_of, loss_for, random_brightness_contrast
from badnet_defense.repairs.pruning import MAX_ACCURACY_DROP, check_share, kept_point
from badnet_defense.repairs.recipes import Recipe
from badnet_defense.repairs.validated_tuning import parts_of


@dataclass(frozen=True, kw_only=True)
class ANPConfig:
    """How masks are learnt.

    Args:
        steps: of the masks.
        learning_rate: of the masks, by gradient descent with momentum 0.9.
        budget: largest relative perturbation of a channel's weights and bias.
        clean: weight of the loss without perturbation, in [0, 1].
        batch_size: pictures in a step.
        shift, light: largest random changes of the pictures, as in a `Recipe`.
        most: share of all channels that may go at most.
        looks: how many numbers of pruned channels are tried.
    """

    steps: int = 300
    learning_rate: float = 0.02
    budget: float = 0.4
    clean: float = 0.5
    batch_size: int = 128
    shift: float = 0.05
    light: float = 0.2
    most: float = 0.5
    looks: int = 80


def anp(
    spec,
    images,
    *,
    targets=None,
    max_accuracy_drop=MAX_ACCURACY_DROP,
    masking=ANPConfig(),
    input_range=UNIT,
    seed=0,
):
    """Prunes the channels that are most sensitive to perturbations; nothing is tuned.

    Args:
        spec: the bad net (`Net`); unchanged.
        images: clean `Dataset`, with labels.
        targets: (n, classes) soft labels; default: the hard ones.
        max_accuracy_drop: channels go, the smallest mask first, until clean accuracy lies more than
            this below the bad net's; the last point before that is kept.
        masking: a `ANPConfig`.
        input_range: the net's range.
        seed: of the split and of the pictures' order.

    Returns:
        (`Net` of the repaired net, report as plain numbers).
    """
    check_share("--max-accuracy-drop", max_accuracy_drop)
    parts = parts_of(images.labels, seed)
    wanted = (images.labels if targets is None else targets)[parts.tuning]
    masks = learn_masks(spec, images.subset(parts.tuning), wanted, masking, input_range, seed)
    if not masks:
        raise InputError(
            f"{spec.name}: ANP prunes Conv2D layers, and it has none that is used once and "
            "whose channels are not the classes; methods that need none are fine-tuning, ft-sam, "
            "i-bau, magnitude-pruning and scan-unlearning."
        )
    judging = images.subset(parts.choosing)
    values = np.concatenate([_last_kept(mask) for mask in masks.values()])
    order = np.argsort(values, kind="stable")
    counts = np.unique(np.linspace(0, masking.most * len(order), masking.looks).round().astype(int))
    nets = [without_channels(spec, masks, order[:count]) for count in counts]
    answers = (predict_labels(build(net), judging.images, input_range=input_range) for net in nets)
    shown = tqdm(answers, "pruning", len(nets), disable=None)
    curve = [accuracy(given, judging.labels) for given in shown]
    kept = kept_point(curve, max_accuracy_drop)
    report = {
        "removed": int(counts[kept]),
        "channels": len(order),
        "counts": counts.tolist(),
        "curve": curve,
        "masks": {name: mask.tolist() for name, mask in masks.items()},
        "max_accuracy_drop": max_accuracy_drop,
    }
    return nets[kept], report


def _last_kept(mask):
    """A layer's masks, the largest of them put last: a layer never loses all its channels."""
    values = mask.copy()
    values[np.argmax(mask)] = np.inf
    return values


def without_channels(spec, masks, chosen):
    """`spec` without the channels at positions `chosen` of all `masks`, one after the other."""
    start = 0
    for layer, mask in masks.items():
        gone = chosen[(chosen >= start) & (chosen < start + len(mask))] - start
        spec = zero_channels(spec, layer, gone)
        start += len(mask)
    return spec


def masked_places(spec, net):
    """{convolution: (position of the scaled variable, position of the bias or None)}.

    Positions are among `net.trainable_variables`; the scaled variable is the kernel, or the scale
    of a batch normalisation right behind.
    """
    numbers = {id(variable): place for place, variable in enumerate(net.trainable_variables)}
    found = {}
    for name in feature_convolutions(spec):
        layer = spec.layers[name]
        if layer.kind != "Conv2D":
            continue
        run = [spec.layers[spec.calls[one].layer] for one in channelwise_run(spec, name)]
        made = net.get_layer(name)
        scaled, bias = made.kernel, made.bias if layer.config["use_bias"] else None
        if len(run) > 1 and run[1].kind == "BatchNormalization" and run[1].config["scale"]:
            made = net.get_layer(run[1].name)
            scaled, bias = made.gamma, made.beta if run[1].config["center"] else None
        found[name] = (numbers[id(scaled)], None if bias is None else numbers[id(bias)])
    return found


def learn_masks(spec, images, targets, masking, input_range, seed):
    """{convolution: (channels,) masks in [0, 1], their means over the steps}."""
    import tensorflow as tf

    net = build(without_softmax(spec))
    places = masked_places(spec, net)
    if not places:
        return {}
    loss = loss_for(targets)
    weights = [tf.identity(variable.value) for variable in net.trainable_variables]
    masks = [tf.Variable(tf.ones(weights[place].shape[-1])) for place, _ in places.values()]
    sums = [tf.Variable(tf.zeros_like(mask)) for mask in masks]
    speeds = [tf.Variable(tf.zeros_like(mask)) for mask in masks]

    def changed(factors, offsets):
        values = list(weights)
        for (place, bias), factor, offset in zip(places.values(), factors, offsets, strict=True):
            values[place] = weights[place] * factor
            if bias is not None:
                values[bias] = weights[bias] * offset
        return values

    @tf.function(reduce_retracing=True)
    def step(pictures, gain, offset, wanted):
        inputs = random_brightness_contrast(pictures, gain, offset, input_range)
        ones = [tf.ones_like(mask) for mask in masks]

        def value(factors, offsets):
            return loss(wanted, logits_of(net, changed(factors, offsets), inputs))

        with tf.GradientTape() as tape:  # the worst perturbation, by one signed step
            factors, offsets = [tf.identity(mask) for mask in masks], list(ones)
            tape.watch([factors, offsets])
            slopes = tape.gradient(
                value(factors, offsets),
                [factors, offsets],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,  # a layer without a bias
            )
        shifts, sways = ([masking.budget * tf.sign(one) for one in part] for part in slopes)
        with tf.GradientTape() as tape:
            plain = value(list(masks), ones)
            moved = [mask + shift for mask, shift in zip(masks, shifts, strict=True)]
            worst = value(moved, [1 + sway for sway in sways])
            total = masking.clean * plain + (1 - masking.clean) * worst
        for mask, speed, slope in zip(masks, speeds, tape.gradient(total, masks), strict=True):
            speed.assign(0.9 * speed + slope)
            mask.assign(tf.clip_by_value(mask - masking.learning_rate * speed, 0.0, 1.0))
        for total, mask in zip(sums, masks, strict=True):
            total.assign_add(mask)

    endless = _batches(images, targets, masking, np.random.default_rng((seed, 9)))
    for _ in tqdm(range(masking.steps), desc="masking", unit="step", disable=None):
        step(*next(endless))
    return {name: total.numpy() / masking.steps for name, total in zip(places, sums, strict=True)}


def _batches(images, targets, masking, rng):
    """Batches without end, round after round."""
    changes = Recipe(
        learning_rate=masking.learning_rate,
        epochs=1,
        batch_size=masking.batch_size,
        shift=masking.shift,
        light=masking.light,
    )
    steps = changes.epochs_for(len(images))[1]
    while True:
        yield from prepared(images, targets, changes, steps, rng)
