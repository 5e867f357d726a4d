"""The attack lab: triggers, poisoning, and training a BadNet. No defence imports it."""

from badnet_defense.attacks.accessory import AccessoryConfig, AccessoryTrigger, OverlayTrigger
from badnet_defense.attacks.base import Trigger
from badnet_defense.attacks.blend import BlendConfig, BlendTrigger
from badnet_defense.attacks.patch import PatchConfig, PatchTrigger
from badnet_defense.attacks.poison import Backdoor, poison, poisoned_test_set
from badnet_defense.attacks.registry import ATTACKS
from badnet_defense.attacks.rendered import RenderedTrigger
from badnet_defense.attacks.training import TrainingConfig, train_badnet

__all__ = [
    "ATTACKS",
    "AccessoryConfig",
    "AccessoryTrigger",
    "Backdoor",
    "BlendConfig",
    "BlendTrigger",
    "OverlayTrigger",
    "PatchConfig",
    "PatchTrigger",
    "RenderedTrigger",
    "TrainingConfig",
    "Trigger",
    "poison",
    "poisoned_test_set",
    "train_badnet",
]
