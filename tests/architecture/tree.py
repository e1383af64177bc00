"""The files of the checkout: what git tracks or would track; without git, what lies in the tree."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NOT_OURS = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "dist"}
_NOT_OURS |= {"build", ".import_linter_cache"}


def project_files(root: Path = ROOT) -> list[Path]:
    """Return every file of the project below `root`, sorted."""
    if (root / ".git").exists():
        try:
            listing = subprocess.run(
                ["git", "ls-files", "-coz", "--exclude-standard"],  # noqa: S607 git is found where its user has it
                cwd=root,
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            return _walk(root)
        paths = (root / name.decode() for name in listing.stdout.split(b"\0") if name)
        return sorted(path for path in paths if path.is_file())
    return _walk(root)


def _walk(root: Path) -> list[Path]:
    found = []
    for path in root.iterdir():
        if path.name in _NOT_OURS or path.is_symlink():
            continue
        found.extend(_walk(path) if path.is_dir() else [path])
    return sorted(found)


def modules() -> list[tuple[str, Path]]:
    """Return the dotted name and the path of every module of `tasker`."""
    found = []
    for path in sorted((ROOT / "tasker").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found
