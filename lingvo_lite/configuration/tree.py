"""The tree that Params are: nodes, the params at them, and what stands in a param.

A value is a literal, `REQUIRED`, a node, or a container that holds nodes. A node knows its parent,
so that a message can name the whole path. Nothing is checked here: see `hyperparams`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional

from lingvo_lite import literals
from lingvo_lite.configuration.errors import ParamTypeError

if TYPE_CHECKING:
    from typing_extensions import Self


class _Required:
    """The default of a param that has to be set before anything is built."""

    def __repr__(self) -> str:
        return 'REQUIRED'

    def __reduce__(self) -> str:
        return 'REQUIRED'  # Copies and pickles are the same object.


REQUIRED = _Required()


@dataclasses.dataclass(eq=False)
class Param:
    """One named value with what is known about it; see `hyperparams.Params.Define`."""

    default: Any
    description: str
    kind: type  # The declared one; `Node` for Params.
    choices: Optional[tuple[Any, ...]]
    bound: Optional[type]
    resume: str
    source: str  # 'file:line' of what last set it.
    value: Any = None

    def Copy(self, owner: Node, name: str) -> Param:
        """The same under another node."""
        result = copy.copy(self)
        result.value = Adopt(self.value, owner, name)
        return result


class Node:
    """A place in the tree, and the params there."""

    _params: dict[str, Param]
    _frozen: bool
    _parent: Optional[Node]  # None at the root.
    _key: str  # Name in the parent, with index: 'layers[0]'.
    _label: str  # At the root: the name of the whole, such as 'mt.WmtEnDe', ...
    _at: str  # ... and where in the whole this stood when it was copied.

    def __init__(self) -> None:
        self.__dict__.update(_params={}, _frozen=False, _parent=None, _key='', _label='', _at='')

    def GetKeys(self) -> list[str]:
        """The names at this node, sorted."""
        return sorted(self._params)

    def IterParams(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of this node, sorted by name."""
        for name in self.GetKeys():
            yield name, self._params[name].value

    def Copy(self) -> Self:
        """A deep copy that can be changed, even if this is frozen; it keeps its path in errors."""
        result = object.__new__(type(self))
        result.__dict__.update(self.__dict__)
        label, at = self._Place()
        result.__dict__.update(
            _params={}, _frozen=False, _parent=None, _key='', _label=label, _at=at
        )
        for name, param in self._params.items():
            result._params[name] = param.Copy(result, name)
        return result

    def Freeze(self) -> Self:
        """Makes this and all Params below it refuse every change."""
        self.__dict__['_frozen'] = True
        for _, value in self.IterParams():
            for _, nested in Nested('', value):
                nested.Freeze()
        return self

    def IsFrozen(self) -> bool:
        """Whether `Freeze` was called."""
        return self._frozen

    def SetLabel(self, label: str) -> Self:
        """Names the root of this tree in error messages, e.g. 'mt.WmtEnDe'."""
        self.__dict__.update(_label=label, _at='')
        return self

    def Path(self, key: str = '') -> str:
        """Dotted path of this node, or of `key` in it, as error messages write it."""
        label, at = self._Place()
        path = '.'.join(part for part in (at, key) if part)
        return f'{label}: {path}' if label and path else label or path

    def _Place(self) -> tuple[str, str]:
        """(name of the whole, dotted path in it)."""
        keys = []
        node: Node = self
        while node._parent is not None:
            keys.append(node._key)
            node = node._parent
        return node._label, '.'.join(part for part in (node._at, *reversed(keys)) if part)


class Template(Node):
    """A node that describes an object of a class."""

    cls: type


def IsPlain(value: Any) -> bool:
    """Whether `value` is a node without a class."""
    return isinstance(value, Node) and not isinstance(value, Template)


def Nested(path: str, value: Any) -> Iterator[tuple[str, Node]]:
    """(path, node) for the nodes in a value, which may be a container of them."""
    if isinstance(value, Node):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from Nested(f'{path}[{i}]', item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from Nested(f'{path}[{key!r}]', item)


def HoldsNodes(value: Any) -> bool:
    """Whether `value` is a node or a container that holds one."""
    return any(True for _ in Nested('', value))


def AllParams(node: Node) -> Iterator[Param]:
    """The params of this node and of those below."""
    for param in node._params.values():
        yield param
        for _, nested in Nested('', param.value):
            yield from AllParams(nested)


def Lines(node: Node) -> list[tuple[str, Any]]:
    """(path, value) of each leaf, sorted. A node with a class is a leaf, and has leaves below."""
    lines: list[tuple[str, Any]] = []
    for name, param in node._params.items():
        if not IsPlain(param.value):
            lines.append((name, param.value))
        for at, nested in Nested(name, param.value):
            lines += [(f'{at}.{path}', below) for path, below in Lines(nested)]
    return sorted(lines, key=lambda line: line[0])


def Adopt(value: Any, owner: Node, key: str) -> Any:
    """`value` with all nodes in it standing under `owner`.`key`, and copied unless they do."""
    if isinstance(value, Node):
        if value._parent is owner and value._key == key:
            return value
        result = value.Copy()
        result.__dict__.update(_parent=owner, _key=key, _label='', _at='')
        return result
    if isinstance(value, list):
        return literals.FixedList(Adopt(v, owner, f'{key}[{i}]') for i, v in enumerate(value))
    if isinstance(value, tuple):
        return tuple(Adopt(v, owner, f'{key}[{i}]') for i, v in enumerate(value))
    if isinstance(value, dict):
        for k, v in value.items():
            if type(k) not in (int, str) and HoldsNodes(v):
                where = owner.Path(key)
                raise ParamTypeError(f'{where}: Params stand under str or int keys, not {k!r}.')
        return literals.FixedDict({k: Adopt(v, owner, f'{key}[{k!r}]') for k, v in value.items()})
    return value


def FrozenCopy(value: Any) -> Any:
    """A value that shares no nodes with `value`, and is frozen; itself if there are none."""
    if not HoldsNodes(value):
        return value
    result = Adopt(value, Node(), 'default')
    for _, nested in Nested('', result):
        nested.Freeze()
    return result


def Item(value: Any, indices: tuple[Any, ...], missing: Any = None) -> Any:
    """value[i][j]..., through containers only; `missing` where there is nothing."""
    for index in indices:
        if isinstance(value, dict) and index in value:
            value = value[index]
        elif isinstance(value, (list, tuple)) and index in range(len(value)):
            value = value[index]
        else:
            return missing
    return value
