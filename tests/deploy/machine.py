"""A Debian with systemd as process 1, in a folder and in namespaces of its own: nothing of it stays behind.

It needs root, mmdebstrap, systemd-nspawn, nsenter, and Debian's packages in reach. Only while it is being made is it on
the machine's network; when it runs it has a loopback of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

SUITE = "trixie"  # its PostgreSQL is one that we support
PACKAGES = "ca-certificates,curl,dbus,iproute2,postgresql,procps,python3,python3-venv,systemd,systemd-sysv"
PROGRAMS = ("mmdebstrap", "systemd-nspawn", "nsenter", "chroot")
ENVIRON = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
BOOT_S_MAX = 60.0


def missing() -> str:
    """Return what this machine lacks for one; empty when there is nothing."""
    lacks = [name for name in PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0:
        lacks.append("root")
    return ", ".join(lacks)


class Machine:
    """One such Debian. `make`, `prepare` as often as needed, `boot`, `run` as often as needed, `stop`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._groups: list[Path] = []

    def make(self) -> None:
        """Install the packages into the folder; takes about a minute."""
        _checked(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(self.root)])
        for file in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
            shutil.copyfile(f"/{file}", self.root / file)

    def prepare(self, script: str) -> str:
        """Run a script in the folder before it is booted, with the network of this machine; returns what it printed."""
        asked = {name: value for name, value in os.environ.items() if name in {"PIP_INDEX_URL", "PIP_CERT"}}
        return _checked(["chroot", str(self.root), "sh", "-euc", script], ENVIRON | asked)

    def boot(self) -> None:
        """Start systemd in it, and wait until it has started everything."""
        options = ["--quiet", "--register=no", "--private-network", "--link-journal=no", "--resolv-conf=off"]
        if not Path("/run/systemd/system").is_dir():
            # systemd is not process 1 of this machine: nobody can be asked for a control group, so here is one.
            self._groups = _make_groups()
            options.append("--keep-unit")
        joined = 'root=$1; shift; for group; do echo $$ > "$group/cgroup.procs"; done; exec systemd-nspawn '
        joined += f'{" ".join(options)} --console=pipe --boot --directory "$root"'
        self._nspawn = subprocess.Popen(
            ["sh", "-euc", joined, "sh", str(self.root), *map(str, self._groups)],  # noqa: S607 where it is
            env=ENVIRON | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        until_s = time.monotonic() + BOOT_S_MAX
        while self._try("systemctl is-system-running --wait").stdout.strip() not in {"running", "degraded"}:
            assert self._nspawn.poll() is None, "systemd-nspawn ended: its reason stands on its stderr"
            assert time.monotonic() < until_s, "it did not boot"
            time.sleep(0.2)

    def run(self, script: str) -> str:
        """Run a script in it; returns what it printed."""
        done = self._try(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def stop(self) -> None:
        """Shut it down."""
        if self._nspawn is None:
            return
        self._nspawn.terminate()
        try:
            self._nspawn.wait(90)
        finally:
            self._nspawn.kill()
            self._nspawn.wait()
            for group in self._groups:
                for folder, _, _ in os.walk(group, topdown=False):
                    Path(folder).rmdir()

    def _try(self, script: str) -> subprocess.CompletedProcess[str]:
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        inits = children.read_text(encoding="ascii").split() if children.exists() else []
        if not inits:
            return subprocess.CompletedProcess([], 1, "", "")
        spaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd"]
        return subprocess.run(
            ["nsenter", "--target", inits[0], *spaces, "sh", "-euc", script],  # noqa: S607 where it is
            env=ENVIRON,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def _make_groups() -> list[Path]:
    """Make a control group in each hierarchy that systemd may use, and return their folders."""
    top = Path("/sys/fs/cgroup")
    places = [place for place in (top, top / "unified", top / "systemd") if (place / "cgroup.procs").exists()]
    groups = [place / f"tasker-deploy-try-{os.getpid()}" for place in places]
    for group in groups:
        group.mkdir()
    return groups


def _checked(argv: list[str], environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"
    return done.stdout
