"""Texts without the secrets in them: the one scrubber of logs and of what is recorded of errors.

A rule is tried only where one of its words stands in the text, which most texts have none of.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MASK: Final = "***"


class _Rule(NamedTuple):
    """A secret's form. `words`, in lower case: without one of them a text has no such secret."""

    words: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str


_RULES: Final = (
    # a private key in PEM, also one that was cut off
    _Rule(
        ("private key",),
        re.compile(
            r"(-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----).*?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        rf"\1{MASK}",
    ),
    # user:password@ or token@ of a URL
    _Rule(("://",), re.compile(r"(?<=://)([^\s/@:\"']*):[^\s/@\"']*(?=@)"), rf"\1:{MASK}"),
    _Rule(("://",), re.compile(r"(?<=://)[^\s/@:\"']+(?=@)(?<!:\*\*\*)"), MASK),
    # Authorization: Bearer ..., and its other schemes and spellings; Cookie: ...
    _Rule(
        ("authorization", "cookie", "x-api-key", "x-auth-token"),
        re.compile(
            r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|x-auth-token)\b([\"']?\s*[:=,]\s*\(?[\"']?)"
            r"(?!\*\*\*)((?:basic|bearer|digest|negotiate|token|apikey)\s+)?[^\s\"',;]+",
            re.IGNORECASE,
        ),
        rf"\1\2\3{MASK}",
    ),
    # password=... of a DSN or a query
    _Rule(
        ("pass", "secret", "token", "apikey", "api_key", "signature"),
        re.compile(
            r"\b((?:pass(?:word|wd)?|(?:client_)?secret|(?:access_|refresh_|id_)?token|api_?key|signature)"
            r"[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # Bearer ... wherever it stands
    _Rule(
        ("bearer", "basic"),
        re.compile(r"\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    # tokens that tell by their form what they are: JWT, AWS, GitHub, GitLab, Slack, Stripe
    _Rule(("eyj",), re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), MASK),
    _Rule(("akia", "asia"), re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), MASK),
    _Rule(
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "_live_", "_test_"),
        re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|[sr]k_(?:live|test)_)[A-Za-z0-9_-]{10,}"),
        MASK,
    ),
)
_QUERY: Final = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s?#\"'<>]{1,2000})\?[^\s\"'<>)\]]*")


def masked(text: str) -> str:
    """Return `text` without the passwords, keys and tokens in it."""
    lowered = text.lower()
    for words, pattern, replacement in _RULES:
        if any(word in lowered for word in words):
            text = pattern.sub(replacement, text)
    return text


def masked_error(text: str) -> str:
    """Return `text`, which an error says, without secrets and without the queries of URLs, which may hold any."""
    return masked(_QUERY.sub(rf"\1?{MASK}", text) if "://" in text else text)
