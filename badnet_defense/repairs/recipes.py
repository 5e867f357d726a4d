"""Recipes for tuning a net on clean images: optimizer, length and augmentation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a net is tuned.

    Args:
        optimizer: "sgd" (with Nesterov's momentum 0.9) or "amsgrad" (Adam, Reddi et al. 2018).
        learning_rate: at the first step.
        decays: True lets it fall linearly to 0 at the last step.
        epochs: passes over the tuning images; 0 for no tuning.
        least_steps: small sets get more epochs, until there are this many steps.
        batch_size: images in a step.
        shift: largest random shift, as a fraction of the image size; 0 for none.
        clip: largest global norm of the gradients (Pascanu et al. 2013); 0 for no limit.
        erase: fraction of the images that get a rectangle of a random colour, in [0, 1].
        pattern: fraction of the images that get a faint random mosaic, in [0, 1].
        light: largest random change of contrast and of brightness, as a fraction; 0 for none.
        sharpness: radius of the adaptive sharpness-aware step before each one; 0 for none.
    """

    optimizer: str = "sgd"
    learning_rate: float
    decays: bool = True
    epochs: int
    least_steps: int = 0
    batch_size: int
    clip: float = 0.0
    shift: float = 0.0
    light: float = 0.0
    erase: float = 0.0
    pattern: float = 0.0
    sharpness: float = 0.0

    def epochs_for(self, images: int) -> tuple[int, int]:
        """(epochs, steps in each) for a number of tuning images.

        Examples:
            >>> RECIPES["default"].epochs_for(400)  # 4 steps an epoch, 1,000 in all
            (250, 4)
        """
        steps = -(-images // self.batch_size)
        if not self.epochs:
            return 0, steps
        return max(self.epochs, -(-self.least_steps // steps)), steps


RECIPES: dict[str, Recipe] = {
    "default": Recipe(
        optimizer="amsgrad",
        learning_rate=3e-3,
        epochs=12,
        least_steps=1000,
        batch_size=128,
        clip=1.0,
        shift=0.05,
        light=0.2,
        erase=0.2,
        pattern=0.2,
    ),
    "classic": Recipe(
        optimizer="amsgrad", learning_rate=1e-3, decays=False, epochs=5, batch_size=200
    ),
}
"""`default` came out of trials on the demo's and the traffic signs' nets (docs/results.md);
`classic` is what the challenge's teams did."""
