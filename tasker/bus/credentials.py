"""Who we are to NATS where that is proved by a key: a file of credentials, or the seed of an nkey.

    nats://host:4222?creds=FILE   what `nsc` writes: a signed user (JWT) and the seed of its key
    nats://host:4222?nkey=FILE    the seed alone

The seed signs the server's challenge and never leaves the machine. The file is read again at each connect, so what is
renewed in place holds from then on.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from tasker.errors import ConfigurationError

_OPTIONS: Final = {"creds": "user_credentials", "nkey": "nkeys_seed"}
_PARTS: Final = ("-----BEGIN NATS USER JWT-----", "-----BEGIN USER NKEY SEED-----")


def credentials_of(query: str) -> dict[str, Any]:
    """Return what nats-py's connect takes for the query of an address.

    Raises:
        ConfigurationError: it asks for something else, or for a file that does not hold what it should.
    """
    given = parse_qsl(query, keep_blank_values=True)
    unknown = [name for name, _ in given if name not in _OPTIONS]
    if unknown or len(given) != 1:
        raise ConfigurationError(
            f"the NATS URL ends with ?{query[:80]}; it may end with ?creds=FILE (what nsc writes) or ?nkey=FILE (a "
            "seed), one of them"
        )
    [(name, file)] = given
    if importlib.util.find_spec("nkeys") is None:
        raise ConfigurationError(
            f"?{name}= in the NATS URL needs the extra `credentials`: pip install 'tasker-service[credentials]'"
        )
    path = Path(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"?{name}= in the NATS URL: {file} cannot be read: {error.strerror}") from error
    if name == "creds":
        _check_parts(file, content)
    else:
        _check_seed(file, content)
    return {_OPTIONS[name]: str(path)}


def _check_parts(file: str, content: bytes) -> None:
    missing = [part for part in _PARTS if part.encode() not in content]
    if missing:
        raise ConfigurationError(
            f"?creds= in the NATS URL: {file} has no line {missing[0]!r}, so it is no file of credentials; a seed "
            "alone is named by ?nkey="
        )
    _check_seed(file, content.partition(_PARTS[1].encode())[2].split(b"------END", 1)[0])


def _check_seed(file: str, seed: bytes) -> None:
    import nkeys

    try:
        nkeys.from_seed(bytearray(seed.strip())).wipe()
    except (nkeys.NkeysError, ValueError) as error:
        raise ConfigurationError(
            f"{file} holds no seed of an nkey (one line that begins with SU) for the NATS URL"
        ) from error
