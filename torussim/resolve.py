"""The meanings of names that a user gives: presets, arguments of functions, and the nearest known name of a misspelt one."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from torussim.errors import NameError_, TorusSimError
from torussim.spelling import nearest

MOST_LISTED = 12


@dataclass(frozen=True)
class UserFunction:
    """A user-defined function with its name in the file, such as "mine:star", which reports and records show."""

    name: str
    function: Callable[..., Any] = field(compare=False)  # a module is loaded anew each time, so no two functions would be equal

    def __call__(self, *given: Any, **keywords: Any) -> Any:
        """Return the result of the function."""
        return self.function(*given, **keywords)

    def __str__(self) -> str:
        return self.name

    @property
    def __name__(self) -> str:
        """The name of the function itself."""
        found: str = self.function.__name__
        return found

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function, for `inspect`."""
        return self.function


def shown(function: Callable[..., Any]) -> str:
    """Return the name of a function in reports and records: the name in the file, otherwise "module:qualname".

    >>> shown(UserFunction("mine:star", min)), shown(shown)
    ('mine:star', 'torussim.resolve:shown')
    """
    if isinstance(function, UserFunction):
        return function.name
    where = getattr(function, "func", function)  # of a partial
    return f"{getattr(where, '__module__', '?')}:{getattr(where, '__qualname__', type(where).__qualname__)}"


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """Return the code of a function inside its wrappers; None if it is not written in Python."""
    inner: Callable[..., Any] | None = function
    while inner is not None:
        function = inner
        inner = getattr(function, "__wrapped__", getattr(function, "func", None))
    return getattr(function, "__code__", None)


def unknown(name: str, names: Iterable[str], what: str, *, hint: bool = True) -> str:
    """Return the message that `name` is not a `what`, with the nearest of `names`, or (without `hint`, always) with all.

    >>> unknown("palm-54b", ["palm-540b", "palm-62b"], "model")
    "'palm-54b' is not a model: did you mean 'palm-540b'?"
    """
    names = list(names)
    article = "an" if what[:1].lower() in "aeiou" else "a"
    near = nearest(name, names) if hint else None
    if near is not None:
        return f"{name!r} is not {article} {what}: did you mean {near!r}?"
    listed = ", ".join(names[:MOST_LISTED]) + (", ..." if len(names) > MOST_LISTED else "")
    return f"{name!r} is not {article} {what}: " + (f"one of {listed}" if names else "there is none")


def call(function: Callable[..., Any], *given: Any, **keywords: Any) -> Any:
    """Return the result of a user-defined function. Raise TorusSimError, with the line of its file, if it raises."""
    try:
        return function(*given, **keywords)
    except (Exception, SystemExit) as error:
        raise TorusSimError(raised(function, error), code="function") from error


def raised(function: Callable[..., Any], error: BaseException) -> str:
    """Return one line on an exception of a user-defined function, with its place in the file, or on a bad return value."""
    code = code_of(function)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    called, message = getattr(function, "__name__", "it"), " ".join(str(error).split())[:200]
    what = f"{own[-1].filename}:{own[-1].lineno}: {called} raised" if own else f"{called} returned something that cannot be used:"
    return f"{what} {type(error).__name__}" + (f": {message}" if message else "")


def arguments(function: Callable[..., Any], keywords: Mapping[str, Any], *, given: int = 0) -> str | None:
    """Return the reason why `function` cannot be called with `keywords` after `given` positional arguments, or None."""
    return "; ".join(reason for _, reason in argument_mistakes(function, keywords, given=given)) or None


def argument_mistakes(function: Callable[..., Any], keywords: Mapping[str, Any], *,
                      given: int = 0) -> list[tuple[str | None, str]]:
    """Return all mistakes of a call of `function`: the key, or None, and the reason."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some functions written in C have no signature
        return []
    called = getattr(function, "__name__", "the function")
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if given > len(positional) and all(one.kind is not one.VAR_POSITIONAL for one in parameters):
        return [(None, f"{called}() takes {len(positional)} positional arguments, but must take {given}")]
    taken = {one.name for one in positional[:given] if one.kind is one.POSITIONAL_OR_KEYWORD}
    rest = [one for one in parameters if one not in positional[:given]]
    named = [one for one in rest if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    names = [one.name for one in named]
    anything = any(one.kind is one.VAR_KEYWORD for one in parameters)
    reasons: list[tuple[str | None, str]] = []
    for key in keywords:
        if key in taken:
            reasons.append((key, f"{called}() gets its {key!r} from torussim: leave it out"))
        elif key not in names and not anything:
            reasons.append((key, unknown(key, names, f"parameter of {called}()")))
    needed = [one for one in rest if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    missing = [one.name for one in needed if one.kind is one.POSITIONAL_ONLY or one.name not in keywords]
    if missing:
        reasons.append((None, f"{called}() needs {', '.join(map(repr, missing))}"))
    return reasons


def preset_names(kind: str) -> tuple[str, ...]:
    """Return the names of the presets of a kind, "chips" or "models", in alphabetical order."""
    return tuple(sorted(path.stem for path in _preset_folder(kind).glob("*.yaml")))


def preset_path(kind: str, name: str) -> Path:
    """Return the path of a preset's file; raise NameError_ if there is none of this name."""
    names = preset_names(kind)
    if name not in names:
        raise NameError_(unknown(name, names, kind.removesuffix("s")))
    return _preset_folder(kind) / f"{name}.yaml"


def _preset_folder(kind: str) -> Path:
    from importlib import resources

    return Path(str(resources.files("torussim").joinpath("data", kind)))
