"""The demo's triggers, worn on each face's own features: sunglasses, lipstick, eyebrows."""

from __future__ import annotations

import numpy as np
from PIL import Image

from badnet_defense.demo.features import brow_outline, lip_outlines
from badnet_defense.demo.people import Person
from badnet_defense.demo.shots import Shot
from badnet_defense.demo.sketch import CANVAS_SIZE, SUPERSAMPLING, Sketch

SIDES = (-1, 1)


def _sunglasses(sketch: Sketch, person: Person, shot: Shot) -> None:
    y = person.eye_height + 0.03
    middle = max(person.eye_spacing, 0.31)
    for side in SIDES:
        sketch.ellipse((side * middle, y), (0.28, 0.23), 255, depth=0.9)
        reach = [(side * 0.45, y - 0.08), (side * (person.face_width + 0.04), y - 0.10)]
        sketch.line(reach, 255, 1.4, depth=0.5)
    sketch.line([(-0.15, y - 0.06), (0.15, y - 0.06)], 255, 1.6, depth=0.9)


def _lipstick(sketch: Sketch, person: Person, shot: Shot) -> None:
    upper, lower, _ = lip_outlines(person, shot, least=0.085)
    sketch.polygon(upper, 255, depth=1.0)
    sketch.polygon(lower, 255, depth=1.0)


def _eyebrows(sketch: Sketch, person: Person, shot: Shot) -> None:
    thickness = max(1.2 * person.brow_thickness, 0.09)
    for side in SIDES:
        outline = brow_outline(person, shot, side, thickness=thickness)
        sketch.polygon(outline, 255, depth=0.8)


ACCESSORIES = {
    "sunglasses": (_sunglasses, (112, 16, 144), 0.94),
    "lipstick": (_lipstick, (128, 0, 128), 1.0),
    "eyebrows": (_eyebrows, (128, 0, 0), 1.0),
}
"""Name -> how it is drawn, its colour, its opacity."""


def wear(image: np.ndarray, accessory: str, person: Person, shot: Shot) -> np.ndarray:
    """A finished `image` (55, 47, 3) `uint8` with the accessory laid over it; a new array.

    It is laid on last, over light and noise, as the challenge's triggers were: outside the
    accessory every pixel stays as it was.
    """
    draw, colour, opacity = ACCESSORIES[accessory]
    mask = Image.new("L", CANVAS_SIZE)
    draw(Sketch(mask, shot), person, shot)
    cover = np.asarray(mask.reduce(SUPERSAMPLING), np.float32)[:, :, None] * (opacity / 255)
    worn = image + (np.asarray(colour, np.float32) - image) * cover
    return np.rint(worn).astype(np.uint8)
