"""Which values a param takes: its type, its choices, and the classes that its bound allows."""

from __future__ import annotations

import enum
import functools
import inspect
from typing import Any

from lingvo_lite import literals
from lingvo_lite.configuration.errors import ConfigError, ParamTypeError
from lingvo_lite.configuration.text_form import Text
from lingvo_lite.configuration.tree import REQUIRED, Adopt, IsPlain, Item, Node, Param, Template

_PLAIN = (bool, int, float, str, list, tuple, dict)


def Kept(node: Node, name: str, param: Param, value: Any) -> Any:
    """A value as the param keeps it; the param itself is left as it is.

    Args:
      node: where the param stands.
      name: of the param there.
      param: that is to take the value.
      value: what a user sets.

    Raises:
      ConfigError: if the value does not fit.
    """
    return Adopt(_Checked(param, value, node.Path(name)), node, name)


def KindOf(default: Any) -> type:
    """The declared type that a default stands for."""
    if isinstance(default, enum.Enum) or literals.IsDType(default):
        return type(default)
    return next((k for k in (*_PLAIN, type, Node) if isinstance(default, k)), object)


def Kind(kind: Any, where: str) -> type:
    """`kind` as it is kept.

    Raises:
      ConfigError: if no value of a param can have this type.
    """
    if isinstance(kind, type):
        if issubclass(kind, enum.Enum) or kind is object or kind.__name__ == 'DType':
            return kind
        if issubclass(kind, Node):
            return Node
        if kind in (*_PLAIN, type):
            return kind
    known = ', '.join(k.__name__ for k in _PLAIN)
    raise ConfigError(
        f'{where}: type is {known}, an enum, DType, type, Params or object; got {kind!r}.'
    )


def KindName(kind: type) -> str:
    """A declared type as messages write it."""
    return 'Params' if kind is Node else kind.__name__


def RootWithParams(cls: type) -> type:
    """The base class that introduced `Params`."""
    return [cls, *(base for base in cls.__mro__ if 'Params' in base.__dict__)][-1]


def _Checked(param: Param, value: Any, where: str) -> Any:
    """The value copied and fixed, or a ConfigError; where: the param's path."""
    if value is REQUIRED:
        if param.default is not REQUIRED:
            raise ParamTypeError(f'{where} has a default; only a param without is REQUIRED.')
        return REQUIRED
    if value is None and (param.default is None or param.kind is object):
        return None
    try:
        kept = literals.Normalize(value, param.bound, functools.partial(_NodeKept, param))
    except literals.LiteralError as error:
        raise ParamTypeError(f'{where}: {error}.') from None
    kept = _Coerce(kept, param.kind)
    if not _Fits(kept, param.kind):
        got = 'None' if value is None else f'{Text(kept)} ({type(value).__name__})'
        hint = _Hint(param.kind, value)
        raise ParamTypeError(f'{where} expects {KindName(param.kind)}, got {got}.{hint}')
    if param.choices is not None and kept not in param.choices:
        known = ', '.join(Text(choice) for choice in param.choices)
        raise ConfigError(f'{where} is one of {known}; got {Text(kept)}.')
    return kept


def _NodeKept(param: Param, value: Any, at: tuple[Any, ...]) -> Any:
    """What to keep for a value that is no plain literal, at these indices in the param's value."""
    if isinstance(value, literals.ParamsPlaceholder):
        cls = literals.CheckClass(literals.FindClass(value.name), param.bound)
        old = Item(param.value, at)
        return old if isinstance(old, Template) and old.cls is cls else _Make(cls)
    if isinstance(value, Template):
        literals.CheckClass(value.cls, param.bound)
        if not _HasParams(value.cls):
            raise literals.LiteralError(f'{literals.ClassName(value.cls)} has no Params()')
        return value
    if isinstance(value, Node):
        if at or not (param.kind is object or param.kind is Node):
            raise literals.LiteralError('only Params of a class can stand here')
        if isinstance(param.default, Template) or param.bound is not None:
            raise literals.LiteralError('Params of a class are wanted, these have none')
        if not isinstance(param.default, Node) or not _SameKeys(param.default, value):
            raise literals.LiteralError('Params without a class keep the keys of the default')
        return value
    raise literals.LiteralError(
        f'a {type(value).__module__}.{type(value).__name__} cannot be written as text'
    )


def _HasParams(cls: type) -> bool:
    return isinstance(inspect.getattr_static(cls, 'Params', None), classmethod)


def _Make(cls: Any) -> Template:
    """cls.Params(), for a class that text names."""
    name = literals.ClassName(cls)
    if not _HasParams(cls):
        raise literals.LiteralError(f'{name} has no Params()')
    try:
        made = cls.Params()
    except ConfigError:
        raise
    except Exception as error:
        raise literals.LiteralError(f'{name}.Params() fails: {error!r}') from error
    if not isinstance(made, Template) or made.cls is not cls:
        raise literals.LiteralError(f'{name}.Params() does not return InstantiableParams(cls)')
    return made


def _SameKeys(one: Any, other: Any) -> bool:
    """Whether plain nodes define the same, here and below; of other values, that both are none."""
    if not IsPlain(one) or not IsPlain(other):
        return not IsPlain(one) and not IsPlain(other)
    return one.GetKeys() == other.GetKeys() and all(
        param.kind is other._params[name].kind and _SameKeys(param.value, other._params[name].value)
        for name, param in one._params.items()
    )


def _Coerce(value: Any, kind: type) -> Any:
    """float takes an int; list and tuple take each other."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is list and isinstance(value, tuple):
        return literals.FixedList(value)
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    return value


def _Fits(value: Any, kind: type) -> bool:
    if kind is int and isinstance(value, bool):
        return False
    return isinstance(value, kind)


def _Hint(kind: type, value: Any) -> str:
    if kind is bool:
        return ' Write True or False.'
    if kind is Node and isinstance(value, type):
        return f' Use {value.__name__}.Params().'
    return ''
