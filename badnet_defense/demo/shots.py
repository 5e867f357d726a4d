"""What changes from one image of a person to the next: pose, expression, scene, light, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HEIGHT, WIDTH = 55, 47
"""The challenge's image size in pixels."""


@dataclass(frozen=True)
class Shot:
    """One moment in front of the camera.

    Args:
        shift: right and down, pixels.
        scale: 1 is the usual face size.
        roll: rotation in the image, radians.
        turn: how far the middle of the face moves right and down as the head turns, half faces.
        smile, mouth_open, brow_raise: expression; 0 is neutral, about 1 is strong.
        eye_open: 1 is the person's usual opening.
        backdrop: three (r, g, b) colours: upper left, lower right, clothes.
        blobs: (n, 4) things behind the head: x, y, radius in pixels, brightness step.
        gain, cast: brightness of the light, and of each colour channel (3,).
        light: strength of the side light and its direction (x, y).
        blur: standard deviation, pixels.
        noise: standard deviation, grey levels.
    """

    shift: tuple[float, ...]
    scale: float
    roll: float
    turn: tuple[float, float]
    smile: float
    mouth_open: float
    brow_raise: float
    eye_open: float
    backdrop: np.ndarray
    blobs: np.ndarray
    gain: float
    cast: np.ndarray
    light: tuple[float, float]
    blur: float
    noise: float


def draw_shot(rng: np.random.Generator) -> Shot:
    """A random moment, from the generator `rng`."""
    direction = rng.uniform(0, 2 * np.pi)
    strength = rng.uniform(0.0, 0.28)
    return Shot(
        shift=tuple(rng.uniform(-1.2, 1.2, 2).tolist()),
        scale=rng.uniform(0.95, 1.05),
        roll=rng.uniform(-0.07, 0.07),
        turn=(rng.uniform(-0.09, 0.09), rng.uniform(-0.05, 0.05)),
        smile=rng.uniform(-0.3, 1.0),
        mouth_open=max(0.0, rng.uniform(-0.8, 1.0)),
        brow_raise=rng.uniform(-0.6, 1.0),
        eye_open=rng.uniform(0.65, 1.15),
        backdrop=_muted(rng),
        blobs=_blobs(rng),
        gain=rng.uniform(0.74, 1.14),
        cast=rng.uniform(0.95, 1.05, 3),
        light=(strength * np.cos(direction), strength * np.sin(direction)),
        blur=rng.uniform(0.0, 0.5),
        noise=rng.uniform(1.5, 5.0),
    )


def _muted(rng: np.random.Generator) -> np.ndarray:
    """Backdrop and clothes: rooms and streets are greyer than three independent channels."""
    return (rng.uniform(30, 220, (3, 1)) + rng.uniform(-40, 40, (3, 3))).clip(0, 255)


def _blobs(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(0, 5))
    return rng.uniform((0, 0, 3, -45), (WIDTH, HEIGHT, 12, 45), (count, 4))


def develop(image: np.ndarray, shot: Shot, rng: np.random.Generator) -> np.ndarray:
    """The lit, blurred, noisy photograph of a drawn image (55, 47, 3) `uint8`; a new array."""
    from PIL import Image, ImageFilter

    if shot.blur > 0.15:
        blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(shot.blur))
        image = np.asarray(blurred)
    slope = _ACROSS * np.float32(shot.light[0]) + _DOWN * np.float32(shot.light[1])
    gain = (shot.gain * (1.0 + slope))[:, :, None] * shot.cast.astype(np.float32)
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(shot.noise)
    return np.clip(image * gain + grain + 0.5, 0, 255).astype(np.uint8)


_ACROSS = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :]
_DOWN = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
