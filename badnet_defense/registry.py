"""Methods by name: one registry each for repairs, detectors, scan passes and attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from badnet_defense.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Method(Generic[T]):
    """One registered method.

    Args:
        name: as it is written on the command line and in records, such as "ft-sam".
        run: the function or class that does the work.
        summary: one line that says when to take it.
        config: its settings, a frozen dataclass whose defaults are the method's own.
        paper: where it comes from.
        version: raised whenever the figures that it computes move; results of another version
            are not current.
        facts: what else its registry needs to know of it.
        module: full name of the module that registered it.
    """

    name: str
    run: T
    summary: str
    config: type
    paper: str = ""
    version: int = 1
    facts: dict[str, Any]
    module: str = ""

    def defaults(self) -> dict[str, Any]:
        """{setting: default}, as plain values; a setting without a default is left out.

        Examples:
            >>> from badnet_defense.repairs import REPAIRS
            >>> REPAIRS["fine-pruning"].defaults()["max_accuracy_drop"]
            0.04
        """
        config = self.config()
        return {field.name: getattr(config, field.name) for field in fields(config)}

    def make_config(self, settings: Mapping[str, Any]) -> Any:
        """The config with these settings, and else its own defaults.

        Raises:
            InputError: the method has no such setting, or not with this value.

        Examples:
            >>> from badnet_defense.repairs import REPAIRS
            >>> REPAIRS["fine-pruning"].make_config({"fraction": 0.5}).fraction
            0.5
        """
        taken = [field.name for field in fields(self.config) if field.init]
        for name in settings:
            if name not in taken:
                raise InputError(
                    f"{self.name} has no setting {name!r}; it has {', '.join(taken) or 'none'}."
                )
        return self.config(**settings)


class Registry(Generic[T]):
    """Methods of one kind, in the order in which they were registered.

    The package's own methods are imported when the registry is first asked; those of other packages
    come from the entry points of `group`, each of which names a module that registers its methods.
    A package that fails to import is told by name where a method is asked for that is not there.

    Args:
        kind: what a method is called in messages, such as "repair".
        group: name of the entry points, such as "badnet_defense.repairs".
        modules: full names of the package's own modules, in the order of their methods.
        renamed: {old name: today's}, for the refusal of an old one.

    Examples:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class NothingConfig:
        ...     strength: float = 1.0
        >>> registry = Registry("repair", "badnet_defense.example", ())
        >>> @registry.register("nothing", summary="changes nothing", config=NothingConfig)
        ... def nothing(net, data, *, config=NothingConfig(), seed=0):
        ...     return net, {}
        >>> registry.names()
        ('nothing',)
        >>> registry["nothing"].defaults()
        {'strength': 1.0}
    """

    def __init__(
        self,
        kind: str,
        group: str,
        modules: tuple[str, ...],
        *,
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self.kind, self.group, self.modules = kind, group, modules
        self.renamed = dict(renamed or {})
        self._methods: dict[str, Method[T]] = {}
        self._failed: dict[str, str] = {}
        self._loaded = False

    def register(
        self,
        name: str,
        *,
        summary: str,
        config: type,
        paper: str = "",
        version: int = 1,
        **facts: Any,
    ) -> Callable[[T], T]:
        """A decorator that registers a function or class under `name`.

        Raises:
            ValueError: the name is taken, or `config` is no frozen dataclass.
        """
        if name in self._methods:
            raise ValueError(f"two {self.kind}s are named {name!r}.")
        if not is_dataclass(config) or not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise ValueError(f"{self.kind} {name!r}: its config is no frozen dataclass.")

        def registered(run: T) -> T:
            self._methods[name] = Method(
                name=name,
                run=run,
                summary=summary,
                config=config,
                paper=paper,
                version=version,
                facts=facts,
                module=getattr(run, "__module__", ""),
            )
            return run

        return registered

    def names(self) -> tuple[str, ...]:
        """The names of all methods."""
        self._load()
        return tuple(self._methods)

    def __iter__(self) -> Iterator[Method[T]]:
        self._load()
        return iter(tuple(self._methods.values()))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._methods

    def __getitem__(self, name: str) -> Method[T]:
        """The method of that name.

        Raises:
            InputError: there is none.
        """
        self._load()
        if name in self.renamed:
            raise InputError(f"{self.kind} {name!r} is now called {self.renamed[name]!r}.")
        if name not in self._methods:
            failed = "".join(f"; {module} failed: {why}" for module, why in self._failed.items())
            raise InputError(
                f"{self.kind} {name!r} is unknown; expected one of "
                f"{', '.join(self._methods)}{failed}."
            )
        return self._methods[name]

    def _load(self) -> None:
        """Imports the modules that register methods: the package's own, then other packages'."""
        if self._loaded:
            return
        self._loaded = True  # first: a module may ask the registry while it is imported
        for module in self.modules:
            import_module(module)
        order = {module: place for place, module in enumerate(self.modules)}
        self._methods = dict(  # whichever of the modules was imported first
            sorted(self._methods.items(), key=lambda item: order.get(item[1].module, len(order)))
        )
        for point in entry_points(group=self.group):
            try:
                point.load()
            except Exception as error:  # noqa: BLE001 - somebody else's package may fail in any way
                self._failed[point.value] = f"{type(error).__name__}: {error}"
