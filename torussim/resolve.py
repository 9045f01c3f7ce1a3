"""Names that a user gives, and what they stand for: presets of the package, functions of the user's.

A user's module beside the scenario file is loaded anew every time and is not kept in sys.modules, nor is what it
imports from its own folder: a changed file counts at once, and two scenarios can each have a `mine.py`. So such
imports must stand at the top of the module; within a function they would come too late.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from torussim.errors import NameError_, TorusSimError

MOST_LISTED = 12


@dataclass(frozen=True)
class UserFunction:
    """A function of the user's with the name that the file gives it, such as "mine:star", which reports and records show."""

    name: str
    function: Callable[..., Any] = field(compare=False)  # a module is loaded anew each time, so that no two would be equal

    def __call__(self, *given: Any, **keywords: Any) -> Any:
        """Return what the function returns."""
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
        """The function, where `inspect` looks for it."""
        return self.function


def shown(function: Callable[..., Any]) -> str:
    """Return the name by which reports and records show a function: as the file gives it, else "module:qualname".

    >>> shown(UserFunction("mine:star", min)), shown(shown)
    ('mine:star', 'torussim.resolve:shown')
    """
    if isinstance(function, UserFunction):
        return function.name
    where = getattr(function, "func", function)  # of a partial
    return f"{getattr(where, '__module__', '?')}:{getattr(where, '__qualname__', type(where).__qualname__)}"


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """Return the code of a function, through what wraps it; None where it is not written in Python."""
    inner: Callable[..., Any] | None = function
    while inner is not None:
        function = inner
        inner = getattr(function, "__wrapped__", getattr(function, "func", None))
    return getattr(function, "__code__", None)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that `name` is most likely a misspelling of, whatever the case; None if none is near.

    >>> nearest("palm-54b", ["palm-540b", "palm-62b"])
    'palm-540b'
    """
    folded: dict[str, str] = {}
    for candidate in names:
        folded.setdefault(candidate.casefold(), candidate)
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None


def unknown(name: str, names: Iterable[str], what: str) -> str:
    """Return the message that `name` is not a `what`, with the nearest of `names`, or else with all of them.

    >>> unknown("palm-54b", ["palm-540b", "palm-62b"], "model")
    "'palm-54b' is not a model: did you mean 'palm-540b'?"
    """
    names = list(names)
    article = "an" if what[:1].lower() in "aeiou" else "a"
    near = nearest(name, names)
    if near is not None:
        return f"{name!r} is not {article} {what}: did you mean {near!r}?"
    listed = ", ".join(names[:MOST_LISTED]) + (", ..." if len(names) > MOST_LISTED else "")
    return f"{name!r} is not {article} {what}: " + (f"one of {listed}" if names else "there is none")


def function(name: str, beside: Path | None = None) -> Callable[..., Any]:
    """Return the function that "module:function" names.

    The module is `module.py` in the folder `beside`, a path that ends in .py (from `beside`, or absolute), or one that
    can be imported. Raise NameError_ if there is no such module or function, or if the module raises.
    """
    where, colon, attribute = name.rpartition(":")
    if not (colon and where and attribute.isidentifier()):
        raise NameError_(f'{name!r} is not of the form "module:function", such as "mine:star" or "path/mine.py:star"')
    folder = Path.cwd() if beside is None else beside
    if where.endswith(".py"):
        file = folder / where
        if not file.is_file():
            raise NameError_(f"{name!r}: there is no file {file}")
        module = _load(file, name)
    elif beside is not None and (beside / f"{where}.py").is_file():
        module = _load(beside / f"{where}.py", name)
    else:
        module = _import(where, name, beside)
    if not hasattr(module, attribute):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise NameError_(f"{name!r}: {unknown(attribute, functions, f'function of {where}')}")
    value = getattr(module, attribute)
    if not callable(value):
        raise NameError_(f"{name!r} is not a function: it is {value!r:.60}")
    found: Callable[..., Any] = value
    return found


def call(function: Callable[..., Any], *given: Any, **keywords: Any) -> Any:
    """Return what a user's function returns; raise TorusSimError, with the line of its file, if it raises."""
    try:
        return function(*given, **keywords)
    except (Exception, SystemExit) as error:
        raise TorusSimError(raised(function, error)) from error


def raised(function: Callable[..., Any], error: BaseException) -> str:
    """Return in a line what a user's function raised, and where in its file; or what came of what it returned."""
    code = code_of(function)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    called, message = getattr(function, "__name__", "it"), " ".join(str(error).split())[:200]
    what = f"{own[-1].filename}:{own[-1].lineno}: {called} raised" if own else f"what {called} returned is of no use:"
    return f"{what} {type(error).__name__}" + (f": {message}" if message else "")


def arguments(function: Callable[..., Any], keywords: Mapping[str, Any], *, given: int = 0) -> str | None:
    """Return why `function` cannot be called with `keywords` after `given` positional arguments, or None if it can."""
    return "; ".join(reason for _, reason in argument_mistakes(function, keywords, given=given)) or None


def argument_mistakes(function: Callable[..., Any], keywords: Mapping[str, Any], *,
                      given: int = 0) -> list[tuple[str | None, str]]:
    """Return all that is wrong with a call of `function`: the key, or None, and the reason."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some functions written in C have none
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


class _Fresh(importlib.machinery.SourceFileLoader):
    """Compiles the source every time, and never reads or writes a .pyc file."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load(file: Path, name: str) -> ModuleType:
    """Return the module in a file, run anew; it is in sys.modules only while it runs, which dataclasses need."""
    module_name = f"_torussim_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file, loader=_Fresh(module_name, str(file)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _surroundings(file.parent.resolve()):
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise NameError_(_raised(name, error)) from error
        finally:
            sys.modules.pop(module_name, None)
    return module


@contextmanager
def _surroundings(folder: Path) -> Iterator[None]:
    """Let the modules of a folder be imported, after all others, and forget them at the end."""
    if str(folder) in sys.path:
        yield
        return
    before, no_bytecode = set(sys.modules), sys.dont_write_bytecode
    sys.path.append(str(folder))
    sys.dont_write_bytecode = True  # a .pyc file would not notice the next change within the same second
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = no_bytecode
        sys.path[:] = [path for path in sys.path if path != str(folder)]
        local = {key for key in set(sys.modules) - before if "." not in key and _stands_in(sys.modules[key], folder)}
        for key in [key for key in sys.modules if key.partition(".")[0] in local]:
            del sys.modules[key]


def _stands_in(module: ModuleType, folder: Path) -> bool:
    paths = [*getattr(module, "__path__", ()), getattr(module, "__file__", None)]
    return any(Path(path).parent == folder for path in paths if path is not None)


def _import(where: str, name: str, beside: Path | None) -> ModuleType:
    if not all(part.isidentifier() for part in where.split(".")):
        raise NameError_(f"{name!r}: {where!r} is not the name of a module")
    importlib.invalidate_caches()
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{where}.".startswith(f"{error.name}."):
            raise NameError_(_raised(name, error)) from error
        missing = error.name
    except (Exception, SystemExit) as error:
        raise NameError_(_raised(name, error)) from error
    place = "" if beside is None else f"there is no {where}.py in {beside}, and "
    raise NameError_(f"{name!r}: {place}no module {missing!r} can be imported")


def _raised(name: str, error: BaseException) -> str:
    """Return one line about what a module raised on import, with the deepest line of its own file on the way there."""
    between = ("<frozen", __file__, str(importlib.__file__))
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(between)]
    place, message = "", " ".join(str(error).split())[:200]
    if frames:
        own = [frame for frame in frames if frame.filename == frames[0].filename]
        place = f"{own[-1].filename}, line {own[-1].lineno}: "
    elif isinstance(error, SyntaxError) and error.lineno is not None:
        place, message = f"{error.filename}, line {error.lineno}: ", error.msg
    return f"{name!r} cannot be loaded: {place}{type(error).__name__}" + (f": {message}" if message else "")
