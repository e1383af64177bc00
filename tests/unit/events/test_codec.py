"""What the codec takes, what it refuses and where it says the fault is; the canonical form."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import time
import uuid
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker.errors import BodyInvalid, BodyTooLarge, Undecodable, ValueInvalid
from tasker.events.codec import (
    BODY_BYTES_MAX,
    DEPTH_MAX,
    DIGITS_MAX,
    INPUT_BYTES_MAX,
    KEYS_MAX,
    STRING_CHARS_MAX,
    UNDECODABLE_CHARS_MAX,
    canonical,
    canonicalize,
    decode_command,
    decode_message,
    decode_value,
    encode_value,
    hash_of,
    is_text,
    split_array,
    split_field,
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def nested(depth: int, inner: bytes = b"") -> bytes:
    """Return arrays and objects in turn, `depth` deep."""
    pairs = [(b"[", b"]"), (b'{"a":', b"}")]
    opening = b"".join(pairs[level % 2][0] for level in range(depth - 1))
    closing = b"".join(pairs[level % 2][1] for level in reversed(range(depth - 1)))
    return opening + b"[" + inner + b"]" + closing


class TestJsonText:
    @pytest.mark.parametrize(
        "data",
        [
            b'{"a":1,"a":2}',
            b'{"a":1,"\\u0061":2}',
            b'{"\\u003a":1,"\\u003A":2}',
            b'{"a":"\\u003a","b":1,"b":2}',
            b'{"x":{"deep":[{"a":1,"a":1}]}}',
            '{"é":1,"\\u00e9":2}'.encode(),
            b'{"":1,"":2}',
            b'{"a":{"b:c":1},"a":0}',
        ],
    )
    def test_a_key_twice_is_refused_however_it_is_written(self, data: bytes) -> None:
        with pytest.raises(ValueInvalid, match="twice"):
            canonicalize(data)

    @pytest.mark.parametrize("data", [b'{"a:b":1,"x":":"}', b'{"a":{"a":{"a":1}}}', b'[{"a":1},{"a":2}]', b'"::::"'])
    def test_colons_and_equal_keys_of_different_objects_are_no_duplicates(self, data: bytes) -> None:
        assert canonicalize(data) == data

    @pytest.mark.parametrize(
        "data",
        [
            b"NaN",
            b"[Infinity]",
            b"-Infinity",
            b"1e999",
            b"[-1e999]",
            b'{"a":1e400}',
            b"nan",
            b"01",
            b"+1",
            b".5",
            b"1.",
        ],
    )
    def test_what_is_no_finite_json_number_is_refused(self, data: bytes) -> None:
        with pytest.raises((BodyInvalid, ValueInvalid)):
            canonicalize(data)

    @pytest.mark.parametrize(
        "data",
        [
            b'"\\ud800"',
            b'"\\udc00"',
            b'"\\ud800\\u0041"',
            b'{"\\ud800":1}',
            b'"\xed\xa0\x80"',
            b'"\xff"',
            b'"\xc0\x80"',
        ],
    )
    def test_lone_surrogates_and_bad_utf8_are_refused(self, data: bytes) -> None:
        with pytest.raises((BodyInvalid, ValueInvalid)):
            canonicalize(data)

    @pytest.mark.parametrize(
        ("data", "place"),
        [
            (b'"\\udc00"', ""),
            (b'["a","\\ud800"]', "/1"),
            (b'{"a":{"b":"x\\ud800\\u0041"}}', "/a/b"),
            (b'{"a":{"\\ud800":1}}', "/a"),
        ],
    )
    def test_a_lone_surrogate_is_a_bad_value_with_its_place(self, data: bytes, place: str) -> None:
        with pytest.raises(ValueInvalid, match="lone surrogate") as caught:
            canonicalize(data)
        assert [fault.pointer for fault in caught.value.errors] == [place]

    @pytest.mark.parametrize("data", [b'{"a":"\\ud800"', b'["\\ud800",]', b'"\\ud800" 1', b'"\\u00"'])
    def test_what_is_no_json_beside_an_escape_is_no_json(self, data: bytes) -> None:
        with pytest.raises(BodyInvalid):
            canonicalize(data)

    def test_a_surrogate_pair_is_its_character(self) -> None:
        assert canonicalize(b'"\\ud83d\\ude00"') == '"😀"'.encode()

    @pytest.mark.parametrize("data", [b'"\\u0000"', b'{"\\u0000":1}', b'["a",{"b":"x\\u0000y"}]'])
    def test_nul_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueInvalid, match=r"U\+0000"):
            canonicalize(data)

    def test_the_place_of_a_fault_is_named(self) -> None:
        with pytest.raises(ValueInvalid) as caught:
            canonicalize(b'{"items":[1,{"name":"\\u0000"}]}')
        assert [error.pointer for error in caught.value.errors] == ["/items/1/name"]

    @pytest.mark.parametrize("inner", [b"", b"1", b'"[[[["', b'"\\u0041"'])
    def test_depth_64_is_taken_and_65_refused(self, inner: bytes) -> None:
        canonicalize(nested(DEPTH_MAX, inner))
        with pytest.raises(ValueInvalid, match="deeper"):
            canonicalize(nested(DEPTH_MAX + 1, inner))

    @pytest.mark.parametrize(
        "data",
        [
            b"[" * 10_000 + b"]" * 10_000,
            b"[" * 10_000,
            b"]" * 10_000,
            nested(10_000),
            b"[{" * 5_000,
            b"[[]," * 200 + b"1" + b"]" * 200,
            b'["[",' * 100 + b"1" + b"]" * 100,
        ],
        ids=["arrays", "open", "closing", "in-turn", "open-in-turn", "siblings", "in-strings"],
    )
    def test_absurd_depth_is_refused_without_recursion(self, data: bytes) -> None:
        with pytest.raises((ValueInvalid, BodyInvalid)):
            canonicalize(data)

    def test_brackets_in_strings_are_no_depth(self) -> None:
        data = b'["' + b"[{" * 500 + b'","\\"' + b"]" * 100 + b'"]'
        assert canonicalize(data) == data

    def test_many_siblings_are_no_depth(self) -> None:
        data = b"[" + b",".join([b"[[]]"] * 1_000) + b"]"
        assert canonicalize(data) == data

    @pytest.mark.parametrize("sign", [b"", b"-"])
    def test_1000_digits_are_kept_exactly_and_1001_refused(self, sign: bytes) -> None:
        assert canonicalize(sign + b"9" * DIGITS_MAX) == sign + b"9" * DIGITS_MAX
        for digits in (DIGITS_MAX + 1, 5_000):
            with pytest.raises(ValueInvalid, match="digits"):
                canonicalize(b'{"a":[' + sign + b"9" * digits + b"]}")

    def test_digits_in_strings_and_fractions_are_no_integer(self) -> None:
        text = b'"' + b"9" * 2_000 + b'"'
        assert canonicalize(text) == text
        assert canonicalize(b"0." + b"1" * 1_500) == b"0.1111111111111111"

    @pytest.mark.parametrize(
        "data", [b"", b" ", b"{", b'{"a":1,}', b"1 2", b"{'a':1}", b"\xef\xbb\xbf1", b'"\n"', b"nul"]
    )
    def test_what_is_not_one_json_text_is_refused(self, data: bytes) -> None:
        with pytest.raises(BodyInvalid):
            canonicalize(data)

    def test_a_body_has_a_largest_size(self) -> None:
        body = b'["' + b'","'.join([b"x" * (BODY_BYTES_MAX // 8 - 4)] * 8) + b'"]'
        body += b" " * (BODY_BYTES_MAX - len(body))
        assert canonicalize(body) == body.rstrip()
        for read in (canonicalize, decode_value):
            with pytest.raises(BodyTooLarge):
                read(body + b" ")
            with pytest.raises(BodyTooLarge):
                read(b"12345", bytes_max=4)

    def test_an_object_has_most_keys(self) -> None:
        keys = [f'"k{number}":0' for number in range(KEYS_MAX + 1)]
        assert len(decode_value(f"{{{','.join(keys[:-1])}}}".encode())) == KEYS_MAX
        with pytest.raises(ValueInvalid, match=r"/a/0: an object has 4097 keys") as caught:
            decode_value(f'{{"a":[{{{",".join(keys)}}}]}}'.encode())
        assert [fault.pointer for fault in caught.value.errors] == ["/a/0"]
        many = [dict.fromkeys(map(str, range(KEYS_MAX)), 0)] * 2
        assert decode_value(canonical(many)) == many
        with pytest.raises(ValueInvalid, match="4097 keys"):
            encode_value(dict.fromkeys(map(str, range(KEYS_MAX + 1)), 0))

    @pytest.mark.parametrize("escape", [False, True])
    def test_a_string_has_a_greatest_length(self, *, escape: bool) -> None:
        text = "\\u00e9" if escape else "\N{EURO SIGN}"
        longest = f'["{text * STRING_CHARS_MAX}"]'.encode() if not escape else f'["{text * 100}"]'.encode()
        assert decode_value(longest, bytes_max=len(longest))
        for form in ('["{}"]', '{{"{}":1}}'):
            data = form.format("x" * STRING_CHARS_MAX + text).encode()
            with pytest.raises(ValueInvalid, match="a string has 131073 characters"):
                decode_value(data)
            assert decode_value(form.format("x" * (STRING_CHARS_MAX - 1) + text).encode())

    def test_what_can_be_stored_is_text(self) -> None:
        assert [is_text(text) for text in ("", "a\n", "\U0001f600", "\0", "a\ud800", "\udcff")] == [True] * 3 + [
            False
        ] * 3


class TestCanonicalForm:
    @pytest.mark.parametrize(
        ("data", "form"),
        [
            (b' { "b" : 1 , "a" : [ 1 , 2 ] } ', b'{"a":[1,2],"b":1}'),
            (b'{"b":{"d":1,"c":2},"a":0}', b'{"a":0,"b":{"c":2,"d":1}}'),
            (b'{"\\uffff":1,"\\ud800\\udc00":2,"z":3}', '{"z":3,"\uffff":1,"\U00010000":2}'.encode()),
            (b"1.50", b"1.5"),
            (b"1E2", b"100.0"),
            (b"1.0", b"1.0"),
            (b"1", b"1"),
            (b"-0", b"0"),
            (b"100000000000000000000000000001", b"100000000000000000000000000001"),
            (b'"\\u00e9\\/\\n"', '"é/\\n"'.encode()),
        ],
    )
    def test_the_form_of(self, data: bytes, form: bytes) -> None:
        assert canonicalize(data) == form

    @given(values)
    def test_equal_values_have_equal_bytes_and_come_back(self, value: Any) -> None:
        """However the text is written: escaped or not, spaced or not, keys in any order."""
        form = canonical(value)
        assert canonicalize(form) == form
        for text in (json.dumps(value, ensure_ascii=True, indent=1), json.dumps(value, ensure_ascii=False)):
            assert canonicalize(text.encode()) == form
        back = decode_value(form)
        assert canonical(back) == form
        assert back == value
        assert encode_value(value, bytes_max=10**9) == form

    @given(st.dictionaries(texts, st.integers(), min_size=2))
    def test_keys_stand_in_code_point_order(self, value: dict[str, int]) -> None:
        keys = list(json.loads(canonical(value)))
        assert keys == sorted(keys)

    @given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
    def test_any_bytes_give_a_form_or_a_typed_refusal(self, data: bytes) -> None:
        try:
            form = canonicalize(data)
        except (BodyInvalid, ValueInvalid):
            return
        assert canonicalize(form) == form

    @given(st.dictionaries(texts, values, min_size=1, max_size=4), st.data())
    def test_a_repeated_key_is_never_lost_silently(self, value: dict[str, Any], data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(value)))
        pairs = [(name, canonical(item)) for name, item in value.items()] + [(key, b"1")]
        text = b"{" + b",".join(json.dumps(name).encode() + b":" + item for name, item in pairs) + b"}"
        with pytest.raises(ValueInvalid):
            canonicalize(text)

    def test_the_hash_is_of_the_bytes(self) -> None:
        assert hash_of(b"{}") == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()


@dataclasses.dataclass
class Line:
    sku: str
    price: object = None


class Order(msgspec.Struct, rename="camel"):
    order_id: int
    lines: list[Line] = []
    note: str | msgspec.UnsetType = msgspec.UNSET


class TestPythonValues:
    @pytest.mark.parametrize(
        ("value", "form"),
        [
            (None, b"null"),
            (True, b"true"),
            ((1, [2]), b"[1,[2]]"),
            (Colour.RED, b'"red"'),
            (Number.ONE, b"1"),
            (Text("a"), b'"a"'),
            ({Text("k"): 1}, b'{"k":1}'),
            (2**70, b"1180591620717411303424"),
            (Line("x", Line("y")), b'{"price":{"price":null,"sku":"y"},"sku":"x"}'),
            (Order(7, [Line("x", 1)]), b'{"lines":[{"price":1,"sku":"x"}],"orderId":7}'),
            (Order(7, note="n"), b'{"lines":[],"note":"n","orderId":7}'),
            (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), b'"2026-01-02T00:00:00Z"'),
            (uuid.UUID(int=5), b'"00000000-0000-0000-0000-000000000005"'),
            (decimal.Decimal("1.10"), b'"1.10"'),
            (msgspec.Raw(b'{"b":1, "a":2}'), b'{"a":2,"b":1}'),
        ],
    )
    def test_the_form_of(self, value: object, form: bytes) -> None:
        assert encode_value(value) == form

    @pytest.mark.parametrize(
        ("value", "place"),
        [
            (math.nan, ""),
            ([math.inf], "/0"),
            ({"a": [0, -math.inf]}, "/a/1"),
            (b"bytes", ""),
            ({"a": bytearray(b"x")}, "/a"),
            ({1: 2}, ""),
            ({"a": {None: 1}}, "/a"),
            ({b"k": 1}, ""),
            ({"a": {1, 2}}, "/a"),
            (frozenset(), ""),
            ("a\0", ""),
            ({"a\0": 1}, ""),
            (["\ud800"], "/0"),
            ({"\udfff": 1}, ""),
            (10**DIGITS_MAX, ""),
            (-(10**DIGITS_MAX), ""),
            (1j, ""),
            (object(), ""),
            (Line("x", math.nan), "/price"),
            (Order(1, [Line("x", b"y")]), "/lines/0/price"),
            (range(3), ""),
        ],
    )
    def test_what_has_no_exact_form_is_refused_with_its_place(self, value: object, place: str) -> None:
        with pytest.raises(ValueInvalid) as caught:
            encode_value(value)
        assert [error.pointer for error in caught.value.errors] == [place]

    def test_depth(self) -> None:
        value: list[Any] = []
        for _ in range(DEPTH_MAX - 1):
            value = [value]
        assert encode_value(value) == b"[" * DEPTH_MAX + b"]" * DEPTH_MAX
        with pytest.raises(ValueInvalid, match="deeper"):
            encode_value([value])
        value[0] = value
        with pytest.raises(ValueInvalid, match="deeper"):
            encode_value(value)

    def test_depth_goes_on_into_raw_values(self) -> None:
        with pytest.raises(ValueInvalid, match="deeper"):
            encode_value([msgspec.Raw(nested(DEPTH_MAX))])

    def test_a_pointer_escapes_what_stands_in_keys(self) -> None:
        with pytest.raises(ValueInvalid) as caught:
            encode_value({"a~/b": math.nan})
        assert [error.pointer for error in caught.value.errors] == ["/a~0~1b"]

    def test_digits(self) -> None:
        assert len(encode_value(10**DIGITS_MAX - 1)) == DIGITS_MAX

    def test_size(self) -> None:
        assert len(encode_value("x" * (INPUT_BYTES_MAX - 2))) == INPUT_BYTES_MAX
        with pytest.raises(BodyTooLarge):
            encode_value("x" * (INPUT_BYTES_MAX - 1))


class Command(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    tags: dict[str, int] = {}


class Choice(msgspec.Struct):
    one: Literal["a", "b"]


class TestStructs:
    def test_a_command_comes_back(self) -> None:
        assert decode_command(b'{"tags":{"a":1},"name":"n"}', Command) == Command("n", {"a": 1})
        assert decode_command(b'[{"name":"n"}]', list[Command]) == [Command("n")]

    @pytest.mark.parametrize(
        ("data", "place"),
        [
            (b'{"name":1}', "/name"),
            (b"{}", ""),
            (b'{"name":"n","other":1}', ""),
            (b'{"name":"n","tags":{"a":"x"}}', "/tags/..."),
            (b"[]", ""),
        ],
    )
    def test_a_wrong_field_is_refused_with_its_place(self, data: bytes, place: str) -> None:
        with pytest.raises(BodyInvalid) as caught:
            decode_command(data, Command)
        assert [error.pointer for error in caught.value.errors] == [place]

    @pytest.mark.parametrize(
        ("data", "detail"),
        [
            (b'{"name":"n","other":1}', "there is no field 'other'; there are name, tags"),
            (b'{"name":"n","' + b"o" * 5000 + b'":1}', f"there is no field '{'o' * 60}'; there are name, tags"),
            (b'{"name":1}', "/name: Expected `str`, got `int`"),
            (b"{}", "the field 'name' is missing; there are name, tags"),
        ],
    )
    def test_a_wrong_field_is_told_with_what_there_is(self, data: bytes, detail: str) -> None:
        with pytest.raises(BodyInvalid) as caught:
            decode_command(data, Command)
        assert caught.value.detail == detail
        with pytest.raises(BodyInvalid):
            decode_command(b"[" + data + b"]", list[Command])

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "not JSON: it is empty"),
            (b'{"name": "a"', "not JSON: it ends in the middle of a value"),
            (b"name: a", "not JSON: invalid character (byte 4)"),
        ],
    )
    def test_what_is_no_json_is_told_in_words(self, data: bytes, words: str) -> None:
        with pytest.raises(BodyInvalid) as caught:
            decode_command(data, Command)
        assert caught.value.detail == words

    def test_a_command_is_checked_like_every_body(self) -> None:
        with pytest.raises(ValueInvalid, match="twice"):
            decode_command(b'{"name":"a","name":"b"}', Command)

    @pytest.mark.parametrize("data", [b"", b"{", b'{"name":1}', b"\xff", b'{"name":"\xff"}', b"[" * 100_000])
    def test_damaged_bytes_of_ours_are_undecodable(self, data: bytes) -> None:
        with pytest.raises(Undecodable):
            decode_message(data, Command)

    def test_why_a_message_cannot_be_read_is_bounded(self) -> None:
        """It quotes what came, from whoever sent it, and lands in logs."""
        with pytest.raises(Undecodable, match=r"^Choice: Invalid enum value 'xxx") as caught:
            decode_message(b'{"one":"%b"}' % (b"x" * 10_000), Choice)
        assert len(caught.value.detail) == UNDECODABLE_CHARS_MAX


class TestSplitField:
    def test_the_rest_and_the_value_as_they_were_sent(self) -> None:
        deep = b"[" * 10_000 + b"]" * 10_000
        for value in (deep, rb'{"a": ["\udc00"]}', b'"}, {"', b"1"):
            data = b' {"kind" : "completed", "result" : %b , "step": "a,b"} ' % value
            assert split_field(data, "result") == (b'{"kind" : "completed","step": "a,b"}', value)

    @pytest.mark.parametrize(
        "data", [b"", b"{}", b"[]", b'{"result": 1', b'{"result": 1}}', b'{"a": {"result": 1}}', b'"{']
    )
    def test_an_object_without_the_field_or_none_at_all(self, data: bytes) -> None:
        assert split_field(data, "result") is None

    def test_its_time_grows_with_the_length_alone(self) -> None:
        started_s = time.process_time()
        for data in (b'{"' + rb"\"" * 200_000 + b"}", b'{"a":"' * 80_000 + b"}", b"{" * 250_000 + b"}" * 250_000):
            split_field(data, "result")
        assert time.process_time() - started_s < 5


class TestSplitArray:
    def test_items_come_as_they_were_sent(self) -> None:
        deep = b"[" * 100 + b"]" * 100
        items = [b'{"a": 1,  "a": 2}', b"17", deep, b'"\\u0000"']
        assert split_array(b" [" + b" , ".join(items) + b"] ") == items
        assert split_array(b"[]") == []

    def test_an_item_that_is_too_deep_spoils_no_other(self) -> None:
        deep = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
        items = [b"1", deep, rb'"],[\"\u0041"', b'{"b": [1, 2]}']
        assert split_array(b" [" + b" , ".join(items) + b"] ") == items

    @pytest.mark.parametrize("data", [b"[1", b"[1,]", b"{}", b"[" * 10_000 + b"]" * 10_000 + b"]", b"[1] 2", b"\xff"])
    def test_what_is_no_array_is_refused(self, data: bytes) -> None:
        with pytest.raises(BodyInvalid):
            split_array(data)
