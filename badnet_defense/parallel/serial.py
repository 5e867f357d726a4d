"""The plainest engine: units are done in this very process, one after the other."""


class ClosedError(RuntimeError):
    """An engine was closed while its units were being done, as on Ctrl-C."""


class Serial:
    """See the package's own description."""

    workers = 1
    gpus = None
    apart = False
    closed = False

    def share(self, value):
        """The value itself."""
        return value

    def release(self, value):
        """Nothing is kept."""

    def run(self, function, handles, units):
        """Does the units in their order."""
        for place, unit in enumerate(units):
            self.check_open()
            yield place, function(*handles, *unit)

    def check_open(self):
        """Raises `ClosedError` once the engine was closed."""
        if self.closed:
            raise ClosedError("the engine was closed")

    def stop(self):
        """Lets nothing more be done; from any thread, while others wait for units."""
        self.closed = True

    def close(self):
        """Stops, and gives back what it holds; no thread waits for a unit any more."""
        self.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
