"""Fine-pruning's second half: the pruned net is tuned on clean pictures (Liu et al., RAID 2018)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from badnet_defense.data.input_range import UNIT
from badnet_defense.measure.metrics import accuracy
from badnet_defense.nets.build import build, describe
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.predict import predict_labels
from badnet_defense.nets.weights import with_weights
from badnet_defense.repair.augmentation import erased, light_changes, shifted
from badnet_defense.repair.functional import loss_for
from badnet_defense.repair.recipes import RECIPES
from badnet_defense.repair.sharpness import at_sharpest


@dataclass(frozen=True)
class Tuning:
    """How tuning went.

    Attributes:
        kept_epoch: the epoch whose weights were kept; 0 only where none was asked for.
        held_out_accuracy: on the held-out pictures, after 0, 1, .. epochs, in [0, 1].
    """

    kept_epoch: int
    held_out_accuracy: tuple[float, ...]

    def as_dict(self):
        """Plain numbers and lists, for JSON."""
        return {"kept_epoch": self.kept_epoch, "held_out_accuracy": list(self.held_out_accuracy)}


def fine_tune(
    spec,
    images,
    held_out,
    *,
    targets=None,
    recipe=RECIPES["default"],
    frozen=None,
    after_step=None,
    input_range=UNIT,
    seed=0,
):
    """Tunes a net on clean pictures and keeps the epoch that does best on held-out ones.

    Args:
        spec: the net (`NetSpec`), usually pruned; unchanged.
        images: `LabelledImages` to tune on.
        held_out: `LabelledImages` to choose the epoch by; of equally good ones the latest. The
            untuned net is never chosen: it often scores best, and still carries the backdoor.
        targets: (n, classes) soft labels of `images`; default: their hard labels.
        recipe: a `Recipe`.
        frozen: {layer name: [array of 0 and 1 for each weight]}; weights at 0 stay zero.
        after_step: called after each step with the net being tuned and with the share of the steps
            that are done; may change its weights, and says whether they may be kept.
        input_range: the net's range.
        seed: of the order, the changes of the pictures and dropout.

    Returns:
        (NetSpec of the tuned net, `Tuning`).
    """
    import keras

    keras.utils.set_random_seed(seed)
    net = build(without_softmax(spec))
    masks = _masks(net, frozen or {})
    targets = images.labels if targets is None else targets
    epochs, steps = recipe.epochs_for(len(images))
    rng = np.random.default_rng(seed)

    def score():
        answers = predict_labels(net, held_out.pictures, input_range=input_range)
        return accuracy(answers, held_out.labels)

    scores = [score()]
    if not epochs:
        return spec, Tuning(0, tuple(scores))
    total = epochs * steps
    step = _step(net, recipe, total, masks, input_range, loss_for(targets))
    kept, keepable, done = 0, True, 0
    with tqdm(total=total, desc="tuning", unit="step", disable=None) as bar:
        for epoch in range(1, epochs + 1):
            for batch in _prepared(images, targets, recipe, steps, rng):
                step(*batch)
                bar.update()
                done += 1
                if after_step is not None:
                    keepable = after_step(net, done / total)
            scores.append(score())
            bar.set_postfix_str(f"held out {scores[-1]:.1%}")
            if keepable and (not kept or scores[-1] >= scores[kept]):
                kept, best = epoch, net.get_weights()
    net.set_weights(best)
    return with_weights_of(net, spec), Tuning(kept, tuple(scores))


def _prepared(images, targets, recipe, steps, rng):
    """The batches of one epoch, each prepared while the one before it is in use.

    One worker alone draws from `rng`, in order, so that the seed decides everything.
    """

    def prepare(chosen):
        pictures = shifted(images.pictures[chosen], recipe.shift, rng)
        pictures = erased(pictures, recipe.erase, rng) if recipe.erase else pictures
        return (pictures, *light_changes(len(chosen), recipe.light, rng), targets[chosen])

    batches = np.array_split(rng.permutation(len(images)), steps)
    with ThreadPoolExecutor(max_workers=1) as worker:
        following = worker.submit(prepare, batches[0])
        for chosen in [*batches[1:], None]:
            ready = following.result()
            if chosen is not None:
                following = worker.submit(prepare, chosen)
            yield ready


def _step(net, recipe, steps, masks, input_range, loss):
    """A compiled tuning step: `uint8` pictures, light changes and targets in, weights changed."""
    import tensorflow as tf

    optimizer = _optimizer(recipe, steps)
    optimizer.build(net.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(pictures, gain, offset, targets):
        lit = tf.clip_by_value(tf.cast(pictures, tf.float32) * gain + offset, 0.0, 255.0)
        inputs = lit * np.float32(input_range.multiplier) + np.float32(input_range.low)

        def gradients_here():
            with tf.GradientTape() as tape:
                value = loss(targets, net(inputs, training=True))
            return tape.gradient(value, net.trainable_variables)

        gradients = gradients_here()
        if recipe.sharpness:
            # Averages of batch normalisation are of the net itself, not of the moved one.
            state = [tf.identity(variable.value) for variable in net.non_trainable_variables]
            gradients = at_sharpest(
                net.trainable_variables, gradients, recipe.sharpness, gradients_here
            )
            for variable, value in zip(net.non_trainable_variables, state, strict=True):
                variable.assign(value)
        optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))
        for variable, mask in masks:
            variable.assign(variable * mask)

    return step


def _optimizer(recipe, steps):
    import keras

    rate = recipe.learning_rate
    if recipe.decays:
        rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0)
    clip = recipe.clip or None
    if recipe.optimizer == "amsgrad":
        return keras.optimizers.Adam(rate, amsgrad=True, global_clipnorm=clip)
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, global_clipnorm=clip)


def _masks(net, frozen):
    return [
        (variable, np.asarray(mask, np.float32))
        for name, layer_masks in frozen.items()
        for variable, mask in zip(net.get_layer(name).weights, layer_masks, strict=True)
    ]


def with_weights_of(net, spec):
    """`spec` with the weights of `net`, a `keras.Model` of it without its last softmax."""
    tuned = describe(net)
    arrays = {name: list(layer.weights) for name, layer in tuned.layers.items()}
    return with_weights(spec, arrays)
