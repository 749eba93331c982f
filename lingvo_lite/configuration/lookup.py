"""Finding what a path such as 'encoder.layers[0].dim' names in a tree of Params."""

from __future__ import annotations

import difflib
from typing import Any

from lingvo_lite import literals
from lingvo_lite.configuration import text_form
from lingvo_lite.configuration.errors import ConfigError, UnknownParamError
from lingvo_lite.configuration.tree import Item, Node, Param

_NOTHING = object()


def Find(node: Node, name: str) -> Param:
    """The param of this name at a node.

    Raises:
      UnknownParamError: with the nearest names, if there is none.
    """
    if name in node._params:
        return node._params[name]
    near = difflib.get_close_matches(name, node._params, n=3, cutoff=0.6)
    path = node.Path()
    what = f'{path} has' if path else 'These Params have'
    if near:
        hint = 'Did you mean ' + ' or '.join(repr(n) for n in near) + '?'
    else:
        hint = f'It has: {", ".join(node.GetKeys()) or "none"}.'
    raise UnknownParamError(f'{what} no param {name!r}. {hint}')


def Locate(root: Node, path: str, whole: bool = False) -> tuple[Node, str, tuple[Any, ...]]:
    """The node that holds the last part of the path, the name of that part, and its indices.

    Args:
      root: where the path begins.
      path: dotted path.
      whole: whether the last part must have no indices.

    Raises:
      UnknownParamError: if there is no such param.
    """
    try:
        parts = literals.SplitPath(path)
    except literals.LiteralError as error:
        raise UnknownParamError(f'{error}.') from None
    node = root
    for name, indices in parts[:-1]:
        value = _At(node, name, indices)
        if not isinstance(value, Node):
            shown = text_form.Text(value)
            raise UnknownParamError(
                f'{node.Path(name)} is {shown}, so there is no {path!r} below it.'
            )
        node = value
    name, indices = parts[-1]
    Find(node, name)
    if whole and indices:
        raise ConfigError(f'{node.Path(name)}: set the whole container instead of an item.')
    return node, name, indices


def ParamAt(root: Node, path: str) -> Param:
    """The param that holds what the path names.

    Raises:
      UnknownParamError: if there is no such param.
    """
    node, name, _ = Locate(root, path)
    return Find(node, name)


def Get(root: Node, path: str) -> Any:
    """The value that the path names.

    Raises:
      UnknownParamError: if there is none.
    """
    return _At(*Locate(root, path))


def _At(node: Node, name: str, indices: tuple[Any, ...]) -> Any:
    value = Item(Find(node, name).value, indices, missing=_NOTHING)
    if value is _NOTHING:
        path = node.Path(name) + ''.join(f'[{index!r}]' for index in indices)
        raise UnknownParamError(f'There is no {path}.')
    return value
