"""FT-SAM: fine-tuning that looks for flat places (Zhu et al., ICCV 2023).

A backdoor's weights are large and its loss is flat around them, so plain tuning leaves them where
they are; a step uphill that goes with the weights' size moves them out. Departure: the product's
own pictures' changes and its epoch by held-out pictures.
"""

from dataclasses import replace

from badnet_defense.repairs.fine_tuning import tune_alone
from badnet_defense.repairs.recipes import RECIPES

FT_SAM = replace(RECIPES["default"], optimizer="sgd", learning_rate=0.05, sharpness=0.5)


def ft_sam(spec, images, *, recipe=FT_SAM, **settings):
    """Tunes a net with sharpness-aware steps; arguments and result as of `tune_alone`."""
    return tune_alone(spec, images, recipe=recipe, **settings)
