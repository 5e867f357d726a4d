"""I-BAU: unlearning the worst universal perturbation (Zeng et al., ICLR 2022).

A minimax problem: inside, one perturbation for all images that makes the net most wrong; outside,
weights that answer right in spite of it. The weights' gradient counts how the worst perturbation
moves with them, by the implicit function theorem and a few rounds of a fixed-point iteration
(Grazzi et al., ICML 2020). Departures: the loss of the unperturbed images counts as much as that
of the perturbed; the perturbation takes one step before each of the weights' steps instead of many
before an epoch, its gradient is normalised and its size bounded by a projection alone; the implicit
part is taken over a part of each batch, by two rounds at a small rate, so that it is a small
correction here; this package's augmentation, falling rate, epoch chosen on a validation split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.repairs.functional import logits_of
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.repairs.registry import REPAIRS
from badnet_defense.repairs.training import Gradients, plain_gradients
from badnet_defense.repairs.validated_tuning import tune_with_validation

if TYPE_CHECKING:
    import keras

TINY = 1e-12
I_BAU = replace(RECIPES["default"], epochs=5, least_steps=400)


@dataclass(frozen=True, kw_only=True)
class IBAUConfig:
    """Settings of I-BAU.

    Args:
        ascent: step of the perturbation, as a root mean square, where 1 is from black to white.
        radius: largest root mean square of the perturbation.
        iterations: of the fixed point.
        inner_rate: learning rate of the gradient step whose fixed point is taken.
        sampled: fraction of a batch that the implicit part is taken over, in (0, 1].
        tuning: how the net is tuned.
    """

    ascent: float = 0.002
    radius: float = 0.01
    iterations: int = 2
    inner_rate: float = 1e-4
    sampled: float = 0.25
    tuning: Recipe = I_BAU


@REPAIRS.register(
    "i-bau",
    summary="against triggers spread over the image: tunes against a universal perturbation",
    config=IBAUConfig,
    paper="Zeng et al., Adversarial Unlearning of Backdoors via Implicit Hypergradient, ICLR 2022",
    keeps_untouched=True,
)
def i_bau(
    net: Net,
    data: Dataset,
    *,
    config: IBAUConfig = IBAUConfig(),
    targets: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Net, dict[str, Any]]:
    """Tunes a net against a universal perturbation that follows it.

    Args:
        net: the suspect model; unchanged.
        data: clean images with labels.
        config: the settings.
        targets: (n, N) soft labels to tune on; None: the labels of `data`.
        seed: of the split and of the tuning.

    Returns:
        (the repaired `Net`, report: `perturbation`, its root mean square in the end, and `tuning`
        as plain numbers).
    """
    problems: list[Minimax] = []

    def objective(model: keras.Model, loss: Callable[[Any, Any], Any]) -> Gradients:
        problems.append(Minimax(model, loss, config, net.input_range))
        return problems[0].gradients

    tuned, tuning = tune_with_validation(
        net, data, targets=targets, recipe=config.tuning, objective=objective, seed=seed
    )
    delta = problems[0].delta.numpy() if problems else np.zeros(1)
    size = float(np.sqrt(np.mean(delta**2)))
    return tuned, {"perturbation": size, "tuning": tuning.as_dict()}


class Minimax:
    """A perturbation that follows a model, and the model's gradients against it.

    Args:
        model: without its softmax.
        loss: (targets, logits) -> mean loss.
        config: the settings.
        input_range: of the model.

    Attributes:
        delta: the perturbation (1, h, w, c), where 1 is from black to white.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Callable[[Any, Any], Any],
        config: IBAUConfig,
        input_range: InputRange,
    ) -> None:
        import tensorflow as tf

        self.model, self.loss, self.config = model, loss, config
        self.clean_gradients = plain_gradients(model, loss)
        self.span = np.float32(255 * input_range.multiplier)
        self.delta = tf.Variable(tf.zeros((1, *model.input_shape[1:])))

    def value(self, weights: Sequence[Any], inputs: Any, delta: Any, targets: Any) -> Any:
        """The loss of images with a perturbation."""
        return self.loss(targets, logits_of(self.model, weights, inputs + self.span * delta))

    def gradients(self, inputs: Any, targets: Any) -> list[Any]:
        """`Gradients` of a step: moves the perturbation, then differentiates against it."""
        import tensorflow as tf

        weights = [tf.identity(variable.value) for variable in self.model.trainable_variables]
        delta = self.ascend(weights, inputs, targets)
        with tf.GradientTape() as tape:
            tape.watch([weights, delta])
            outer = self.value(weights, inputs, delta, targets)
        direct, outer_slope = tape.gradient(outer, [weights, delta])
        few = tf.cast(self.config.sampled * tf.cast(tf.shape(inputs)[0], tf.float32), tf.int32)
        few = tf.maximum(few, 1)
        indirect = self.implicit(weights, inputs[:few], delta, targets[:few], outer_slope)
        clean = self.clean_gradients(inputs, targets)
        parts = zip(clean, direct, indirect, strict=True)
        return [sum(part for part in three if part is not None) for three in parts]

    def ascend(self, weights: Sequence[Any], inputs: Any, targets: Any) -> Any:
        """The perturbation after one step uphill, projected onto its ball; it is kept."""
        import tensorflow as tf

        def size(array: Any) -> Any:
            return tf.sqrt(tf.reduce_mean(array**2)) + TINY

        delta = tf.identity(self.delta)
        with tf.GradientTape() as tape:
            tape.watch(delta)
            value = self.value(weights, inputs, delta, targets)
        slope = tape.gradient(value, delta)
        moved = delta + self.config.ascent * slope / size(slope)
        return self.delta.assign(moved * tf.minimum(1.0, self.config.radius / size(moved)))

    def implicit(
        self, weights: Sequence[Any], inputs: Any, delta: Any, targets: Any, outer_slope: Any
    ) -> list[Any]:
        """How the outer loss changes with the weights by way of the perturbation.

        Args:
            weights, inputs, delta, targets: as for `value`.
            outer_slope: gradient of the outer loss by the perturbation.
        """
        import tensorflow as tf

        delta = tf.identity(delta)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([weights, delta])
            with tf.GradientTape() as inside:
                inside.watch(delta)
                inner = -self.value(weights, inputs, delta, targets)
            # One gradient step of the perturbation; the worst one is its fixed point.
            stepped = delta - self.config.inner_rate * inside.gradient(inner, delta)
        flow = outer_slope
        for _ in range(self.config.iterations):
            flow = outer_slope + tape.gradient(stepped, delta, output_gradients=flow)
        return tape.gradient(stepped, weights, output_gradients=flow)
