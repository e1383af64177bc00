"""What passes the scrubber holds no secret, and says all else as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.scrubbing import masked, masked_error

SECRET = st.text("abcdefghijkmnpqrstuvwxyz0123456789", min_size=8, max_size=30)
PLACES = [
    "cannot reach nats://user:{}@host:4222",
    "GET https://api.example/v1?key={}&page=2 failed",
    "Authorization: Bearer {}",
    "{{'Authorization': 'Basic {}'}}",
    "host=db password={} port=1",
    '{{"api_key": "{}"}}',
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nats://tok3n@host:4222", "nats://***@host:4222"),
        ("nats://u:p%40ss@a:1,nats://u:other@b:2", "nats://u:***@a:1,nats://u:***@b:2"),
        ("host=db user=t password=hunter2 port=5432", "host=db user=t password=*** port=5432"),
        ("postgresql:///t?password=hunter2&host=/run", "postgresql:///t?password=***&host=/run"),
        ("Authorization: Bearer eyJhbGciOi.abc-def", "Authorization: Bearer ***"),
        ('{"token": "abc"}', '{"token": "***"}'),
        ("{'Authorization': 'Basic dXNlcjpwYXNz'}", "{'Authorization': 'Basic ***'}"),
        ("authorization=Token abc, host=x", "authorization=Token ***, host=x"),
        ("X-Api-Key: k-123 refused", "X-Api-Key: *** refused"),
        ("Cookie: session=abc; path=/", "Cookie: ***; path=/"),
        ("got bearer abcdefgh12 back", "got bearer *** back"),
        ("client_secret=abc&x=1", "client_secret=***&x=1"),
        ("jwt eyJhbGciOiJI.eyJzdWIi.c2ln end", "jwt *** end"),
        ("key AKIAABCDEFGHIJKLMNOP", "key ***"),
        ("ghp_abcdefghij1234 and sk_live_abcdefghij", "*** and ***"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- x",
            "-----BEGIN RSA PRIVATE KEY-----*** x",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "-----BEGIN PRIVATE KEY-----***"),
        ("http://127.0.0.1:8080/v1/tasks", "http://127.0.0.1:8080/v1/tasks"),
        ("step charge of 5 failed at attempt 2", "step charge of 5 failed at attempt 2"),
    ],
)
def test_secrets_in_texts_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET https://ada:pw@api.example/v1/x?card=4111&x=1 failed", "GET https://ada:***@api.example/v1/x?*** failed"),
        ("url='http://x/y?token=abc'", "url='http://x/y?***'"),
        ("what? nothing", "what? nothing"),
    ],
)
def test_an_error_tells_no_query_of_a_url(text: str, expected: str) -> None:
    assert masked_error(text) == expected


@given(secret=SECRET, place=st.sampled_from(PLACES), before=st.text(max_size=20))
def test_no_secret_passes_wherever_it_stands(secret: str, place: str, before: str) -> None:
    text = f"{before} {place.format(secret)}"
    assert secret not in masked_error(text).removeprefix(before)


@given(text=st.text(max_size=300) | st.sampled_from(PLACES).map(lambda place: place.format("abcdefgh1")))
def test_what_is_scrubbed_stays_as_it_is(text: str) -> None:
    assert masked_error(masked_error(text)) == masked_error(text)
