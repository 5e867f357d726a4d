"""Shapes given in face coordinates, drawn through a pose on an enlarged canvas."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from badnet_defense.demo.people import Colour
from badnet_defense.demo.shots import HEIGHT, WIDTH, Shot

SUPERSAMPLING = 3
"""Canvas pixels for each image pixel: the reduction smooths the edges."""

CANVAS_SIZE = (WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING)

FACE_CENTRE = (23.5, 28.5)
FACE_UNIT = 19.5
"""Where the middle of a face lies and how long half of it is, in image pixels."""

_TURN = np.linspace(0, 2 * math.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


class Sketch:
    """Draws on a Pillow image of `CANVAS_SIZE` in face coordinates: x right, y down, 0 = mid-face.

    `depth` says how far a feature stands out: the deeper, the more it moves as the head turns.
    """

    def __init__(self, image: Image.Image, shot: Shot) -> None:
        self._draw = ImageDraw.Draw(image)
        self._unit = FACE_UNIT * shot.scale * SUPERSAMPLING
        cos, sin = math.cos(shot.roll) * self._unit, math.sin(shot.roll) * self._unit
        self._matrix = np.array([[cos, sin], [-sin, cos]])
        self._centre = (np.array(FACE_CENTRE) + shot.shift) * SUPERSAMPLING
        self._turn = np.array(shot.turn)

    def polygon(self, points: ArrayLike, colour: Colour | int, *, depth: float = 0.0) -> None:
        """Fills the outline `points` (n, 2)."""
        self._draw.polygon(self._place(points, depth), fill=colour)

    def ellipse(
        self,
        centre: ArrayLike,
        radii: ArrayLike,
        colour: Colour | int,
        *,
        tilt: float = 0.0,
        depth: float = 0.0,
    ) -> None:
        """Fills an ellipse turned by `tilt` radians."""
        self.polygon(ellipse_outline(centre, radii, tilt), colour, depth=depth)

    def line(
        self, points: ArrayLike, colour: Colour | int, width: float, *, depth: float = 0.0
    ) -> None:
        """A line through `points`, `width` in image pixels."""
        pixels = max(1, round(width * SUPERSAMPLING))
        self._draw.line(self._place(points, depth), fill=colour, width=pixels, joint="curve")

    def _place(self, points: ArrayLike, depth: float) -> list[float]:
        points = np.asarray(points, float)
        return ((points + self._turn * depth) @ self._matrix + self._centre).ravel().tolist()


def ellipse_outline(centre: ArrayLike, radii: ArrayLike, tilt: float = 0.0) -> np.ndarray:
    """Outline (20, 2) of an ellipse."""
    outline = _CIRCLE * radii
    if tilt:
        cos, sin = math.cos(tilt), math.sin(tilt)
        outline = outline @ np.array([[cos, sin], [-sin, cos]])
    return outline + np.asarray(centre, float)
