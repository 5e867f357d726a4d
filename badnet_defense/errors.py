"""The project's own errors: each message is one sentence for the person at the keyboard."""


class InputError(ValueError):
    """A file or value that cannot be used: says what came, what was expected and what to do.

    The scripts print the message on stderr and exit with code 1, without a traceback.
    """


class UnsafeNetError(InputError):
    """A net's file asks for something that is not a plain layer with plain weights."""
