"""I-BAU: unlearning the worst universal perturbation (Zeng et al., ICLR 2022).

A minimax game: inside, one perturbation for all pictures that makes the net most wrong; outside,
weights that answer right in spite of it. The weights' gradient counts how the worst perturbation
moves with them, by the implicit function theorem and a few rounds of a fixed-point iteration
(Grazzi et al., ICML 2020). Departures: the loss of the unperturbed pictures counts as much as that
of the perturbed; the perturbation takes one step before each of the weights' steps instead of many
before an epoch, its gradient is normalised and its size bounded by a projection alone; the implicit
part is taken over a part of each batch, by two rounds at a small rate, so that it is a small
correction here; the product's own changes of pictures, falling rate, epoch by held-out pictures.
"""

from dataclasses import dataclass, replace

import numpy as np

from badnet_defense.nets.input_range import UNIT
from badnet_defense.repairs.functional import logits_of
from badnet_defense.repairs.recipes import RECIPES
from badnet_defense.repairs.training import plain_gradients
from badnet_defense.repairs.validated_tuning import tune_held_out

TINY = 1e-12
I_BAU = replace(RECIPES["default"], epochs=5, least_steps=400)


@dataclass(frozen=True, kw_only=True)
class IBAUConfig:
    """How the game is played.

    Args:
        ascent: step of the perturbation, as a root mean square, where 1 is from black to white.
        radius: largest root mean square of the perturbation.
        iterations: of the fixed point.
        inner_rate: of the gradient step that the fixed point is of.
        sampled: share of a batch that the implicit part is taken over, in (0, 1].
    """

    ascent: float = 0.002
    radius: float = 0.01
    iterations: int = 2
    inner_rate: float = 1e-4
    sampled: float = 0.25


def i_bau(spec, images, *, recipe=I_BAU, game=IBAUConfig(), input_range=UNIT, **settings):
    """Tunes a net against a universal perturbation that follows it.

    Args:
        spec: the bad net (`Net`); unchanged.
        images: clean `Dataset`, with labels.
        recipe: a `Recipe`.
        game: a `IBAUConfig`.
        input_range: the net's range.
        settings: `targets` and `seed` as `fine_tune` takes them.

    Returns:
        (`Net` of the repaired net, report as plain numbers).
    """
    made = []

    def objective(net, loss):
        made.append(Minimax(net, loss, game, input_range))
        return made[0].gradients

    tuned, tuning = tune_held_out(
        spec, images, recipe=recipe, objective=objective, input_range=input_range, **settings
    )
    worst = made[0].worst.numpy() if made else np.zeros(1)
    size = float(np.sqrt(np.mean(worst**2)))
    return tuned, {"perturbation": size, "tuning": tuning.as_dict()}


class Minimax:
    """A perturbation that follows a net, and the net's gradients against it."""

    def __init__(self, net, loss, game, input_range):
        import tensorflow as tf

        self.net, self.loss, self.game = net, loss, game
        self.clean_gradients = plain_gradients(net, loss)
        self.span = np.float32(255 * input_range.multiplier)
        self.worst = tf.Variable(tf.zeros((1, *net.input_shape[1:])))

    def value(self, weights, inputs, worst, wanted):
        """The loss of pictures with a perturbation."""
        return self.loss(wanted, logits_of(self.net, weights, inputs + self.span * worst))

    def gradients(self, inputs, wanted):
        """An objective of `fine_tune`: moves the perturbation, then differentiates against it."""
        import tensorflow as tf

        weights = [tf.identity(variable.value) for variable in self.net.trainable_variables]
        worst = self.ascend(weights, inputs, wanted)
        with tf.GradientTape() as tape:
            tape.watch([weights, worst])
            outer = self.value(weights, inputs, worst, wanted)
        direct, seen = tape.gradient(outer, [weights, worst])
        few = tf.cast(self.game.sampled * tf.cast(tf.shape(inputs)[0], tf.float32), tf.int32)
        few = tf.maximum(few, 1)
        indirect = self.implicit(weights, inputs[:few], worst, wanted[:few], seen)
        clean = self.clean_gradients(inputs, wanted)
        parts = zip(clean, direct, indirect, strict=True)
        return [sum(one for one in found if one is not None) for found in parts]

    def ascend(self, weights, inputs, wanted):
        """The perturbation after one step uphill, within its ball; it is kept."""
        import tensorflow as tf

        def size(array):
            return tf.sqrt(tf.reduce_mean(array**2)) + TINY

        worst = tf.identity(self.worst)
        with tf.GradientTape() as tape:
            tape.watch(worst)
            found = self.value(weights, inputs, worst, wanted)
        slope = tape.gradient(found, worst)
        moved = worst + self.game.ascent * slope / size(slope)
        return self.worst.assign(moved * tf.minimum(1.0, self.game.radius / size(moved)))

    def implicit(self, weights, inputs, worst, wanted, seen):
        """How the outer loss changes with the weights by way of the perturbation.

        Args:
            seen: gradient of the outer loss by the perturbation.
        """
        import tensorflow as tf

        worst = tf.identity(worst)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([weights, worst])
            with tf.GradientTape() as inside:
                inside.watch(worst)
                inner = -self.value(weights, inputs, worst, wanted)
            # One gradient step of the perturbation; the worst one is its fixed point.
            stepped = worst - self.game.inner_rate * inside.gradient(inner, worst)
        flow = seen
        for _ in range(self.game.iterations):
            flow = seen + tape.gradient(stepped, worst, output_gradients=flow)
        return tape.gradient(stepped, weights, output_gradients=flow)
