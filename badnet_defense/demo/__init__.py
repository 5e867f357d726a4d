"""The built-in demo challenge: synthetic faces in the challenge's files, and four BadNets."""

from badnet_defense.demo.challenge import BACKDOORS, HARD, POISONED_FILES, make_challenge
from badnet_defense.demo.images import draw_images
from badnet_defense.demo.nets import train_demo_nets, write_weights_only

__all__ = [
    "BACKDOORS",
    "HARD",
    "POISONED_FILES",
    "draw_images",
    "make_challenge",
    "train_demo_nets",
    "write_weights_only",
]
