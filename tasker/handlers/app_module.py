"""An app, by the name that people give it: a Python file or a module, and what it declares."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from tasker.errors import ConfigurationError, TaskerError
from tasker.handlers.registry import Registry, collect

_NAME_ONE = (
    "name the Python file that has your templates and handlers; one in YAML is registered by `tasker template register`"
)
_SEARCHED = "modules are looked for in this directory, in PYTHONPATH and among what is installed"

_HERE = Path(__file__).parents[1]


def load_app(app: str, labels: Mapping[str, str] | None = None) -> Registry:
    """Return what an app declares; `labels` as `Registry`.

    Raises:
        ConfigurationError: it cannot be loaded, or declares nothing that fits.
        TemplateInvalid: a template of it has faults.
    """
    place, _, names = (app, "", "") if Path(app).is_file() else app.partition(":")
    path = Path(place)
    is_file = place.endswith(".py") or path.is_file()
    if is_file and not path.is_file():
        raise no_file(place)
    try:
        module = _load_file(path.resolve()) if is_file else importlib.import_module(place)
        return collect(module, names, labels)
    except TaskerError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, ModuleNotFoundError) and not is_file and _is_above(error.name, place):
            raise ConfigurationError(
                f"there is no module {place}", remedy=f"name a Python file, such as app.py, or a module; {_SEARCHED}"
            ) from error
        raise ConfigurationError(
            f"{app} cannot be loaded: {type(error).__name__}: {error}{_place(error)}",
            remedy="mend that line, or install what it asks for",
        ) from error


def no_file(place: str) -> ConfigurationError:
    """Return the refusal of a file that is not there."""
    return ConfigurationError(f"there is no file {place}", remedy=_NAME_ONE)


def _is_above(missing: str | None, place: str) -> bool:
    """Return whether the missing module is the app, or a package around it: not one that the app imports."""
    return missing is not None and f"{place}.".startswith(f"{missing}.")


def _load_file(path: Path) -> ModuleType:
    name = path.stem if path.stem not in sys.modules else f"tasker_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is no Python file", remedy=_NAME_ONE)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _place(error: BaseException) -> str:
    """Return where it was raised: in a file, not in the import system, which has no lines to look at.

    Where what we declare with stumbled over it, that is the line which called us.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" ({error.filename}:{error.lineno})"
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<frozen ")]
    of_app = itertools.dropwhile(_is_ours, frames)
    frames = list(itertools.takewhile(lambda one: not _is_ours(one), of_app)) or frames
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename).is_relative_to(_HERE)
