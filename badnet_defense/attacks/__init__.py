"""The attack lab: triggers, poisoning, and training a BadNet. No defence imports it."""

from badnet_defense.attacks.poison import Backdoor, poison, poisoned_test_set
from badnet_defense.attacks.training import train_badnet
from badnet_defense.attacks.triggers import (
    AccessoryTrigger,
    BlendTrigger,
    PatchTrigger,
    RenderedTrigger,
)

__all__ = [
    "AccessoryTrigger",
    "Backdoor",
    "BlendTrigger",
    "PatchTrigger",
    "RenderedTrigger",
    "poison",
    "poisoned_test_set",
    "train_badnet",
]
