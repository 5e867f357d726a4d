"""What every script shares: quiet TensorFlow, messages on stderr, exit codes, common options."""

import argparse
import logging
import os
import sys

from badnet_defense.data.input_range import UNIT, InputRange
from badnet_defense.errors import InputError


def run(main):
    """Runs `main()` as a script: exit 0 done, 1 bad input (a sentence on stderr), 130 stopped."""
    # TensorFlow's C++ side reads these once, when it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("badnet_defense").setLevel(logging.INFO)
    try:
        main()
        sys.stdout.flush()
    except InputError as error:
        sys.exit(_told(str(error)))
    except OSError as error:
        sys.exit(
            _told(f"{error.filename or 'a file'}: {error.strerror or error}; nothing was lost.")
        )
    except KeyboardInterrupt:
        print("stopped; nothing half-written is left.", file=sys.stderr)
        sys.exit(130)


def load_tensorflow():
    """Imports TensorFlow without its C++ start-up chatter, which no setting silences.

    Called where a script knows that it needs it, so that bad arguments are answered at once.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import keras  # noqa: F401
        import tensorflow

        tensorflow.get_logger().setLevel(logging.ERROR)
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _told(message):
    print(message, file=sys.stderr)
    return 1


def input_range(text):
    """An `argparse` type for `--input-range LOW,HIGH`."""
    try:
        return InputRange.parse(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_input_range(parser):
    """Adds `--input-range`, which every script that reads a net takes."""
    parser.add_argument(
        "--input-range",
        type=input_range,
        default=UNIT,
        metavar="LOW,HIGH",
        help="what the net takes for black and for white (default 0,1)",
    )


def parser(description, **settings):
    """An `ArgumentParser` that shows defaults."""
    settings.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
    return argparse.ArgumentParser(description=description, **settings)


def seed(text):
    """An `argparse` type for `--seed`: a whole number that every generator takes."""
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to {2**32 - 1}")
    return int(text)


def labels(text):
    """An `argparse` type for `--labels`: class numbers and ranges, such as 0-42 or 1,5,8."""
    found = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdigit() and last.isdigit() and int(first) <= int(last)):
            raise argparse.ArgumentTypeError(f"{text!r}: expected labels such as 0-42 or 1,5,8")
        found.update(range(int(first), int(last) + 1))
    return sorted(found)
