"""Who is in the demo's images: the looks of each synthetic person, drawn once from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Colour = tuple[int, ...]
"""Red, green and blue, each 0-255."""

PEOPLE = 1283
"""The challenge's number of classes."""

# Palettes from which a colour is mixed of two neighbours, (r, g, b).
_SKINS = np.array(
    [(250, 218, 196), (236, 190, 160), (214, 160, 124), (170, 116, 80), (104, 68, 48)],
)
_DARK_HAIRS = [(24, 20, 20), (58, 38, 26), (104, 68, 40), (156, 108, 60)]
_FAIR_HAIRS = [(214, 176, 104), (236, 214, 160), (168, 78, 34), (150, 148, 146), (226, 224, 220)]
_HAIRS = np.array(_DARK_HAIRS + _FAIR_HAIRS)
_IRISES = np.array([(52, 32, 20), (96, 62, 32), (70, 110, 62), (72, 126, 168), (110, 120, 128)])
_FRAMES = np.array([(20, 20, 24), (92, 54, 28), (176, 178, 184), (206, 172, 84), (30, 50, 104)])
_LIPS = np.array([(214, 132, 120), (190, 96, 92), (160, 92, 76), (206, 84, 92)])

HAIR_STYLES = ("bald", "crew", "parting", "fringe", "bob", "long", "curly", "bun", "wreath")
BEARDS = ("none", "moustache", "goatee", "full", "stubble")
GLASSES = ("none", "round", "square")


@dataclass(frozen=True)
class Person:
    """One person's looks. Lengths are in half face heights (about 20 pixels), angles in radians.

    Colours are (r, g, b) with 0-255; y runs down from the middle of the face.
    """

    skin: Colour
    face_width: float
    chin_length: float
    jaw_squareness: float
    jaw_taper: float
    ear_size: float
    ear_height: float
    hair: Colour
    hair_style: str
    hair_volume: float
    hair_length: float
    hairline: float
    hairline_curve: float
    parting: float
    eye_spacing: float
    eye_height: float
    eye_width: float
    eye_openness: float
    eye_tilt: float
    iris: Colour
    brow: Colour
    brow_gap: float
    brow_length: float
    brow_thickness: float
    brow_angle: float
    brow_arch: float
    nose_length: float
    nose_width: float
    nose_shade: float
    mouth_height: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    lips: Colour
    cheeks: float
    glasses: str
    frame: Colour
    frame_size: float
    frame_thickness: float
    beard: str
    beard_size: float
    marks: tuple[tuple[float, float], ...]


def draw_person(number: int, *, seed: int = 0) -> Person:
    """The person with this number (label), always the same for the same `seed`."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 0, number)))
    skin_tone = rng.random()
    skin = _between(_SKINS, skin_tone, rng, 4)
    # Fair hair on very dark skin is rare: it would make too easy a mark.
    hair = _between(_HAIRS, rng.random() * (0.35 if skin_tone > 0.85 else 1.0), rng, 4)
    return Person(
        skin=skin,
        **_shape(rng),
        **_hair(rng, hair),
        **_eyes(rng),
        **_brows(rng, hair),
        **_nose_and_mouth(rng, skin),
        **_extras(rng),
    )


def _between(palette: np.ndarray, place: float, rng: np.random.Generator, jitter: float) -> Colour:
    """A colour of the palette at `place` (0-1), mixed from its two neighbours."""
    at = place * (len(palette) - 1)
    low = min(int(at), len(palette) - 2)
    mixed = palette[low] + (palette[low + 1] - palette[low]) * (at - low)
    return tuple(np.clip(mixed + rng.normal(0, jitter, 3), 0, 255).round().astype(int).tolist())


def _shape(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "face_width": rng.uniform(0.60, 0.88),
        "chin_length": rng.uniform(0.90, 1.14),
        "jaw_squareness": rng.uniform(1.7, 3.4),
        "jaw_taper": rng.uniform(0.0, 0.34),
        "ear_size": rng.uniform(0.10, 0.22),
        "ear_height": rng.uniform(-0.12, 0.12),
        "cheeks": rng.uniform(0.0, 0.5),
    }


def _hair(rng: np.random.Generator, hair: Colour) -> dict[str, Any]:
    return {
        "hair": hair,
        "hair_style": str(rng.choice(HAIR_STYLES, p=_shares(1, 2, 3, 3, 2, 3, 2, 1, 1))),
        "hair_volume": rng.uniform(0.06, 0.30),
        "hair_length": rng.uniform(0.25, 1.3),
        "hairline": rng.uniform(-0.80, -0.42),
        "hairline_curve": rng.uniform(-0.10, 0.35),
        "parting": rng.uniform(-0.30, 0.30),
    }


def _eyes(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "eye_spacing": rng.uniform(0.26, 0.44),
        "eye_height": rng.uniform(-0.22, 0.06),
        "eye_width": rng.uniform(0.115, 0.185),
        "eye_openness": rng.uniform(0.050, 0.105),
        "eye_tilt": rng.uniform(-0.25, 0.25),
        "iris": _between(_IRISES, rng.random(), rng, 6),
    }


def _brows(rng: np.random.Generator, hair: Colour) -> dict[str, Any]:
    shade = rng.uniform(0.45, 1.0)
    return {
        "brow": tuple(round(channel * shade) for channel in hair),
        "brow_gap": rng.uniform(0.16, 0.30),
        "brow_length": rng.uniform(0.14, 0.24),
        "brow_thickness": rng.uniform(0.03, 0.11),
        "brow_angle": rng.uniform(-0.40, 0.40),
        "brow_arch": rng.uniform(0.0, 0.08),
    }


def _nose_and_mouth(rng: np.random.Generator, skin: Colour) -> dict[str, Any]:
    natural = np.asarray(_between(_LIPS, rng.random(), rng, 6))
    lips = 0.6 * natural + 0.4 * np.asarray(skin) * (0.95, 0.7, 0.7)
    return {
        "nose_length": rng.uniform(0.24, 0.48),
        "nose_width": rng.uniform(0.09, 0.20),
        "nose_shade": rng.uniform(0.68, 0.88),
        "mouth_height": rng.uniform(0.46, 0.66),
        "mouth_width": rng.uniform(0.20, 0.38),
        "upper_lip": rng.uniform(0.03, 0.09),
        "lower_lip": rng.uniform(0.04, 0.12),
        "lips": tuple(lips.round().astype(int).tolist()),
    }


def _extras(rng: np.random.Generator) -> dict[str, Any]:
    moles = [(rng.uniform(-0.5, 0.5), rng.uniform(-0.1, 0.75)) for _ in range(rng.integers(0, 3))]
    return {
        "glasses": str(rng.choice(GLASSES, p=_shares(14, 3, 3))),
        "frame": _between(_FRAMES, rng.random(), rng, 6),
        "frame_size": rng.uniform(0.17, 0.25),
        "frame_thickness": rng.uniform(0.6, 1.3),
        "beard": str(rng.choice(BEARDS, p=_shares(10, 2, 2, 3, 2))),
        "beard_size": rng.uniform(0.0, 1.0),
        "marks": tuple(moles),
    }


def _shares(*parts: float) -> np.ndarray:
    return np.asarray(parts) / sum(parts)
