"""The permissions of a scenario on this machine: the code that it may run, and the sizes of the files that it names.

A scenario is data that people send to each other, so it may run named code only if the user trusts the code (docs/trust.md). A
user-defined module beside the scenario file is loaded anew every time and is not kept in sys.modules, and neither are its imports
from its own folder: a changed file takes effect at once, and two scenarios can each have a `mine.py`. Such imports must therefore
be at the top of the module; inside a function they would come too late.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from torussim import files
from torussim.errors import FileError, NameError_
from torussim.resolve import UserFunction, code_of, unknown

CODE = ("beside", "any", "never")


@dataclass(frozen=True)
class Trust:
    """The permissions of scenarios on this machine (docs/trust.md).

    `code`: "beside" runs the code of `.py` files beside the scenario file, or in `folders`; "any" also the code of the standard
    library, of installed packages, and of files anywhere; "never" only the code in `folders`. `most` is the size limit of a file
    in bytes, if it is above that of files.LIMITS.
    """

    code: str = "beside"
    folders: tuple[Path | str, ...] = ()
    most: int = 0

    def __post_init__(self) -> None:
        if self.code not in CODE:
            raise NameError_(unknown(self.code, CODE, "way to trust code"))

    @staticmethod
    def of(given: str | Trust) -> Trust:
        """Return the Trust for the argument of a public function: a Trust, or the name of its `code`."""
        return given if isinstance(given, Trust) else Trust(given)


@dataclass(frozen=True)
class Loaded:
    """A user-defined function, and the SHA-256 of the code files that ran for it, by their names."""

    function: UserFunction
    files: Mapping[str, str] = field(default_factory=dict)


class Unopened(NameError_):
    """A code file that was not opened, because it is not trusted; `file` is its path."""

    def __init__(self, name: str, file: Path) -> None:
        super().__init__(f"{name!r}: {file} was not opened, as no code is run here: trust it with --code {file.parent}, or "
                         "--allow-code", code="not-trusted")
        self.file = file


def function(name: str, beside: Path, trust: Trust = Trust()) -> Loaded:
    """Return the function that "module:function" names, and the files that ran for it.

    The module is `module.py` in the folder `beside`, or in one of the folders of `trust`; with code="any" also a path that ends
    in .py, or an importable module. The function must be defined in this file, or in another one beside it: a scenario must not
    name functions that the file imports from elsewhere. Raise Unopened for an existing file that is not trusted, and NameError_
    if there is no such module or function, or if the module raises.
    """
    where, colon, attribute = name.rpartition(":")
    module_name = where.removesuffix(".py")
    if not (colon and where and attribute.isidentifier()):
        raise _refusal(f'{name!r} is not of the form "module:function", such as "mine:star"')
    folders = [Path(folder) for folder in trust.folders]
    for folder in dict.fromkeys([beside, *folders] if trust.code != "never" else folders):
        file = folder / f"{module_name}.py"
        if module_name.isidentifier() and os.path.isfile(file):  # false for a name that no file can have
            if file.resolve().parent != folder.resolve() and trust.code != "any":
                raise _distrust(f"{name!r}: {file} is a link to a file elsewhere, {file.resolve()}: put the file itself there, "
                                 "or pass --allow-code")
            return _loaded(file, name, attribute, trust)
    if trust.code == "any":
        return _loaded(beside / where, name, attribute, trust) if where.endswith(".py") else Loaded(
            UserFunction(name, _attribute(_import(where, name, beside), where, attribute, name)))
    if not module_name.isidentifier():
        raise _distrust(f"{name!r}: {where!r} is not the name of a file beside the scenario, such as \"mine:star\" for mine.py: "
                         "only --allow-code lets a scenario name other files and modules")
    if trust.code == "never" and os.path.isfile(beside / f"{module_name}.py"):
        raise Unopened(name, beside / f"{module_name}.py")
    places = " or ".join(dict.fromkeys(str(folder) for folder in (beside, *folders)))
    raise _distrust(f"{name!r}: there is no {module_name}.py in {places}: name its folder with --code DIR (code of the standard "
                     "library and of installed packages runs only with --allow-code)")


def _refusal(text: str) -> NameError_:
    """Return the error of a function that does not exist, or cannot be loaded."""
    return NameError_(text, code="function")


def _distrust(text: str) -> NameError_:
    """Return the error of a function that is not run, because its code is not trusted."""
    return NameError_(text, code="not-trusted")


def _loaded(file: Path, name: str, attribute: str, trust: Trust) -> Loaded:
    """Return a function of a code file."""
    if not os.path.isfile(file):
        raise _refusal(f"{name!r}: there is no file {file}")
    module, hashes = _load(file, name, trust.most)
    value = _attribute(module, file.stem, attribute, name)
    if trust.code != "any" and not _own(value, module, file.parent):
        raise _distrust(f"{name!r}: {attribute} is not defined in {file}, but comes from {_home(value)}: write a function there "
                         "that calls it, or pass --allow-code")
    return Loaded(UserFunction(name, value), hashes)


def _attribute(module: ModuleType, where: str, attribute: str, name: str) -> Callable[..., Any]:
    """Return a function of a module. Raise NameError_ if it has none of this name."""
    if not hasattr(module, attribute):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise _refusal(f"{name!r}: {unknown(attribute, functions, f'function of {where}')}")
    value = getattr(module, attribute)
    if not callable(value):
        raise _refusal(f"{name!r} is not a function: it is {value!r:.60}")
    found: Callable[..., Any] = value
    return found


def _own(value: Callable[..., Any], module: ModuleType, folder: Path) -> bool:
    """Return whether a function is defined in a module, or in another file of its folder.

    Code that comes from no file, such as the modules frozen into Python, has a name like "<frozen os>".
    """
    code = code_of(value)
    if code is not None:
        return os.path.isabs(code.co_filename) and Path(code.co_filename).resolve().parent == folder.resolve()
    return _home(getattr(value, "func", value)) == module.__name__


def _home(value: Any) -> str:
    """Return the name of the module that defines a function, a class, or the class of a callable."""
    return str(getattr(value, "__module__", None) or type(value).__module__)


class _Fresh(importlib.machinery.SourceFileLoader):
    """Compiles the given source, and never reads or writes a .pyc file."""

    source = b""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.source, self.path)


def _load(file: Path, name: str, most: int = 0) -> tuple[ModuleType, dict[str, str]]:
    """Return the module of a file, run anew, and the SHA-256 of each file of its folder that ran for it.

    The module is in sys.modules only while it runs, which dataclasses need.
    """
    module_name = f"_torussim_{file.stem}"
    loader = _Fresh(module_name, os.path.abspath(file))
    try:
        loader.source = files.contents(file, "code", most)
    except FileError as error:
        raise _refusal(f"{name!r}: {file} {error}") from None
    hashes = {file.name: sha256(loader.source).hexdigest()}
    spec = importlib.util.spec_from_file_location(module_name, file, loader=loader)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _surroundings(file.parent.resolve(), hashes):
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise _refusal(_raised(name, error)) from error
        finally:
            sys.modules.pop(module_name, None)
    return module, dict(sorted(hashes.items()))


@contextmanager
def _surroundings(folder: Path, hashes: dict[str, str]) -> Iterator[None]:
    """Make the modules of a folder importable, after all others, and forget them at the end; add the SHA-256 of their files."""
    before, no_bytecode, there = set(sys.modules), sys.dont_write_bytecode, str(folder) in sys.path
    sys.path += [] if there else [str(folder)]
    sys.dont_write_bytecode = True  # a .pyc file would hide the next change within the same second
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = no_bytecode
        sys.path[:] = [path for path in sys.path if there or path != str(folder)]
        local = {key for key in set(sys.modules) - before if "." not in key and _stands_in(sys.modules[key], folder)}
        for key in [key for key in sys.modules if key.partition(".")[0] in local]:
            source = getattr(sys.modules.pop(key), "__file__", None)
            if source is not None and Path(source).is_relative_to(folder) and Path(source).is_file():
                hashes[Path(source).relative_to(folder).as_posix()] = sha256(Path(source).read_bytes()).hexdigest()


def _stands_in(module: ModuleType, folder: Path) -> bool:
    paths = [*getattr(module, "__path__", ()), getattr(module, "__file__", None)]
    return any(Path(path).parent == folder for path in paths if path is not None)


def _import(where: str, name: str, beside: Path | None) -> ModuleType:
    if not all(part.isidentifier() for part in where.split(".")):
        raise _refusal(f"{name!r}: {where!r} is not the name of a module")
    importlib.invalidate_caches()
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{where}.".startswith(f"{error.name}."):
            raise _refusal(_raised(name, error)) from error
        missing = error.name
    except (Exception, SystemExit) as error:
        raise _refusal(_raised(name, error)) from error
    place = "" if beside is None else f"there is no {where}.py in {beside}, and "
    raise _refusal(f"{name!r}: {place}no module {missing!r} can be imported")


def _raised(name: str, error: BaseException) -> str:
    """Return one line about an exception of a module on import, with the deepest line of its own file in the traceback."""
    between = ("<frozen", __file__, str(importlib.__file__))
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(between)]
    place, message = "", " ".join(str(error).split())[:200]
    if frames:
        own = [frame for frame in frames if frame.filename == frames[0].filename]
        place = f"{own[-1].filename}, line {own[-1].lineno}: "
    elif isinstance(error, SyntaxError) and error.lineno is not None:
        place, message = f"{error.filename}, line {error.lineno}: ", error.msg
    return f"{name!r} cannot be loaded: {place}{type(error).__name__}" + (f": {message}" if message else "")
