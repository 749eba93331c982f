"""NestedMap: a tree of values with attribute access."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Callable, cast

_KEY = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')
_PART = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)((?:\[\d+\])*)')
_GONE = object()  # What `_Filter` returns for what is filtered out; None is a leaf like any other.


class NestedMap(dict[str, Any]):
    """A dict whose keys are identifiers and can be read and written as attributes.

    It is the form of every batch, state and result in lingvo_lite. Traversal (`Flatten`, `Pack`,
    `Transform`, ...) is in sorted order of keys, goes into maps, dicts, lists and tuples, and is
    the same as that of `tf.nest`, which sees a NestedMap as the dict that it is.

        m = NestedMap(a=1, b=NestedMap(c=[2, 3]))
        m.FlattenItems()  ->  [('a', 1), ('b.c[0]', 2), ('b.c[1]', 3)]
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for key in self:
            self._CheckKey(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self._CheckKey(key)
        super().__setitem__(key, value)

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(
                f'no {key!r} here; there are: {", ".join(sorted(self))}.'
            ) from None

    def __delattr__(self, key: str) -> None:
        try:
            del self[key]
        except KeyError:
            raise AttributeError(
                f'no {key!r} here; there are: {", ".join(sorted(self))}.'
            ) from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self})

    def copy(self) -> NestedMap:
        """A shallow copy."""
        return type(self)(self)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As dict.update, with the keys checked."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> NestedMap:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As dict.setdefault, with the key checked."""
        if key not in self:
            self[key] = default
        return self[key]

    @classmethod
    def _CheckKey(cls, key: Any) -> None:
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f'NestedMap keys are identifiers, got {key!r}.')
        if hasattr(cls, key):
            raise ValueError(f'{key!r} is a method of NestedMap; choose another key.')

    def Get(self, path: str, default: Any = None) -> Any:
        """The value at 'a.b[0].c', or `default` where there is none."""
        value: Any = self
        for part in path.split('.'):
            match = _PART.fullmatch(part)
            if not match:
                raise ValueError(f'{path!r} is no path: write it as a.b[0].c.')
            if not isinstance(value, dict) or match[1] not in value:
                return default
            value = value[match[1]]
            for index in re.findall(r'\d+', match[2]):
                if not isinstance(value, (list, tuple)) or int(index) >= len(value):
                    return default
                value = value[int(index)]
        return value

    def FlattenItems(self) -> list[tuple[str, Any]]:
        """Every leaf as (path, value), in sorted order of keys."""
        return list(_Items('', self))

    def Flatten(self) -> list[Any]:
        """Every leaf, in sorted order of keys."""
        return [value for _, value in _Items('', self)]

    def Pack(self, values: list[Any]) -> NestedMap:
        """This structure with `values` as its leaves, in the order of `Flatten`.

        Raises:
          ValueError: if the number of values differs from the number of leaves.
        """
        values = list(values)
        wanted = len(self.Flatten())
        if len(values) != wanted:
            raise ValueError(f'{wanted} leaves to fill, got {len(values)} values.')
        rest = iter(values)
        return cast(NestedMap, _Rebuild('', self, lambda path, _: next(rest)))

    def Transform(self, fn: Callable[[Any], Any]) -> NestedMap:
        """This structure with `fn(leaf)` for each leaf."""
        return cast(NestedMap, _Rebuild('', self, lambda path, value: fn(value)))

    def TransformWithKey(self, fn: Callable[[str, Any], Any]) -> NestedMap:
        """This structure with `fn(path, leaf)` for each leaf."""
        return cast(NestedMap, _Rebuild('', self, fn))

    def Filter(self, fn: Callable[[Any], bool]) -> NestedMap:
        """The leaves for which `fn(leaf)` holds; maps that are left empty go."""
        return self.FilterKeyVal(lambda path, value: fn(value))

    def FilterKeyVal(self, fn: Callable[[str, Any], bool]) -> NestedMap:
        """The leaves for which `fn(path, leaf)` holds; maps and lists that are left empty go."""
        kept = _Filter('', self, fn)
        return type(self)() if kept is _GONE else cast(NestedMap, kept)

    def IsCompatible(self, other: Any) -> bool:
        """Whether `other` has the same paths."""
        return isinstance(other, dict) and [k for k, _ in _Items('', self)] == [
            k for k, _ in _Items('', other)
        ]

    def DebugString(self) -> str:
        """One 'path  value' line a leaf."""
        return '\n'.join(f'{path}  {value}' for path, value in self.FlattenItems())


def _Items(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _Items(f'{path}.{key}' if path else key, value[key])
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _Items(f'{path}[{i}]', item)
    else:
        yield path, value


def _Rebuild(path: str, value: Any, fn: Callable[[str, Any], Any]) -> Any:
    if isinstance(value, dict):
        parts = {k: _Rebuild(f'{path}.{k}' if path else k, value[k], fn) for k in sorted(value)}
        return type(value)({k: parts[k] for k in value})
    if isinstance(value, (list, tuple)):
        items = [_Rebuild(f'{path}[{i}]', item, fn) for i, item in enumerate(value)]
        if hasattr(value, '_fields'):
            return type(value)(*items)
        return type(value)(items)
    return fn(path, value)


def _Filter(path: str, value: Any, fn: Callable[[str, Any], bool]) -> Any:
    if isinstance(value, dict):
        parts = {k: _Filter(f'{path}.{k}' if path else k, value[k], fn) for k in sorted(value)}
        kept = {k: parts[k] for k in value if parts[k] is not _GONE}
        return type(value)(kept) if kept else _GONE
    if isinstance(value, (list, tuple)):
        items = [_Filter(f'{path}[{i}]', item, fn) for i, item in enumerate(value)]
        items = [item for item in items if item is not _GONE]
        return (list if isinstance(value, list) else tuple)(items) if items else _GONE
    return value if fn(path, value) else _GONE
