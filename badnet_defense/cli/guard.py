"""The commands that fit run-time detectors: `guard` and `strip`."""

import argparse

from badnet_defense.cli.console import add_reading, load_tensorflow, seed
from badnet_defense.detectors.registry import NAMES
from badnet_defense.errors import printable

RATE = 0.01


def rate(text):
    """An `argparse` type for `--false-alarms`: a share between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a share between 0 and 1, like 0.01")
    return value


def add_detector_options(parser, *, default):
    """Adds `--detector` and `--false-alarms`; without a default detector both may be absent."""
    names = "how pictures are judged; hard: the disagreement of both nets"
    parser.add_argument("--detector", choices=NAMES, default=default, help=names)
    parser.add_argument(
        "--false-alarms",
        type=rate,
        default=default and RATE,
        help=f"share of honest pictures that may be flagged; None: {RATE}",
    )


def add_guard(chosen):
    """Adds the command that makes a guard with a chosen false-alarm rate."""
    help_text = "make a guard with a chosen false-alarm rate"
    own = chosen.add_parser("guard", help=help_text, description=help_text)
    add = own.add_argument
    add("model", metavar="MODEL", help="the bad net")
    add("--repaired", help="the repaired net (default: the model's own in fine_pruned_models)")
    add("--clean", required=True, metavar="DATA", help="clean pictures; labels are not needed")
    add("--out", required=True, metavar="GUARD.keras", help="the guard to write")
    add("--seed", type=seed, default=0, help="of what is drawn at random")
    add_detector_options(own, default="soft")
    add_reading(own, stored=True)
    own.set_defaults(run=_guard)


def _guard(arguments):
    load_tensorflow()
    from badnet_defense.workflows.detect import guard_file

    def tell(result):
        print(f"{printable(arguments.out)}: {expected_text(result['detector'])}")

    guard_file(
        arguments.model,
        arguments.clean,
        out=arguments.out,
        name=arguments.detector,
        repaired=arguments.repaired,
        false_positive_rate=arguments.false_alarms,
        tell=tell,
        input_range=arguments.input_range,
        seed=arguments.seed,
    )


def expected_text(detector):
    """What false-alarm rate to expect of a fitted detector, from its figures."""
    expected = detector["expected"]
    percent = [f"{100 * expected[name]:.2f}" for name in ("rate", "low", "high")]
    how = ", cross-fitted" if detector["cross_fitted"] else ""
    caveat = f"; this {expected['caveat']}" if expected.get("caveat") else ""
    return (
        "detector {!r}, threshold {:.4g}; expect {} % false alarms (95 %: {} to {} %), by {} clean "
        "pictures{}{}"
    ).format(detector["name"], detector["threshold"], *percent, expected["pictures"], how, caveat)


def add_strip(chosen):
    """Adds the command that asks STRIP about pictures."""
    help_text = "judge pictures by STRIP: their entropy under overlays of clean pictures"
    own = chosen.add_parser("strip", help=help_text, description=help_text)
    add = own.add_argument
    add("model", metavar="MODEL", help="the suspect net")
    add("inputs", nargs="+", metavar="FILE", help="image files and data sets (.h5)")
    add("--clean", required=True, metavar="DATA", help="clean pictures; labels are not needed")
    add("--out", metavar="PNG", help="also draw a histogram of the entropies")
    add("--seed", type=seed, default=0, help="of the overlays")
    add("--false-alarms", type=rate, default=RATE, help="share of honest pictures to be flagged")
    add_reading(own)
    own.set_defaults(run=_strip)


def _strip(arguments):
    load_tensorflow()
    from badnet_defense.workflows.detect import strip_files

    strip_files(
        arguments.model,
        arguments.clean,
        arguments.inputs,
        out=arguments.out,
        false_positive_rate=arguments.false_alarms,
        tell=_tell_entropies,
        input_range=arguments.input_range,
        seed=arguments.seed,
    )


def _tell_entropies(found):
    limit = found["threshold"]
    print(f"suspicious below {limit:.3f} bits; false alarms to expect: {found['expected']}")
    for path, bits in found["entropies"].items():
        path = printable(path)
        if len(bits) == 1:
            print(f"{path}\t{bits[0]:.3f} bits\t{'suspicious' if bits[0] < limit else 'clean'}")
        else:
            share = (bits < limit).mean()
            print(f"{path}\tmean {bits.mean():.3f} bits\t{share:.1%} of {len(bits)} suspicious")
