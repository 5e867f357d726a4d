"""Fine-pruning's second half: the pruned net is tuned on clean pictures (Liu et al., RAID 2018)."""

from dataclasses import asdict, dataclass

import numpy as np
from tqdm import tqdm

from badnet_defense.evaluation.metrics import accuracy
from badnet_defense.nets.build import build, describe
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.input_range import UNIT
from badnet_defense.nets.predict import predict_labels
from badnet_defense.nets.weights import with_weights
from badnet_defense.repairs.batches import prepared
from badnet_defense.repairs.functional import loss_for, random_brightness_contrast
from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.sharpness import at_sharpest


@dataclass(frozen=True)
class Tuning:
    """How tuning went.

    Attributes:
        kept_epoch: the epoch whose weights were kept; 0 only where none was asked for.
        held_out_accuracy: on the held-out pictures, after 0, 1, .. epochs, in [0, 1].
        steps: of all epochs together.
    """

    kept_epoch: int
    held_out_accuracy: tuple[float, ...]
    steps: int

    def as_dict(self):
        """Plain numbers and lists, for JSON."""
        return {**asdict(self), "held_out_accuracy": list(self.held_out_accuracy)}


def fine_tune(
    spec,
    images,
    held_out,
    *,
    targets=None,
    recipe=RECIPES["default"],
    frozen=None,
    objective=None,
    after_step=None,
    held_back=(),
    input_range=UNIT,
    seed=0,
):
    """Tunes a net on clean pictures and keeps the epoch that does best on held-out ones.

    Args:
        spec: the net (`Net`), usually pruned; unchanged.
        images: `Dataset` to tune on.
        held_out: `Dataset` to choose the epoch by; of equally good ones the latest. The
            untuned net is never chosen: it often scores best, and still carries the backdoor.
        targets: (n, classes) soft labels of `images`; default: their hard labels.
        recipe: a `Recipe`.
        frozen: {layer name: [array of 0 and 1 for each weight]}; weights at 0 stay zero.
        objective: called once with the net being tuned and its loss; gives a function of scaled
            pictures and their targets that gives the gradients of the net's trainable variables,
            compiled into each step. Default: those of the loss.
        after_step: called after each step with the net being tuned and with the share of the steps
            that are done; may change its weights, and says whether they may be kept.
        held_back: classes that no picture shows, as `loss_for` takes them: tuning as if they were
            wrong for every picture would forget them.
        input_range: the net's range.
        seed: of the order, the changes of the pictures and dropout.

    Returns:
        (Net of the tuned net, `Tuning`).
    """
    import keras

    keras.utils.set_random_seed(seed)
    net = build(without_softmax(spec))
    masks = _masks(net, frozen or {})
    targets = images.labels if targets is None else targets
    epochs, steps = recipe.epochs_for(len(images))
    rng = np.random.default_rng(seed)

    def score():
        answers = predict_labels(net, held_out.images, input_range=input_range)
        return accuracy(answers, held_out.labels)

    scores = [score()]
    if not epochs:
        return spec, Tuning(0, tuple(scores), 0)
    total = epochs * steps
    gradients = (objective or plain_gradients)(net, loss_for(targets, held_back))
    step = _step(net, recipe, total, masks, input_range, gradients)
    kept, keepable, done = 0, True, 0
    with tqdm(total=total, desc="tuning", unit="step", disable=None) as bar:
        for epoch in range(1, epochs + 1):
            for batch in prepared(images, targets, recipe, steps, rng):
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
    return with_weights_of(net, spec), Tuning(kept, tuple(scores), total)


def plain_gradients(net, loss):
    """An objective of `fine_tune`: the loss itself."""
    import tensorflow as tf

    def gradients(inputs, targets):
        with tf.GradientTape() as tape:
            value = loss(targets, net(inputs, training=True))
        return tape.gradient(value, net.trainable_variables)

    return gradients


def _step(net, recipe, steps, masks, input_range, gradients):
    """A compiled tuning step: `uint8` pictures, light changes and targets in, weights changed."""
    import tensorflow as tf

    optimizer = _optimizer(recipe, steps)
    optimizer.build(net.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(pictures, gain, offset, targets):
        inputs = random_brightness_contrast(pictures, gain, offset, input_range)
        found = gradients(inputs, targets)
        if recipe.sharpness:
            # Averages of batch normalisation are of the net itself, not of the moved one.
            state = [tf.identity(variable.value) for variable in net.non_trainable_variables]
            found = at_sharpest(
                net.trainable_variables,
                found,
                recipe.sharpness,
                lambda: gradients(inputs, targets),
            )
            for variable, value in zip(net.non_trainable_variables, state, strict=True):
                variable.assign(value)
        optimizer.apply_gradients(zip(found, net.trainable_variables, strict=True))
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
