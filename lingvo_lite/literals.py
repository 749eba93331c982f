"""What a param can hold, and how values and paths are written as text.

Values are None, bool, int, float, str, enums, dtypes, classes, and lists, tuples and dicts of
these. Their text is a strict Python literal, extended by five forms that look like calls and are
never executed:

    float('inf')   dtype('bfloat16')   enum('package.module.Color.RED')
    type('package.module.Class')       params('package.module.Class')

The last stands for the Params of a class; `hyperparams` fills it in. A path is
a.layers[0].dim, or a.heads['name'].dim.
"""

from __future__ import annotations

import ast
import difflib
import enum
import importlib
import math
import re
import sys
import warnings
from typing import Any, Callable, NoReturn, Optional

from lingvo_lite import renamed

NAME = re.compile(r'[a-z][a-z0-9_]*')
_INDEX = r"""\[(?:0|-?[1-9]\d*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")\]"""
_INDICES = rf'(?:{_INDEX})*'
_PART = re.compile(rf'({NAME.pattern})({_INDICES})')
PATH = re.compile(rf'{NAME.pattern}{_INDICES}(?:\.{NAME.pattern}{_INDICES})*')
_QUOTES = ' (a str stands in quotes)'
_QUOTED = 200  # characters of a wrong text that a message shows
_MAX_DEPTH = 30  # Python 3.9's parser gives up near 90.
_HOUSE = 'lingvo_lite'
_ROOMS = ('decoding', 'inputs', 'layers', 'metrics', 'optim')  # whose public names may be imported
_MAX_BITS = 256  # Python 3.11 writes no int of more than 4300 digits.

Path = tuple[tuple[str, tuple[Any, ...]], ...]


class LiteralError(ValueError):
    """Text that is no literal of a param, or a value that has no text."""


class _Fixed:
    """Mixed into the containers that Params hold: they change as a whole or not at all."""

    def _Refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            'A container in Params cannot be changed in place. Set the param to a new one: '
            'p.x = p.x + [...], or p.x = {**p.x, ...}.'
        )

    append = extend = insert = remove = pop = clear = sort = reverse = _Refuse
    update = setdefault = popitem = _Refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = __ior__ = _Refuse


class FixedList(_Fixed, list):  # type: ignore[type-arg]
    """A list in Params."""

    def __reduce__(self) -> Any:
        return (FixedList, (list(self),))


class FixedDict(_Fixed, dict):  # type: ignore[type-arg]
    """A dict in Params."""

    def __reduce__(self) -> Any:
        return (FixedDict, (dict(self),))


class ParamsPlaceholder:
    """What `params('package.module.Class')` reads as."""

    def __init__(self, name: str):
        self.name = name


def SplitPath(path: str) -> Path:
    """Reads 'a.layers[0].dim' as (('a', ()), ('layers', (0,)), ('dim', ())).

    Raises:
      LiteralError: if it is no path.
    """
    if not isinstance(path, str) or not PATH.fullmatch(path):
        raise LiteralError(f'{Shown(path)} is no path of a param')
    parts = []
    at = 0
    while at < len(path):
        match = _PART.match(path, at)
        assert match is not None  # PATH has matched.
        indices = re.findall(_INDEX, match[2])
        parts.append((match[1], tuple(Parse(index[1:-1]) for index in indices)))
        at = match.end() + 1
    return tuple(parts)


def IsDType(value: Any) -> bool:
    """Whether `value` is a tf.DType (found without importing TensorFlow)."""
    return type(value).__name__ == 'DType' and hasattr(value, 'as_numpy_dtype')


def ClassName(cls: type) -> str:
    """The dotted name by which `FindClass` finds `cls` again.

    A class of lingvo_lite has its public name, `lingvo_lite.layers.Linear`: that of the outermost
    package that lists it. Others are named by their module.
    """
    parts = cls.__module__.split('.')
    if parts[0] == _HOUSE:
        for end in range(2, len(parts)):
            package = '.'.join(parts[:end])
            if _Public(sys.modules.get(package), cls.__qualname__) is cls:
                return f'{package}.{cls.__qualname__}'
    return f'{cls.__module__}.{cls.__qualname__}'


def FindClass(name: str) -> type:
    """The class with this dotted name, among the modules that are imported.

    Imports nothing but the public names of lingvo_lite itself. Names that classes had before are
    understood (`renamed`).

    Raises:
      LiteralError: if there is no such class in any module imported so far.
    """
    parts = renamed.Present(name).split('.')
    if parts[0] == _HOUSE and len(parts) > 2 and parts[1] in _ROOMS:
        importlib.import_module('.'.join(parts[:2]))
    for end in range(len(parts) - 1, 0, -1):
        module = sys.modules.get('.'.join(parts[:end]))
        if module is None:
            continue
        found: Any = _Public(module, parts[end]) or module.__dict__.get(parts[end])
        for part in parts[end + 1 :]:
            found = getattr(found, '__dict__', {}).get(part)
        if isinstance(found, type):
            return found
        where, wanted = '.'.join(parts[:end]), '.'.join(parts[end:])
        public = module.__all__ if parts[0] == _HOUSE and hasattr(module, '__all__') else ()
        near = difflib.get_close_matches(wanted, public, n=2)
        hint = f'; did you mean {" or ".join(repr(n) for n in near)}?' if near else ''
        raise LiteralError(f'module {where} has no class {wanted!r}{hint}')
    raise LiteralError(
        f'class {name!r} is in no imported module (only --model and --import import one)'
    )


def _Public(package: Any, name: str) -> Any:
    """What a package of lingvo_lite offers under a name; None unless it lists it."""
    inside = getattr(package, '__name__', '').split('.')[0] == _HOUSE
    if not inside or name not in getattr(package, '__all__', ()):
        return None
    return getattr(package, name)


def CheckClass(cls: type, bound: Optional[type]) -> type:
    """`cls` itself, if it may stand where `bound` is asked for and can be found again by name."""
    name = ClassName(cls)
    if bound is None:
        raise LiteralError(f'{name} is a class, and this param was defined without bound=')
    if not issubclass(cls, bound):
        raise LiteralError(f'{name} is no subclass of {ClassName(bound)}')
    _CheckFound(cls)
    return cls


def Normalize(
    value: Any,
    bound: Optional[type],
    leaf: Callable[[Any, tuple[Any, ...]], Any],
    at: tuple[Any, ...] = (),
) -> Any:
    """The value as a param keeps it: containers copied and fixed, number types made plain.

    Args:
      value: what a user sets.
      bound: the base class of the classes that may stand here; None refuses classes.
      leaf: called as leaf(value, at) for what is not a literal (Params); returns what to keep.
      at: the indices from the param's own value down to this one.

    Returns:
      An equal value that shares no container with the one given.

    Raises:
      LiteralError: if `value` is, or holds, something that could not be read back from text.
    """
    if len(at) > _MAX_DEPTH:
        raise LiteralError(f'containers are nested more than {_MAX_DEPTH} deep')
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        _CheckFound(type(value))
        if not value.name or type(value).__members__.get(value.name) is not value:
            raise LiteralError(f'{value!r} is a combination of members and has no name')
        return value
    if IsDType(value):
        ReadDType(value.name)
        return value
    if isinstance(value, (int, float, str)):
        kept = next(plain(value) for plain in (int, float, str) if isinstance(value, plain))
        if isinstance(kept, int) and kept.bit_length() > _MAX_BITS:
            raise LiteralError(f'an int of {kept.bit_length()} bits is too long')
        return kept
    if isinstance(value, list):
        return FixedList(Normalize(v, bound, leaf, (*at, i)) for i, v in enumerate(value))
    if isinstance(value, tuple):
        if type(value) is not tuple:
            raise LiteralError(f'a {type(value).__name__} cannot be written as text; use a tuple')
        return tuple(Normalize(v, bound, leaf, (*at, i)) for i, v in enumerate(value))
    if isinstance(value, dict):
        return FixedDict(
            {_NormalKey(k): Normalize(v, bound, leaf, (*at, k)) for k, v in value.items()}
        )
    if isinstance(value, type):
        return CheckClass(value, bound)
    if callable(value):
        raise LiteralError(
            f'a function cannot be written as text, got {getattr(value, "__name__", value)!r}; '
            'use a name with choices, or a class with Params'
        )
    return leaf(value, at)


def Format(value: Any) -> str:
    """The text of a value; `Parse` reads it back."""
    if isinstance(value, enum.Enum):
        return f'enum({ClassName(type(value)) + "." + value.name!r})'
    if isinstance(value, float) and not math.isfinite(value):
        return f'float({str(value)!r})'
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, list):
        return '[' + ', '.join(Format(v) for v in value) + ']'
    if isinstance(value, tuple):
        return '(' + ', '.join(Format(v) for v in value) + (',)' if len(value) == 1 else ')')
    if isinstance(value, dict):
        return '{' + ', '.join(f'{Format(k)}: {Format(v)}' for k, v in value.items()) + '}'
    if IsDType(value):
        return f'dtype({value.name!r})'
    if isinstance(value, type):
        return f'type({ClassName(value)!r})'
    return f'params({ClassName(value.cls)!r})'


def Parse(text: str) -> Any:
    """Reads what `Format` writes.

    Raises:
      LiteralError: with the reason, if the text is anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Python's on '\d': a regex is written so.
            return _Read(ast.parse(text.strip(), mode='eval').body)
    except LiteralError:
        raise
    except (SyntaxError, RecursionError, MemoryError, ValueError):
        raise LiteralError(f'{Shown(text.strip())} is no literal{_QUOTES}') from None


def Shown(text: Any) -> str:
    """The repr of a text as messages quote it: the middle of a long one is left out."""
    shown = repr(text)
    return shown if len(shown) <= _QUOTED else f'{shown[: _QUOTED // 2]}...{shown[-20:]}'


def ReadDType(name: str) -> Any:
    """The tf.DType of this name, if TensorFlow is imported.

    Raises:
      LiteralError: if it is not imported, or has no such dtype.
    """
    tf = sys.modules.get('tensorflow')
    if tf is None:
        raise LiteralError(f'dtype({name!r}) cannot be read before TensorFlow is imported')
    try:
        found = tf.as_dtype(name)
    except TypeError:
        found = None
    if found is None or found.name != name or name.endswith('_ref'):
        raise LiteralError(f'TensorFlow has no dtype {name!r}')
    return found


def _CheckFound(cls: type) -> None:
    """Refuses classes that another process would not find by their name."""
    name = ClassName(cls)
    if '<locals>' in name:
        raise LiteralError(f'{name} is defined inside a function; move it to a module')
    try:
        if FindClass(name) is cls:
            return
    except LiteralError:
        pass
    raise LiteralError(f'{name} is not what is found by that name: redefined, or made at run time')


def _NormalKey(key: Any) -> Any:
    if key is not None and not isinstance(key, (bool, int, float, str)):
        raise LiteralError(f'a dict key must be a plain scalar, got {key!r}')
    return Normalize(key, None, lambda leaf, at: leaf)


def _Read(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, float) and math.isinf(value):
            raise LiteralError(f"{ast.unparse(node)} is too large; infinity is float('inf')")
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
    elif isinstance(node, ast.List):
        return [_Read(item) for item in node.elts]
    elif isinstance(node, ast.Tuple):
        return tuple(_Read(item) for item in node.elts)
    elif isinstance(node, ast.Dict):
        return _ReadDict(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _Read(node.operand)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    elif isinstance(node, ast.Call):
        return _ReadCall(node)
    quotes = _QUOTES if isinstance(node, (ast.Name, ast.Attribute)) else ''
    raise LiteralError(f'{Shown(ast.unparse(node))} is no literal{quotes}')


def _ReadDict(node: ast.Dict) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key_node, value_node in zip(node.keys, node.values):
        if key_node is None:
            raise LiteralError(f'{Shown(ast.unparse(node))} is no literal')
        key = _NormalKey(_Read(key_node))
        if key in result:
            raise LiteralError(f'the key {key!r} is given twice')
        result[key] = _Read(value_node)
    return result


def _ReadCall(node: ast.Call) -> Any:
    name = node.func.id if isinstance(node.func, ast.Name) else ''
    if len(node.args) == 1 and not node.keywords and isinstance(node.args[0], ast.Constant):
        arg = node.args[0].value
        if isinstance(arg, str) and name in _CALLS:
            return _CALLS[name](arg)
    raise LiteralError(f'{Shown(ast.unparse(node))} is no literal, and text is never executed')


def _ReadFloat(arg: str) -> float:
    if arg not in ('inf', '-inf', 'nan'):
        raise LiteralError(f"float({arg!r}): only 'inf', '-inf' and 'nan' are written so")
    return float(arg)


def _ReadEnum(arg: str) -> Any:
    owner, _, member = arg.rpartition('.')
    cls = FindClass(owner)
    if not issubclass(cls, enum.Enum):
        raise LiteralError(f'{owner!r} is no enum')
    if member not in cls.__members__:
        raise LiteralError(f'{owner} has no member {member!r}; it has {", ".join(cls.__members__)}')
    return cls[member]


_CALLS: dict[str, Callable[[str], Any]] = {
    'float': _ReadFloat,
    'dtype': ReadDType,
    'enum': _ReadEnum,
    'type': FindClass,
    'params': ParamsPlaceholder,
}
