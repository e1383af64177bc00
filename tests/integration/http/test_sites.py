"""Pages of other sites are refused; whatever is no browser passes."""

import pytest

from tests.integration.http.conftest import SHARES_SITE, Client


def at_port_of(client: Client, text: str) -> str:
    return text.replace("PORT", client.url.rpartition(":")[2])


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://evil.example:PORT"},
        {"Origin": "http://localhost:1"},
        {"Origin": "null"},
        {"Origin": "file://"},
        {"Origin": "http://[::1"},
        {"Origin": ""},
        {"Host": "evil.example"},
        {"Host": "evil.example:PORT", "Origin": "http://evil.example:PORT"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "[::1"},
    ],
)
@SHARES_SITE
async def test_a_page_of_another_site_is_refused(shared_client: Client, headers: dict[str, str]) -> None:
    sent = {name: at_port_of(shared_client, value) for name, value in headers.items()}
    for method, path in (("POST", "/v1/tasks"), ("GET", "/v1/tasks"), ("GET", "/metrics"), ("GET", "/nowhere")):
        problem = await shared_client.problem(method, path, 403, "site_refused", headers=sent, data=b"{}")
        assert "http.url" in problem["context"]["remedy"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:PORT"},
        {"Host": "LOCALHOST:PORT", "Origin": "http://localhost:PORT"},
        {"Host": "demo.localhost:PORT"},
        {"Host": "[::1]:PORT", "Origin": "http://[::1]:PORT"},
        {"Host": "10.0.0.7"},
        {"Host": "tasker.example", "Origin": "https://tasker.example"},
        {"Origin": "https://tasker.example"},
    ],
)
@SHARES_SITE
async def test_its_own_pages_and_whatever_is_no_browser_pass(shared_client: Client, headers: dict[str, str]) -> None:
    sent = {name: at_port_of(shared_client, value) for name, value in headers.items()}
    await shared_client.get("/v1/tasks", headers=sent)
