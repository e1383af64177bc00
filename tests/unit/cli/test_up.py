"""The port at which `tasker up` serves HTTP."""

import socket
from pathlib import Path

from tasker.cli.up import usual_port


def test_the_port_of_the_last_start_is_taken_again_while_it_is_free(tmp_path: Path) -> None:
    kept = tmp_path / "http.port"
    first = usual_port(kept)
    assert usual_port(kept) == first
    with socket.create_server(("127.0.0.1", first)):
        other = usual_port(kept)
    assert other != first
    assert usual_port(kept) == other


def test_a_file_that_names_no_port_is_written_anew(tmp_path: Path) -> None:
    kept = tmp_path / "http.port"
    for text in ("", "x", "99999999"):
        kept.write_text(text)
        assert usual_port(kept) == int(kept.read_text())
