"""An app, by the name that people give it: a Python file or a module, and what it declares."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from tasker.errors import ConfigurationError, TaskerError
from tasker.handlers.registry import Registry, collect


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
        raise ConfigurationError(f"there is no file {place}")
    try:
        module = _load_file(path.resolve()) if is_file else importlib.import_module(place)
        return collect(module, names, labels)
    except TaskerError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ConfigurationError(f"{app} cannot be loaded: {type(error).__name__}: {error}{_place(error)}") from error


def _load_file(path: Path) -> ModuleType:
    name = path.stem if path.stem not in sys.modules else f"tasker_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is no Python file")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _place(error: BaseException) -> str:
    """Return where it was raised: in a file, not in the import system itself, which has no lines to look at."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" ({error.filename}:{error.lineno})"
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<frozen ")]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
