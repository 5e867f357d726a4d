"""I-BAU: unlearning the worst universal perturbation (Zeng et al., ICLR 2022).

A minimax game: inside, one perturbation for all pictures that makes the net most wrong; outside,
weights that answer right in spite of it. The weights' gradient counts how the worst perturbation
moves with them, by the implicit function theorem and a few rounds of a fixed-point iteration
(Grazzi et al., ICML 2020). Departures: the gradient of the perturbation is normalised, its size is
bounded by a projection alone, relative to the picture's, and a round takes fewer pictures.
"""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from badnet_defense.data.input_range import UNIT
from badnet_defense.data.splits import split_within_classes
from badnet_defense.nets.build import build
from badnet_defense.nets.graph import without_softmax
from badnet_defense.repair.fine_tuning import with_weights_of
from badnet_defense.repair.functional import batches, logits_of, loss_for, scaled_pictures
from badnet_defense.repair.held_out_tuning import HELD_OUT


@dataclass(frozen=True, kw_only=True)
class Game:
    """How the game is played.

    Args:
        rounds: perturbations that are found and unlearnt.
        ascents: steps of the perturbation in each round.
        ascent: size of one such step, as a root mean square, where 1 is from black to white.
        radius: largest root mean square of the perturbation.
        steps: of the weights in each round.
        learning_rate: of the weights, by Adam.
        iterations: of the fixed point.
        inner_rate: of the gradient step that the fixed point is of.
        batch_size: pictures in a step.
    """

    rounds: int = 5
    ascents: int = 10
    ascent: float = 0.01
    radius: float = 0.05
    steps: int = 40
    learning_rate: float = 5e-4
    iterations: int = 3
    inner_rate: float = 1e-4
    batch_size: int = 128


def i_bau(spec, images, *, targets=None, game=Game(), input_range=UNIT, seed=0):
    """Tunes a net against universal perturbations.

    Args:
        spec: the bad net (`NetSpec`); unchanged.
        images: clean `LabelledImages`, with labels.
        targets: (n, classes) soft labels; default: the hard ones.
        game: a `Game`.
        input_range: the net's range.
        seed: of the split, whose held-out pictures are not used, and of the pictures' order.

    Returns:
        (`NetSpec` of the repaired net, report as plain numbers).
    """
    import tensorflow as tf

    net = build(without_softmax(spec))
    tuning, _ = split_within_classes(images.labels, HELD_OUT, seed=seed)
    targets = (images.labels if targets is None else targets)[tuning]
    images = images.subset(tuning)
    ascend, descend = compiled_steps(net, loss_for(targets), game, input_range)
    drawn = batches(images, targets, game.batch_size, np.random.default_rng((seed, 10)))
    sizes = []
    with tqdm(total=game.rounds * (game.ascents + game.steps), desc="I-BAU", disable=None) as bar:
        for _ in range(game.rounds):
            worst = tf.zeros((1, *spec.input_shape))
            for _ in range(game.ascents):
                worst = ascend(*next(drawn), worst)
                bar.update()
            sizes.append(float(tf.sqrt(tf.reduce_mean(worst**2))))
            for _ in range(game.steps):
                descend(*next(drawn), worst)
                bar.update()
    return with_weights_of(net, spec), {"perturbations": sizes}


def compiled_steps(net, loss, game, input_range):
    """(one step of the perturbation uphill, one step of the weights downhill), compiled."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(game.learning_rate)
    optimizer.build(net.trainable_variables)

    span = np.float32(255 * input_range.multiplier)

    def value(weights, inputs, worst, wanted):
        return loss(wanted, logits_of(net, weights, inputs + span * worst))

    def size(worst):
        return tf.sqrt(tf.reduce_mean(worst**2)) + 1e-12

    @tf.function(reduce_retracing=True)
    def ascend(pictures, wanted, worst):
        weights = [variable.value for variable in net.trainable_variables]
        inputs = scaled_pictures(pictures, input_range)
        with tf.GradientTape() as tape:
            tape.watch(worst)
            found = value(weights, inputs, worst, wanted)
        slope = tape.gradient(found, worst)
        moved = worst + game.ascent * slope / size(slope)
        return moved * tf.minimum(1.0, game.radius / size(moved))

    @tf.function(reduce_retracing=True)
    def descend(pictures, wanted, worst):
        inputs = scaled_pictures(pictures, input_range)
        weights = [tf.identity(variable.value) for variable in net.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch([weights, worst])
            outer = value(weights, inputs, worst, wanted) + value(weights, inputs, 0.0, wanted)
        direct, seen = tape.gradient(outer, [weights, worst])
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([weights, worst])
            with tf.GradientTape() as inside:
                inside.watch(worst)
                inner = -value(weights, inputs, worst, wanted)
            # One gradient step of the perturbation; the worst one is its fixed point.
            stepped = worst - game.inner_rate * inside.gradient(inner, worst)
        flow = seen
        for _ in range(game.iterations):
            flow = seen + tape.gradient(stepped, worst, output_gradients=flow)
        indirect = tape.gradient(stepped, weights, output_gradients=flow)
        gradients = [
            one if other is None else one + other
            for one, other in zip(direct, indirect, strict=True)
        ]
        optimizer.apply_gradients(zip(gradients, net.trainable_variables, strict=True))

    return ascend, descend
