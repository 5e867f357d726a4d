"""The plainest engine: units are done in this very process, one after the other."""


class Serial:
    """See the package's own description."""

    workers = 1
    gpus = None
    apart = False

    def share(self, value):
        """The value itself."""
        return value

    def run(self, function, handles, units):
        """Does the units in their order."""
        for place, unit in enumerate(units):
            yield place, function(*handles, *unit)

    def close(self):
        """Nothing to end."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
