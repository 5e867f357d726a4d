"""The training loop of the repairs: tunes a net on clean images, keeps its best epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from tqdm import tqdm

from badnet_defense.evaluation.metrics import accuracy
from badnet_defense.io.dataset import Dataset
from badnet_defense.nets.build import build, describe
from badnet_defense.nets.graph import without_softmax
from badnet_defense.nets.input_range import InputRange
from badnet_defense.nets.net import Net
from badnet_defense.nets.predict import predict_labels
from badnet_defense.nets.weights import with_weights
from badnet_defense.repairs.batches import augmented_batches
from badnet_defense.repairs.functional import loss_for, random_brightness_contrast
from badnet_defense.repairs.pseudo_labels import labels_of
from badnet_defense.repairs.recipes import RECIPES, Recipe
from badnet_defense.repairs.sharpness import at_sharpest

if TYPE_CHECKING:
    import keras

Gradients: TypeAlias = Callable[[Any, Any], list[Any]]
"""(scaled images, targets) -> gradients of the model's trainable variables."""
Objective: TypeAlias = Callable[["keras.Model", Callable[[Any, Any], Any]], Gradients]
"""(model, its loss) -> `Gradients`, compiled into each step."""


@dataclass(frozen=True)
class Tuning:
    """How tuning went.

    Attributes:
        kept_epoch: the epoch whose weights were kept; 0 only where none was asked for.
        held_out_accuracy: on the validation images, after 0, 1, .. epochs, in [0, 1].
        steps: of all epochs together.
    """

    kept_epoch: int
    held_out_accuracy: tuple[float, ...]
    steps: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        return {**asdict(self), "held_out_accuracy": list(self.held_out_accuracy)}


def train(
    net: Net,
    data: Dataset,
    validation: Dataset,
    *,
    targets: np.ndarray | None = None,
    recipe: Recipe = RECIPES["default"],
    frozen: Mapping[str, Sequence[np.ndarray]] | None = None,
    objective: Objective | None = None,
    after_step: Callable[[keras.Model, float], bool] | None = None,
    held_back: Sequence[int] | np.ndarray = (),
    seed: int = 0,
) -> tuple[Net, Tuning]:
    """Tunes a net on images and keeps the epoch with the best validation accuracy.

    Args:
        net: unchanged.
        data: images to tune on.
        validation: images that choose the epoch; of equally good ones the latest. The untuned net
            is never chosen: it often scores best, and still carries the backdoor.
        targets: (n, N) soft labels of `data`; None: their labels.
        recipe: how to tune.
        frozen: {layer name: [array of 0 and 1 for each weight]}; weights at 0 stay zero.
        objective: gives the gradients of a step; None: those of the loss.
        after_step: called after each step with the model and with the fraction of the steps that
            are done; may change its weights, and says whether they may be kept.
        held_back: classes that no image shows, as `loss_for` takes them: tuning as if they were
            wrong for every image would make the net forget them.
        seed: of the order, the augmentation and dropout.

    Returns:
        (the tuned `Net`, `Tuning`).
    """
    import keras

    keras.utils.set_random_seed(seed)
    model = build(without_softmax(net))
    masks = _masks(model, frozen or {})
    targets = labels_of(data) if targets is None else targets
    epochs, steps = recipe.epochs_for(len(data))
    rng = np.random.default_rng(seed)

    def score() -> float:
        answers = predict_labels(model, validation.images, input_range=net.input_range)
        return accuracy(answers, labels_of(validation))

    scores = [score()]
    if not epochs:
        return net, Tuning(0, tuple(scores), 0)
    total = epochs * steps
    gradients = (objective or plain_gradients)(model, loss_for(targets, held_back))
    step = _step(model, recipe, total, masks, net.input_range, gradients)
    best_epoch, best_weights, keepable, done = 0, None, True, 0
    with tqdm(total=total, desc="tuning", unit="step", disable=None) as bar:
        for epoch in range(1, epochs + 1):
            for batch in augmented_batches(data, targets, recipe, steps, rng):
                step(*batch)
                bar.update()
                done += 1
                if after_step is not None:
                    keepable = after_step(model, done / total)
            scores.append(score())
            bar.set_postfix_str(f"validation {scores[-1]:.1%}")
            if keepable and (not best_epoch or scores[-1] >= scores[best_epoch]):
                best_epoch, best_weights = epoch, model.get_weights()
    if best_weights is None:  # `after_step` allowed none: the last one, which is where it led
        best_epoch, best_weights = epochs, model.get_weights()
    model.set_weights(best_weights)
    return with_weights_of(model, net), Tuning(best_epoch, tuple(scores), total)


def plain_gradients(model: keras.Model, loss: Callable[[Any, Any], Any]) -> Gradients:
    """The default `Objective`: the loss itself."""
    import tensorflow as tf

    def gradients(inputs: Any, targets: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            value = loss(targets, model(inputs, training=True))
        return tape.gradient(value, model.trainable_variables)

    return gradients


def _step(
    model: keras.Model,
    recipe: Recipe,
    steps: int,
    masks: Sequence[tuple[Any, np.ndarray]],
    input_range: InputRange,
    gradients: Gradients,
) -> Callable[..., None]:
    """A compiled tuning step: an augmented batch in, weights changed."""
    import tensorflow as tf

    optimizer = _optimizer(recipe, steps)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(images: Any, gain: Any, offset: Any, targets: Any) -> None:
        inputs = random_brightness_contrast(images, gain, offset, input_range)
        slopes = gradients(inputs, targets)
        if recipe.sharpness:
            # Averages of batch normalisation are those of the net itself, not of the moved one.
            state = [tf.identity(variable.value) for variable in model.non_trainable_variables]
            slopes = at_sharpest(
                model.trainable_variables,
                slopes,
                recipe.sharpness,
                lambda: gradients(inputs, targets),
            )
            for variable, value in zip(model.non_trainable_variables, state, strict=True):
                variable.assign(value)
        optimizer.apply_gradients(zip(slopes, model.trainable_variables, strict=True))
        for variable, mask in masks:
            variable.assign(variable * mask)

    return step


def _optimizer(recipe: Recipe, steps: int) -> keras.Optimizer:
    import keras

    rate = recipe.learning_rate
    if recipe.decays:
        rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, 0.0)
    clip = recipe.clip or None
    if recipe.optimizer == "amsgrad":
        return keras.optimizers.Adam(rate, amsgrad=True, global_clipnorm=clip)
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, global_clipnorm=clip)


def _masks(
    model: keras.Model, frozen: Mapping[str, Sequence[np.ndarray]]
) -> list[tuple[Any, np.ndarray]]:
    return [
        (variable, np.asarray(mask, np.float32))
        for name, layer_masks in frozen.items()
        for variable, mask in zip(model.get_layer(name).weights, layer_masks, strict=True)
    ]


def with_weights_of(model: keras.Model, net: Net) -> Net:
    """`net` with the weights of `model`, a `keras.Model` of it without its last softmax."""
    tuned = describe(model)
    arrays = {name: list(layer.weights) for name, layer in tuned.layers.items()}
    return with_weights(net, arrays)
