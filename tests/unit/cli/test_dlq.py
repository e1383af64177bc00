"""`tasker dlq`: what cannot be meant is said before anything is asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tasker.cli import main


@contextmanager
def service_without_letters() -> Iterator[tuple[str, list[str]]]:
    """Answer every list with an empty page; yields the address and what was asked for."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = b'{"items":[],"next":null,"position":""}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing on stderr, which is the command's."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("verb", ["retry", "resolve"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reason", "x"], "name a task, or give --all"),
        (["t", "--all", "--reason", "x"], "name a task, or give --all"),
        (["t", "--dry-run", "--reason", "x"], "go with --all"),
        (["t", "--template", "orders", "--reason", "x"], "go with --all"),
        (["--all"], "say why with --reason"),
        (["t"], "say why with --reason"),
    ],
)
def test_one_or_all_and_why(verb: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", verb, *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["list"], ["retry", "--all", "--dry-run"], ["show", "t"]])
def test_what_can_be_meant_asks_the_service(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dlq", *arguments]) == 2
    assert "no service is known" in capsys.readouterr().err


def test_a_bad_tag_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_HTTP_URL", "http://127.0.0.1:9")
    assert main(["dlq", "list", "--tag", "x"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "path"), [("list", "/v1/dlq"), ("groups", "/v1/dlq/groups")])
def test_no_more_is_asked_for_than_is_shown(verb: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with service_without_letters() as (url, asked):
        monkeypatch.setenv("TASKER_HTTP_URL", url)
        assert main(["dlq", verb, "--limit", "3"]) == 0
    assert asked == [f"{path}?limit=4"], "one more tells whether there are more"
