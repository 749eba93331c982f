"""Params: trees of named, typed, documented hyperparameters.

`X.Params()` describes an X; `.Instantiate()` builds it:

    p = linear.Linear.Params().Set(input_dim=8, output_dim=4)
    layer = p.Instantiate()

Every mistake (unknown key, wrong type, missing value, wrong choice) is a `ConfigError` that names
the full dotted path, what was expected, and where the value was set. Whatever can be set can be
written as text and read back: see `literals`.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import enum
import functools
import inspect
import keyword
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, Callable, Optional

from lingvo_lite import literals

_LINE = re.compile(rf'\s*({literals.PATH.pattern})\s*:(.*)')
_PLAIN = (bool, int, float, str, list, tuple, dict)
_TYPE = type  # Define has an argument of that name


class ConfigError(ValueError):
    """A mistake in a configuration. The message is one line that a user can act on."""


class UnknownParamError(ConfigError, AttributeError):
    """A key that the node does not define."""


class ParamTypeError(ConfigError, TypeError):
    """A value of the wrong type."""


class FrozenError(ConfigError, TypeError):
    """A change to frozen Params, such as those that something was built from."""


class _Required:
    """The default of a param that has to be set before anything is built."""

    def __repr__(self) -> str:
        return 'REQUIRED'

    def __reduce__(self) -> str:
        return 'REQUIRED'  # Copies and pickles are the same object.


REQUIRED = _Required()


class _Param:
    """One named value with what is known about it."""

    value: Any = None

    def __init__(
        self,
        default: Any,
        description: str,
        type: type,
        choices: Optional[tuple[Any, ...]],
        bound: Optional[type],
        resume: str,
        source: str,
    ):
        self.default = default
        self.description = description
        self.type = type
        self.choices = choices
        self.bound = bound
        self.resume = resume
        self.source = source

    def Copy(self, owner: Params, name: str) -> _Param:
        result = copy.copy(self)
        result.value = _Adopt(self.value, owner, name)
        return result


class Params:
    """A node of the tree. See the module's docstring."""

    _params: dict[str, _Param]
    _frozen: bool
    _parent: Optional[Params]  # None at the root.
    _key: str  # Name in the parent, with index: 'layers[0]'.
    _label: str  # At the root: the name of the whole, such as 'mt.WmtEnDe', ...
    _at: str  # ... and where in the whole this stood when it was copied.

    def __init__(self) -> None:
        self.__dict__.update(_params={}, _frozen=False, _parent=None, _key='', _label='', _at='')

    # Defining.

    def Define(
        self,
        name: str,
        default: Any,
        description: str,
        type: Optional[type] = None,
        choices: Any = None,
        bound: Optional[type] = None,
        resume: str = 'fixed',
    ) -> None:
        """Adds a param.

        Args:
          name: lower-case identifier.
          default: its value until set; REQUIRED if it has none.
          description: what it means, with unit.
          type: the type of its values; that of the default unless given. `object` takes any value.
          choices: the allowed values, if only some are.
          bound: base class of the classes, and of the classes of Params, that may be set here, in
            a container too. For Params of a class it is found from the default unless given.
          resume: 'fixed' if it must not change within a run, 'free' if a restarted trainer may.

        Raises:
          ConfigError: if the definition is not sound or the name is taken.
        """
        if not isinstance(name, str) or not literals.NAME.fullmatch(name):
            raise ConfigError(f'{name!r} is no name of a param: use {literals.NAME.pattern}.')
        where = self.Path(name)
        if name == 'cls' or keyword.iskeyword(name):
            raise ConfigError(f'{where}: {name!r} has another meaning in Python or Params.')
        if name in self._params:
            raise ConfigError(f'{where} is already defined, at {self._params[name].source}.')
        if not isinstance(description, str) or not description.strip():
            raise ConfigError(f'{where} needs a description.')
        if resume not in ('fixed', 'free'):
            raise ConfigError(f"{where}: resume is 'fixed' or 'free', got {resume!r}.")
        if bound is not None and not isinstance(bound, _TYPE):
            raise ConfigError(f'{where}: bound is a class, got {bound!r}.')
        if self._frozen:
            raise FrozenError(f'{where} cannot be defined: the Params are frozen.')
        if type is None and (default is None or default is REQUIRED):
            raise ConfigError(f'{where}: a default of {default} needs type=.')
        kind = _KindOf(default) if type is None else _Kind(type, where)
        if kind is Params and bound is None and isinstance(default, InstantiableParams):
            bound = _RootWithParams(default.cls)
        plain = isinstance(default, Params) and kind is Params
        if kind in (_TYPE, Params) and bound is None and not plain:
            raise ConfigError(f'{where}: a param that holds a class or its Params needs bound=.')
        param = _Param(default, description.strip(), kind, None, bound, resume, _Caller())
        if choices is not None:
            if isinstance(choices, str):
                raise ConfigError(f'{where}: choices is a list of values, got {choices!r}.')
            param.choices = tuple(self._Checked(name, param, choice) for choice in choices)
        param.value = self._Checked(name, param, default)
        param.default = _FrozenCopy(param.value)
        self._params[name] = param

    def Delete(self, *paths: str) -> Params:
        """Removes params, as a subclass does with what it inherits but cannot use."""
        for path in paths:
            node, name, _ = self._Locate(path, whole=True)
            if node._frozen:
                raise FrozenError(f'{node.Path(name)} cannot be deleted: the Params are frozen.')
        for path in paths:
            node, name, _ = self._Locate(path, whole=True)
            del node._params[name]
        return self

    # Reading and setting.

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_'):
            raise AttributeError(name)
        return self._Find(name).value

    def __setattr__(self, name: str, value: Any) -> None:
        self._SetOne(name, value, _Caller())

    def __delattr__(self, name: str) -> None:
        raise ConfigError(f'Use Delete({name!r}).')

    def Set(self, **values: Any) -> Any:
        """Sets several params at once, all or none; keys may be dotted: Set(**{'a.b': 1}).

        Raises:
          ConfigError: on the first value that does not fit; nothing is set then.
        """
        self.SetFrom(list(values.items()), _Caller())
        return self

    def SetFrom(self, values: list[tuple[str, Any]], source: str) -> None:
        """As `Set`, with `source` as the place that `Why` and errors name."""
        with self.Atomic():
            for path, value in values:
                self._SetOne(path, value, source)

    @contextlib.contextmanager
    def Atomic(self) -> Iterator[None]:
        """Undoes every value set inside if an error leaves the block."""
        before = [(param, param.value, param.source) for param in self._Everything()]
        try:
            yield
        except BaseException:
            for param, value, source in before:
                param.value, param.source = value, source
            raise

    def Get(self, path: str) -> Any:
        """The value at a path such as 'encoder.layers[0].dim'."""
        node, name, indices = self._Locate(path)
        return node._At(name, indices)

    def GetKeys(self) -> list[str]:
        """The names at this node, sorted."""
        return sorted(self._params)

    def IterParams(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of this node, sorted by name."""
        for name in self.GetKeys():
            yield name, self._params[name].value

    def __contains__(self, name: str) -> bool:
        return name in self._params

    def __len__(self) -> int:
        return len(self._params)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._params})

    def __eq__(self, other: Any) -> bool:
        return type(other) is type(self) and self.ToText() == other.ToText()

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return self.ToText()

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.Path() or "(root)"}: {len(self._params)} params>'

    def __copy__(self) -> Any:
        return self.Copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.Copy()

    def Copy(self) -> Any:
        """A deep copy that can be changed, even if this is frozen; it keeps its path in errors."""
        result = self._Empty()
        label, at = self._Place()
        result.__dict__.update(_label=label, _at=at)
        for name, param in self._params.items():
            result._params[name] = param.Copy(result, name)
        return result

    def Freeze(self) -> Any:
        """Makes this and all Params below it refuse every change."""
        self.__dict__['_frozen'] = True
        for _, value in self.IterParams():
            for _, nested in _NestedParams('', value):
                nested.Freeze()
        return self

    def IsFrozen(self) -> bool:
        """Whether `Freeze` was called."""
        return self._frozen

    def SetLabel(self, label: str) -> Any:
        """Names the root of this tree in error messages, e.g. 'mt.WmtEnDe'."""
        self.__dict__.update(_label=label, _at='')
        return self

    # Asking.

    def Path(self, key: str = '') -> str:
        """Dotted path of this node, or of `key` in it, as error messages write it."""
        label, at = self._Place()
        path = '.'.join(part for part in (at, key) if part)
        return f'{label}: {path}' if label and path else label or path

    def Why(self, path: str) -> str:
        """Value, description and the place that set it, for the param at `path`."""
        node, name, indices = self._Locate(path)
        param = node._Find(name)
        text = _Text(node._At(name, indices))
        return f'{path} : {text}\n  {param.description}\n  set at {param.source}'

    def Source(self, path: str) -> str:
        """'file:line' of what last set the param at `path`."""
        return self._ParamAt(path).source

    def Description(self, path: str) -> str:
        """The description of the param at `path`."""
        return self._ParamAt(path).description

    def Type(self, path: str) -> type:
        """The declared type of the param at `path`, as a whole."""
        node, name, _ = self._Locate(path, whole=True)
        return node._Find(name).type

    def Default(self, path: str) -> Any:
        """The default of the param at `path`, Params frozen; REQUIRED where it has none."""
        return self._ParamAt(path).default

    def ResumeKind(self, path: str) -> str:
        """'free' if the param at `path`, or one above it, may change when a run goes on.

        'fixed' also for a path that is not here: another configuration may have had it.
        """
        node: Any = self
        try:
            parts = literals.SplitPath(path)
        except literals.LiteralError:  # of a damaged params.txt
            return 'fixed'
        for name, indices in parts:
            param = node._params.get(name) if isinstance(node, Params) else None
            if param is None:
                return 'fixed'
            if param.resume == 'free':
                return 'free'
            node = _Index(param.value, indices)
        return 'fixed'

    def Missing(self) -> list[tuple[str, str]]:
        """(path, type) of what is REQUIRED here and in nested Params without a class.

        Templates, Params of a class, are completed by what builds them.
        """
        missing = []
        for name, value in self.IterParams():
            if value is REQUIRED:
                missing.append((name, self._params[name].type.__name__))
            elif isinstance(value, Params) and not isinstance(value, InstantiableParams):
                missing += [(f'{name}.{below}', kind) for below, kind in value.Missing()]
        return missing

    def Visit(self, visit: Callable[[str, Any], None]) -> None:
        """Calls visit(path, value) for each line of `ToText`, in its order."""
        for path, value in self._Lines():
            visit(path, value)

    # Text.

    def ToText(self) -> str:
        """One 'key : value' line a leaf, sorted by key; `FromText` reads it back."""
        return ''.join(f'{path} : {_Text(value)}\n' for path, value in self._Lines())

    def FromText(self, text: str, source: str = 'text') -> Any:
        """Sets what the text says, all or nothing; what it does not mention stays.

        Outer lines are applied before inner ones, whatever their order, so that a line that swaps
        a class comes before the values of that class.

        Args:
          text: 'key : value' lines; lines that start with # and empty lines are skipped.
          source: the file's name, for `Why` and errors.

        Raises:
          ConfigError: with source and line, on anything that cannot be read or does not fit.
        """
        entries: dict[literals.Path, tuple[str, Any, str]] = {}
        for number, line in enumerate(text.split('\n'), 1):
            if not line.strip() or line.lstrip().startswith('#'):
                continue
            where = f'{source}:{number}'
            match = _LINE.fullmatch(line)
            if not match:
                shown = literals.Shown(line.strip())
                raise ConfigError(f'{where}: {shown} is not in the form key : value.')
            key, written = match[1], match[2].strip()
            try:
                parts = literals.SplitPath(key)
                value = REQUIRED if written == 'REQUIRED' else literals.Parse(written)
            except literals.LiteralError as error:
                raise ConfigError(f'{self.Path(key)}: {error}. {SetAt(where)}') from None
            if parts in entries:
                raise ConfigError(f'{where}: {key} was already given at {entries[parts][2]}.')
            entries[parts] = (key, value, where)
        with self.Atomic():
            for _, (key, value, where) in sorted(entries.items(), key=lambda e: len(e[0])):
                self._SetOne(key, value, where)
        return self

    def TextDiff(self, other: Params) -> str:
        """'' if the texts are equal; otherwise one line for each key that differs.

        '- key : value' stands only here, '+ key : value' only in `other`, and
        'key : mine -> theirs' in both.
        """
        mine = {path: _Text(value) for path, value in self._Lines()}
        theirs = {path: _Text(value) for path, value in other._Lines()}
        lines = []
        for key in sorted({*mine, *theirs}):
            if key not in theirs:
                lines.append(f'- {key} : {mine[key]}')
            elif key not in mine:
                lines.append(f'+ {key} : {theirs[key]}')
            elif mine[key] != theirs[key]:
                lines.append(f'{key} : {mine[key]} -> {theirs[key]}')
        return '\n'.join(lines)

    # Inside.

    def _Empty(self) -> Any:
        return Params()

    def _Place(self) -> tuple[str, str]:
        """(name of the whole, dotted path in it)."""
        keys = []
        node = self
        while node._parent is not None:
            keys.append(node._key)
            node = node._parent
        return node._label, '.'.join(part for part in (node._at, *reversed(keys)) if part)

    def _Find(self, name: str) -> _Param:
        if name in self._params:
            return self._params[name]
        near = difflib.get_close_matches(name, self._params, n=3, cutoff=0.6)
        node = self.Path()
        what = f'{node} has' if node else 'These Params have'
        if near:
            hint = 'Did you mean ' + ' or '.join(repr(n) for n in near) + '?'
        else:
            hint = f'It has: {", ".join(self.GetKeys()) or "none"}.'
        raise UnknownParamError(f'{what} no param {name!r}. {hint}')

    def _At(self, name: str, indices: tuple[Any, ...]) -> Any:
        value = _Index(self._Find(name).value, indices, missing=_Required)
        if value is _Required:
            path = self.Path(name) + ''.join(f'[{index!r}]' for index in indices)
            raise UnknownParamError(f'There is no {path}.')
        return value

    def _Locate(self, path: str, whole: bool = False) -> tuple[Params, str, tuple[Any, ...]]:
        """The node that holds the last part of the path, the name of that part, and its indices.

        Args:
          path: dotted path.
          whole: whether the last part must have no indices.

        Raises:
          UnknownParamError: if there is no such param.
        """
        try:
            parts = literals.SplitPath(path)
        except literals.LiteralError as error:
            raise UnknownParamError(f'{error}.') from None
        node = self
        for name, indices in parts[:-1]:
            value = node._At(name, indices)
            if not isinstance(value, Params):
                raise UnknownParamError(
                    f'{node.Path(name)} is {_Text(value)}, so there is no {path!r} below it.'
                )
            node = value
        name, indices = parts[-1]
        node._Find(name)
        if whole and indices:
            raise ConfigError(f'{node.Path(name)}: set the whole container instead of an item.')
        return node, name, indices

    def _ParamAt(self, path: str) -> _Param:
        node, name, _ = self._Locate(path)
        return node._Find(name)

    def _SetOne(self, path: str, value: Any, source: str) -> None:
        try:
            node, name, _ = self._Locate(path, whole=True)
            param = node._Find(name)
            if node._frozen:
                raise FrozenError(
                    f'{node.Path(name)} cannot be set: these Params are frozen. Change a Copy().'
                )
            checked = node._Checked(name, param, value)
        except UnknownParamError as error:
            raise UnknownParamError(f'{error} (from {source})') from None
        except ConfigError as error:
            raise type(error)(f'{error} {SetAt(source)}') from None
        param.value = checked
        param.source = source

    def _Checked(self, name: str, param: _Param, value: Any) -> Any:
        """The value as it is kept, or a ConfigError."""
        where = self.Path(name)
        if value is REQUIRED:
            if param.default is not REQUIRED:
                raise ParamTypeError(f'{where} has a default; only a param without is REQUIRED.')
            return REQUIRED
        if value is None and (param.default is None or param.type is object):
            return None
        try:
            kept = literals.Normalize(value, param.bound, functools.partial(_Template, param))
        except literals.LiteralError as error:
            raise ParamTypeError(f'{where}: {error}.') from None
        kept = _Coerce(kept, param.type)
        if not _Fits(kept, param.type):
            got = 'None' if value is None else f'{_Text(kept)} ({type(value).__name__})'
            hint = _Hint(param.type, value)
            raise ParamTypeError(f'{where} expects {param.type.__name__}, got {got}.{hint}')
        if param.choices is not None and kept not in param.choices:
            known = ', '.join(_Text(choice) for choice in param.choices)
            raise ConfigError(f'{where} is one of {known}; got {_Text(kept)}.')
        return _Adopt(kept, self, name)

    def _Everything(self) -> Iterator[_Param]:
        """All params of this node and of those below."""
        for param in self._params.values():
            yield param
            for _, nested in _NestedParams('', param.value):
                yield from nested._Everything()

    def _Lines(self) -> list[tuple[str, Any]]:
        """(path, value) of each line of text. Params with a class are a line of their own."""
        lines: list[tuple[str, Any]] = []
        for name, param in self._params.items():
            value = param.value
            if not isinstance(value, Params) or isinstance(value, InstantiableParams):
                lines.append((name, value))
            for at, nested in _NestedParams(name, value):
                lines += [(f'{at}.{path}', below) for path, below in nested._Lines()]
        return sorted(lines, key=lambda line: line[0])


class InstantiableParams(Params):
    """Params of a class: `Instantiate` builds one."""

    cls: type

    def __init__(self, cls: type):
        if not isinstance(cls, type):
            raise ConfigError(f'InstantiableParams are of a class, got {cls!r}.')
        super().__init__()
        self.__dict__['cls'] = cls

    def _Empty(self) -> Any:
        return InstantiableParams(self.cls)

    def __eq__(self, other: Any) -> bool:
        return super().__eq__(other) and self.cls is other.cls

    __hash__ = None

    def Instantiate(self, **kwargs: Any) -> Any:
        """cls(frozen copy of these Params, **kwargs).

        Raises:
          ConfigError: if a value is missing, or `cls.Check(params)` finds that values do not fit.
        """
        params = self.Copy().Freeze()
        missing = params.Missing()
        if missing:
            names = ', '.join(f'{name} ({kind})' for name, kind in missing)
            what = params.Path() or self.cls.__name__
            count = '1 param' if len(missing) == 1 else f'{len(missing)} params'
            raise ConfigError(f'{count} must be set before {what} can be built: {names}.')
        check = getattr(self.cls, 'Check', None)
        if check is not None:
            check(params)
        return self.cls(params, **kwargs)


def Fail(params: Params, message: str, key: str = '') -> ConfigError:
    """A ConfigError with the path of `params` in front, and where `key` was set behind.

    Use as `raise hyperparams.Fail(p, 'num_heads=6 does not divide model_dim=256.')`.
    """
    path = params.Path()
    text = f'{path}: {message}' if path else message
    return ConfigError(f'{text} {SetAt(params.Source(key))}' if key else text)


def Require(params: Params, holds: bool, key: str, expected: str) -> None:
    """Raises ConfigError unless `holds`, with the value of `key` and what it must be.

    Use as `hyperparams.Require(p, p.beam_size >= 1, 'beam_size', 'at least 1')`.
    """
    if not holds:
        raise Fail(params, f'{key}={params.Get(key)!r} must be {expected}.', key)


def RequireRange(
    params: Params,
    *keys: str,
    at_least: Optional[float] = None,
    above: Optional[float] = None,
    at_most: Optional[float] = None,
    below: Optional[float] = None,
    note: str = '',
) -> None:
    """`Require` for numbers, several at once; the message is made of the bounds.

    Use as `hyperparams.RequireRange(p, 'beta1', 'beta2', at_least=0, below=1)`.

    Args:
      params: the Params.
      *keys: of numbers. A None is not looked at; of a list or tuple each item is.
      at_least, above, at_most, below: the bounds, where there are any.
      note: what else is to be said, in brackets: what to do instead, say.
    """
    bounds = {'at least': at_least, 'above': above, 'at most': at_most, 'below': below}
    wanted = ' and '.join(f'{word} {bound}' for word, bound in bounds.items() if bound is not None)
    for key in keys:
        value = params.Get(key)
        if value is None:
            continue
        if isinstance(value, (list, tuple)):
            items = {f'{key}[{i}]': item for i, item in enumerate(value)}
        else:
            items = {key: value}
        for path, item in items.items():
            holds = (
                isinstance(item, (int, float))
                and (at_least is None or item >= at_least)
                and (above is None or item > above)
                and (at_most is None or item <= at_most)
                and (below is None or item < below)
            )
            Require(params, holds, path, f'{wanted} ({note})' if note else wanted)


def SetAt(source: str) -> str:
    """The end of a message: what has set the value."""
    return f'Set {"at" if re.search(r":[0-9]+$", source) else "by"} {source}.'


@functools.cache
def ShownFile(file: str) -> str:
    """A file's name as messages write it: relative if it lies below the working directory."""
    short = os.path.relpath(file) if os.path.isabs(file) else file
    return file if short.startswith('..') else short


def _Caller() -> str:
    """file:line of the code outside this module that is at work."""
    frame = sys._getframe(1)
    own = frame.f_code.co_filename
    while frame.f_back is not None and frame.f_code.co_filename == own:
        frame = frame.f_back
    return f'{ShownFile(frame.f_code.co_filename)}:{frame.f_lineno}'


def _KindOf(value: Any) -> type:
    """The declared type that a default stands for."""
    if isinstance(value, enum.Enum) or literals.IsDType(value):
        return type(value)
    return next((k for k in (*_PLAIN, type, Params) if isinstance(value, k)), object)


def _Kind(kind: Any, where: str) -> type:
    """`kind` as it is kept, or a ConfigError if no value can have it."""
    if isinstance(kind, type):
        if issubclass(kind, enum.Enum) or kind is object or kind.__name__ == 'DType':
            return kind
        if issubclass(kind, Params):
            return Params
        if kind in (*_PLAIN, type):
            return kind
    known = ', '.join(k.__name__ for k in _PLAIN)
    raise ConfigError(
        f'{where}: type is {known}, an enum, DType, type, Params or object; got {kind!r}.'
    )


def _RootWithParams(cls: type) -> type:
    """The base class that introduced `Params`."""
    return [cls, *(base for base in cls.__mro__ if 'Params' in base.__dict__)][-1]


def _Template(param: _Param, value: Any, at: tuple[Any, ...]) -> Any:
    """What to keep for a value that is no plain literal, at these indices in the param's value."""
    if isinstance(value, literals.ParamsPlaceholder):
        cls = literals.CheckClass(literals.FindClass(value.name), param.bound)
        old = _Index(param.value, at)
        return old if isinstance(old, InstantiableParams) and old.cls is cls else _Make(cls)
    if isinstance(value, InstantiableParams):
        literals.CheckClass(value.cls, param.bound)
        if not _HasParams(value.cls):
            raise literals.LiteralError(f'{literals.ClassName(value.cls)} has no Params()')
        return value
    if isinstance(value, Params):
        if at or not (param.type is object or param.type is Params):
            raise literals.LiteralError('only Params of a class can stand here')
        if isinstance(param.default, InstantiableParams) or param.bound is not None:
            raise literals.LiteralError('Params of a class are wanted, these have none')
        if not isinstance(param.default, Params) or not _SameKeys(param.default, value):
            raise literals.LiteralError('Params without a class keep the keys of the default')
        return value
    raise literals.LiteralError(
        f'a {type(value).__module__}.{type(value).__name__} cannot be written as text'
    )


def _HasParams(cls: type) -> bool:
    return isinstance(inspect.getattr_static(cls, 'Params', None), classmethod)


def _Make(cls: Any) -> InstantiableParams:
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
    if not isinstance(made, InstantiableParams) or made.cls is not cls:
        raise literals.LiteralError(f'{name}.Params() does not return InstantiableParams(cls)')
    return made


def _SameKeys(one: Any, other: Any) -> bool:
    """Whether two Params are plain and, with what is plain below, define the same."""
    if type(one) is not Params or type(other) is not Params:
        return type(one) is not Params and type(other) is not Params
    return one.GetKeys() == other.GetKeys() and all(
        param.type is other._params[name].type and _SameKeys(param.value, other._params[name].value)
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
    if kind is Params and isinstance(value, type):
        return f' Use {value.__name__}.Params().'
    return ''


def _Text(value: Any) -> str:
    if value is REQUIRED:
        return 'REQUIRED'
    if isinstance(value, Params) and not isinstance(value, InstantiableParams):
        return '{...}'
    return literals.Format(value)


def _Adopt(value: Any, owner: Params, key: str) -> Any:
    """`value` with all Params in it standing under `owner`.`key`, and copied unless they do."""
    if isinstance(value, Params):
        if value._parent is owner and value._key == key:
            return value
        result = value.Copy()
        result.__dict__.update(_parent=owner, _key=key, _label='', _at='')
        return result
    if isinstance(value, list):
        return literals.FixedList(_Adopt(v, owner, f'{key}[{i}]') for i, v in enumerate(value))
    if isinstance(value, tuple):
        return tuple(_Adopt(v, owner, f'{key}[{i}]') for i, v in enumerate(value))
    if isinstance(value, dict):
        for k, v in value.items():
            if type(k) not in (int, str) and any(True for _ in _NestedParams('', v)):
                where = owner.Path(key)
                raise ParamTypeError(f'{where}: Params stand under str or int keys, not {k!r}.')
        return literals.FixedDict({k: _Adopt(v, owner, f'{key}[{k!r}]') for k, v in value.items()})
    return value


def _FrozenCopy(value: Any) -> Any:
    """A value that shares no Params with `value`, and is frozen; itself if there are none."""
    if not any(True for _ in _NestedParams('', value)):
        return value
    result = _Adopt(value, Params(), 'default')
    for _, nested in _NestedParams('', result):
        nested.Freeze()
    return result


def _NestedParams(path: str, value: Any) -> Iterator[tuple[str, Params]]:
    """(path, Params) for the Params in a value, which may be a container of them."""
    if isinstance(value, Params):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _NestedParams(f'{path}[{i}]', item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _NestedParams(f'{path}[{key!r}]', item)


def _Index(value: Any, indices: tuple[Any, ...], missing: Any = None) -> Any:
    """value[i][j]..., through containers only; `missing` where there is nothing."""
    for index in indices:
        if isinstance(value, dict) and index in value:
            value = value[index]
        elif isinstance(value, (list, tuple)) and index in range(len(value)):
            value = value[index]
        else:
            return missing
    return value
