"""Users whom a NATS server knows by keys: files of credentials and nkeys, against the real server."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import os
import time
from pathlib import Path
from typing import Any

import nkeys
import pytest

from tasker.bus.nats_bus import NatsBus
from tasker.errors import AuthenticationFailed, ConfigurationError
from tasker.events.codec import encode_value
from tests.contracts.test_nats_bus import echoed, nats_with

USER_FILE = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.
NKEYs are sensitive and should be treated as secrets.

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""
NO_LIMITS = dict.fromkeys(("subs", "data", "payload"), -1)
OF_ACCOUNT = {"limits": NO_LIMITS | dict.fromkeys(("imports", "exports", "conn", "leaf"), -1) | {"wildcards": True}}


class Identity:
    """A key of a kind, and what it signs."""

    def __init__(self, kind: int) -> None:
        self.seed = bytes(nkeys.encode_seed(os.urandom(32), kind)).decode()
        self.public = nkeys.from_seed(bytearray(self.seed.encode())).public_key.decode()

    def vouch(self, other: Identity, claims: dict[str, Any]) -> str:
        """Return the signed claims about another (or itself): a JWT as the server wants it."""
        payload = {"jti": other.public, "iat": int(time.time()), "iss": self.public, "sub": other.public, "name": "t"}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, payload | {"nats": {"version": 2} | claims}]
        signed = ".".join(_base64(encode_value(part)) for part in parts)
        return f"{signed}.{_base64(nkeys.from_seed(bytearray(self.seed.encode())).sign(signed.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def account() -> Identity:
    return Identity(nkeys.PREFIX_BYTE_ACCOUNT)


def server_of(account: Identity, folder: Path, port: int) -> Path:
    """Return the configuration of a server that takes the users of an account, whom it does not know beforehand."""
    operator = Identity(nkeys.PREFIX_BYTE_OPERATOR)
    configuration = folder / "nats.conf"
    configuration.write_text(
        f"listen: 127.0.0.1:{port}\n"
        f"operator: {operator.vouch(operator, {'type': 'operator'})}\n"
        f"resolver: MEMORY\n"
        f"resolver_preload: {{ {account.public}: {operator.vouch(account, {'type': 'account'} | OF_ACCOUNT)} }}\n"
    )
    return configuration


def user_of(account: Identity, file: Path) -> Path:
    user = Identity(nkeys.PREFIX_BYTE_USER)
    file.write_text(USER_FILE.format(jwt=account.vouch(user, {"type": "user"} | NO_LIMITS), seed=user.seed))
    return file


async def test_a_file_of_credentials(account: Identity, tmp_path: Path, unused_tcp_port: int) -> None:
    url = f"nats://127.0.0.1:{unused_tcp_port}"
    file = user_of(account, tmp_path / "user of shop.creds")
    stranger = user_of(Identity(nkeys.PREFIX_BYTE_ACCOUNT), tmp_path / "stranger.creds")
    async with nats_with(server_of(account, tmp_path, unused_tcp_port)):
        await echoed(f"{url}?creds={file}")
        await echoed(f"{url},nats://localhost:{unused_tcp_port}?creds={str(file).replace(' ', '%20')}")
        for refused in (url, f"{url}?creds={stranger}"):
            with pytest.raises(AuthenticationFailed):
                await NatsBus.connect(refused, name="test")


async def test_credentials_that_are_renewed_hold_from_the_next_connect_on(
    account: Identity, tmp_path: Path, unused_tcp_port: int
) -> None:
    configuration = server_of(account, tmp_path, unused_tcp_port)
    file = user_of(account, tmp_path / "user.creds")
    async with nats_with(configuration):
        bus = await NatsBus.connect(f"nats://127.0.0.1:{unused_tcp_port}?creds={file}", name="test", retry_for_s=20)
    other = Identity(nkeys.PREFIX_BYTE_ACCOUNT)
    server_of(other, tmp_path, unused_tcp_port)
    user_of(other, file)
    async with nats_with(configuration):
        bus.subscribe("echo", lambda message: bus.publish(message.reply, message.data))
        while not bus.connected:  # noqa: ASYNC110 - it reconnects by itself
            await asyncio.sleep(0.02)
        assert (await bus.request("echo", b"again", timeout_s=10)).data == b"again"
        await bus.close()


async def test_an_nkey(tmp_path: Path, unused_tcp_port: int) -> None:
    user = Identity(nkeys.PREFIX_BYTE_USER)
    configuration, seed = tmp_path / "nats.conf", tmp_path / "user.nk"
    users = f"authorization {{ users = [ {{ nkey: {user.public} }} ] }}"
    configuration.write_text(f"listen: 127.0.0.1:{unused_tcp_port}\n{users}\n")
    seed.write_text(f"{user.seed}\n")
    async with nats_with(configuration):
        await echoed(f"nats://127.0.0.1:{unused_tcp_port}?nkey={seed}")


@pytest.mark.parametrize(
    ("query", "content", "said"),
    [
        ("creds={file}", None, "cannot be read: No such file"),
        ("creds={file}", "SUAxyz", "no line '-----BEGIN NATS USER JWT-----'.*a seed alone is named by"),
        ("creds={file}", USER_FILE.format(jwt="a.b.c", seed="SUAxyz"), "holds no seed"),
        ("nkey={file}", "nothing", "holds no seed"),
        ("nkey={file}", "", "holds no seed"),
        ("credentials={file}", "", r"\?creds=FILE .* or \?nkey=FILE"),
        ("creds={file}&nkey={file}", "", "one of them"),
        ("", "", "one of them"),
    ],
)
async def test_what_is_wrong_with_them_is_said_before_anything_is_tried(
    tmp_path: Path, query: str, content: str | None, said: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=said):
        await NatsBus.connect(f"nats://127.0.0.1:1?{query.format(file=file)}", name="test", retry_for_s=60)


async def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'tasker-service\[credentials\]'"):
        await NatsBus.connect(f"nats://127.0.0.1:1?nkey={tmp_path}", name="test")
