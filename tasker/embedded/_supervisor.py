"""Keep one server no longer than its owner: the program that stands between the two.

Started as a process of its own, in a session of its own, with the owner's pipe as standard input. The pipe
closes when the owner stops the server and also when the owner dies by SIGKILL; either way the server gets its
stop signal, then SIGKILL when it does not end in time. When this program itself is killed, Linux sends the server
its stop signal (PDEATHSIG, set after the change of user, which would clear it).

It imports only the standard library and runs with `python -I -S`, so that it starts in some 15 ms.
Arguments: one JSON object, see `main`. Standard output: the server's pid, in one line.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _die_with_parent(stop_signal: int) -> Callable[[], None] | None:
    """Return what a child runs before exec so that Linux stops it with its parent; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, stop_signal, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), stop_signal)

    return before_exec


def _wake_on_signals() -> int:
    """Return a descriptor that becomes readable at each signal that concerns us."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    for one in (signal.SIGCHLD, *_STOP_SIGNALS):
        signal.signal(one, lambda _number, _frame: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def _wait_for_end_or_stop(server: subprocess.Popen[bytes], wake: int) -> None:
    """Return when the server ended, the owner's pipe closed, or a signal asked us to stop."""
    while server.poll() is None:
        readable, _, _ = select.select([0, wake], [], [])
        if 0 in readable and not os.read(0, 4096):
            return
        if wake in readable and set(os.read(wake, 4096)) & set(_STOP_SIGNALS):
            return


def _stop(server: subprocess.Popen[bytes], wake: int, stop_signal: int, timeout_s: float) -> None:
    """Return when the server ended: by its stop signal, or killed when that took too long."""
    server.send_signal(stop_signal)
    deadline = time.monotonic() + timeout_s
    while server.poll() is None and (left_s := deadline - time.monotonic()) > 0:
        if select.select([wake], [], [], left_s)[0]:
            os.read(wake, 4096)
    if server.poll() is None:
        server.kill()
    server.wait()


def main() -> int:
    """Run the server that the arguments name until it ends or the owner goes; return its exit code.

    `argv` the command; `cwd`; `log` the file its output is appended to; `stop_signal`; `stop_timeout_s` until
    SIGKILL; `user` and `group`, ids or null; `pass_fds` descriptors it inherits (the lock of its data).
    """
    config = json.loads(sys.argv[1])
    stop_signal = int(config["stop_signal"])
    wake = _wake_on_signals()
    # Opened after the change of user would ask more of the folder's rights than we need.
    log = os.open(config["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    identity = {} if config["user"] is None else {"user": config["user"], "group": config["group"], "extra_groups": []}
    server = subprocess.Popen(  # the arguments are our own
        config["argv"],
        cwd=config["cwd"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=config["pass_fds"],
        start_new_session=True,
        umask=0o077,
        preexec_fn=_die_with_parent(stop_signal),  # noqa: PLW1509 this process has one thread
        **identity,
    )
    os.close(log)
    sys.stdout.write(f"{server.pid}\n")
    sys.stdout.flush()
    os.close(sys.stdout.fileno())

    _wait_for_end_or_stop(server, wake)
    if server.poll() is None:
        _stop(server, wake, stop_signal, float(config["stop_timeout_s"]))
    code = server.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    # A hard exit: nothing is left to flush, and the closed stdout would be complained about.
    os._exit(main())
