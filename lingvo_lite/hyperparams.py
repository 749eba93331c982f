"""Params: trees of named, typed, documented hyperparameters.

`X.Params()` describes an X; `.Instantiate()` builds it:

    p = linear.Linear.Params().Set(input_dim=8, output_dim=4)
    layer = p.Instantiate()

Every mistake (unknown key, wrong type, missing value, wrong choice) is a `ConfigError` that names
the full dotted path, what was expected, and where the value was set. Whatever can be set can be
written as text and read back: see `literals`.

The parts are in configuration/: `tree` is the tree itself, `lookup` finds what a dotted path
names, `checks` says which values a param takes, `text_form` is the text, `errors` are the errors.
What users need of them is named here.
"""

from __future__ import annotations

import contextlib
import keyword
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, Generic, Optional, TypeVar

from lingvo_lite import literals
from lingvo_lite.configuration import checks, lookup, text_form, tree
from lingvo_lite.configuration.errors import (
    Caller,
    ConfigError,
    FrozenError,
    ParamTypeError,
    SetAt,
    ShownFile,
    UnknownParamError,
)
from lingvo_lite.configuration.requirements import Fail, Require, RequireRange
from lingvo_lite.configuration.tree import REQUIRED

if TYPE_CHECKING:
    from typing_extensions import Self
else:
    Self = Any  # It stands in annotations only, which nothing reads at run time.

__all__ = [
    'REQUIRED',
    'ConfigError',
    'Fail',
    'FrozenError',
    'InstantiableParams',
    'ParamTypeError',
    'Params',
    'Require',
    'RequireRange',
    'Self',
    'SetAt',
    'ShownFile',
    'UnknownParamError',
]

_TYPE = type  # Define has an argument of that name
_T_co = TypeVar('_T_co', covariant=True)


class Params(tree.Node):
    """A node of the tree. See the module's docstring."""

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
        kind = checks.KindOf(default) if type is None else checks.Kind(type, where)
        of_nodes = kind is tree.Node
        if of_nodes and bound is None and isinstance(default, InstantiableParams):
            bound = checks.RootWithParams(default.cls)
        plain = of_nodes and tree.IsPlain(default)
        if (of_nodes or kind is _TYPE) and bound is None and not plain:
            raise ConfigError(f'{where}: a param that holds a class or its Params needs bound=.')
        param = tree.Param(default, description.strip(), kind, None, bound, resume, source=Caller())
        if choices is not None:
            if isinstance(choices, str):
                raise ConfigError(f'{where}: choices is a list of values, got {choices!r}.')
            param.choices = tuple(checks.Kept(self, name, param, choice) for choice in choices)
        param.value = checks.Kept(self, name, param, default)
        param.default = tree.FrozenCopy(param.value)
        self._params[name] = param

    def Delete(self, *paths: str) -> Self:
        """Removes params, as a subclass does with what it inherits but cannot use."""
        for path in paths:
            node, name, _ = lookup.Locate(self, path, whole=True)
            if node._frozen:
                raise FrozenError(f'{node.Path(name)} cannot be deleted: the Params are frozen.')
        for path in paths:
            node, name, _ = lookup.Locate(self, path, whole=True)
            del node._params[name]
        return self

    # Reading and setting.

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_'):
            raise AttributeError(name)
        return lookup.Find(self, name).value

    def __setattr__(self, name: str, value: Any) -> None:
        self._SetOne(name, value, Caller())

    def __delattr__(self, name: str) -> None:
        raise ConfigError(f'Use Delete({name!r}).')

    def Set(self, **values: Any) -> Self:
        """Sets several params at once, all or none; keys may be dotted: Set(**{'a.b': 1}).

        Raises:
          ConfigError: on the first value that does not fit; nothing is set then.
        """
        self.SetFrom(list(values.items()), Caller())
        return self

    def SetFrom(self, values: list[tuple[str, Any]], source: str) -> None:
        """As `Set`, with `source` as the place that `Why` and errors name."""
        with self.Atomic():
            for path, value in values:
                self._SetOne(path, value, source)

    @contextlib.contextmanager
    def Atomic(self) -> Iterator[None]:
        """Undoes every value set inside if an error leaves the block."""
        every = tree.AllParams(self)
        before = [(param, param.value, param.source) for param in every]
        try:
            yield
        except BaseException:
            for param, value, source in before:
                param.value, param.source = value, source
            raise

    def Get(self, path: str) -> Any:
        """The value at a path such as 'encoder.layers[0].dim'."""
        return lookup.Get(self, path)

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

    # Asking.

    def Why(self, path: str) -> str:
        """Value, description and the place that set it, for the param at `path`."""
        param = lookup.ParamAt(self, path)
        text = text_form.Text(lookup.Get(self, path))
        return f'{path} : {text}\n  {param.description}\n  set at {param.source}'

    def Source(self, path: str) -> str:
        """'file:line' of what last set the param at `path`."""
        return lookup.ParamAt(self, path).source

    def Description(self, path: str) -> str:
        """The description of the param at `path`."""
        return lookup.ParamAt(self, path).description

    def Type(self, path: str) -> type:
        """The declared type of the param at `path`, as a whole."""
        node, name, _ = lookup.Locate(self, path, whole=True)
        kind = lookup.Find(node, name).kind
        return Params if kind is tree.Node else kind

    def Default(self, path: str) -> Any:
        """The default of the param at `path`, Params frozen; REQUIRED where it has none."""
        return lookup.ParamAt(self, path).default

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
            node = tree.Item(param.value, indices)
        return 'fixed'

    def Missing(self) -> list[tuple[str, str]]:
        """(path, type) of what is REQUIRED here and in nested Params without a class.

        Templates, Params of a class, are completed by what builds them.
        """
        missing = []
        for name, value in self.IterParams():
            if value is REQUIRED:
                missing.append((name, checks.KindName(self._params[name].kind)))
            elif isinstance(value, Params) and not isinstance(value, InstantiableParams):
                missing += [(f'{name}.{below}', kind) for below, kind in value.Missing()]
        return missing

    def Visit(self, visit: Callable[[str, Any], None]) -> None:
        """Calls visit(path, value) for each line of `ToText`, in its order."""
        for path, value in tree.Lines(self):
            visit(path, value)

    # Text.

    def ToText(self) -> str:
        """One 'key : value' line a leaf, sorted by key; `FromText` reads it back."""
        return text_form.Write(self)

    def FromText(self, text: str, source: str = 'text') -> Self:
        """Sets what the text says, all or nothing; what it does not mention stays.

        Outer lines are applied before inner ones, whatever their order, so that a line that swaps
        a class comes before the values of that class.

        Args:
          text: 'key : value' lines; lines that start with # and empty lines are skipped.
          source: the file's name, for `Why` and errors.

        Raises:
          ConfigError: with source and line, on anything that cannot be read or does not fit.
        """
        with self.Atomic():
            for key, value, where in text_form.Read(self, text, source):
                self._SetOne(key, value, where)
        return self

    def TextDiff(self, other: Params) -> str:
        """'' if the texts are equal; otherwise one line for each key that differs.

        '- key : value' stands only here, '+ key : value' only in `other`, and
        'key : mine -> theirs' in both.
        """
        return text_form.Diff(self, other)

    # Inside.

    def _SetOne(self, path: str, value: Any, source: str) -> None:
        try:
            node, name, _ = lookup.Locate(self, path, whole=True)
            param = lookup.Find(node, name)
            if node._frozen:
                raise FrozenError(
                    f'{node.Path(name)} cannot be set: these Params are frozen. Change a Copy().'
                )
            kept = checks.Kept(node, name, param, value)
        except UnknownParamError as error:
            raise UnknownParamError(f'{error} (from {source})') from None
        except ConfigError as error:
            raise type(error)(f'{error} {SetAt(source)}') from None
        param.value = kept
        param.source = source


class InstantiableParams(Params, tree.Template, Generic[_T_co]):
    """Params of a class: `Instantiate` builds one.

    A class whose Params are annotated as

        @classmethod
        def Params(cls) -> hyperparams.InstantiableParams[Self]:

    with `Self` of this module, is what type checkers and editors know `Instantiate` to return.
    """

    cls: type[_T_co]

    def __init__(self, cls: type[_T_co]):
        if not isinstance(cls, type):
            raise ConfigError(f'InstantiableParams are of a class, got {cls!r}.')
        super().__init__()
        self.__dict__['cls'] = cls

    def __eq__(self, other: Any) -> bool:
        return super().__eq__(other) and self.cls is other.cls

    __hash__ = None  # type: ignore[assignment]

    def Instantiate(self, **kwargs: Any) -> _T_co:
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
        build: Callable[..., _T_co] = self.cls
        return build(params, **kwargs)
