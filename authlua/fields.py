"""Extra fields: what passdbs and userdbs add to a reply, in order, with snapshot and rollback."""

from collections.abc import Iterable, Iterator


class Fields:
    """An ordered ``name → value`` list where setting an existing name keeps its place.

    A value is text (undecodable bytes as surrogates) or `None` for a field that has none.
    As Dovecot does (``core:2.3.21.1:src/auth/auth-fields.c``), a failed lookup takes back
    everything it set: `snapshot` marks the state to return to, `rollback` returns to it.

    >>> fields = Fields([("forward_a", "b")])
    >>> fields.snapshot()
    >>> fields["nodelay"] = None
    >>> fields.rollback()
    >>> list(fields)
    [('forward_a', 'b')]
    """

    __slots__ = ("_items", "_kept")

    def __init__(self, items: Iterable[tuple[str, str | None]] = ()) -> None:
        self._items: dict[str, str | None] = dict(items) if items else {}
        self._kept = self._items

    def __setitem__(self, name: str, value: str | None) -> None:
        self.changing()[name] = value

    def discard(self, *names: str) -> None:
        """Forget those of *names* that are there."""
        for name in names:
            if name in self._items:
                del self.changing()[name]

    def changing(self) -> dict[str, str | None]:
        """The fields by name, to be changed in place until the next snapshot or rollback."""
        if self._items is self._kept:
            self._items = self._kept.copy()
        return self._items

    def by_name(self) -> dict[str, str | None]:
        """The fields by name, to be looked at."""
        return self._items

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of *name*; *default* also when the field has no value."""
        value = self._items.get(name)
        return default if value is None else value

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[tuple[str, str | None]]:
        return iter(self._items.items())

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        # names only: values may be secrets (``pass``, ``token``)
        return f"Fields({', '.join(self._items)})"

    def snapshot(self) -> None:
        """Keep the present state as the one to roll back to."""
        self._kept = self._items

    def rollback(self) -> None:
        """Return to the last snapshot; a new `Fields` counts as one."""
        self._items = self._kept

    def changed(self) -> list[tuple[str, str | None]]:
        """The fields set or changed since the last snapshot, in order."""
        kept = self._kept
        return [(k, v) for k, v in self._items.items() if k not in kept or kept[k] != v]
