"""The price table that a setting names is read when the service starts."""

from pathlib import Path

import pytest

from tasker.errors import ConfigurationError
from tasker.service.compose import _read_prices


def test_a_price_table_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('version = "v1"\n[models."opus"]\ntokens_in = "0.01"\n', encoding="utf-8")
    table = _read_prices(str(file))
    assert table is not None
    assert (table.version, table.models["opus"]["tokens_in"]) == ("v1", "0.01")
    assert _read_prices(None) is None


@pytest.mark.parametrize("text", [None, "version = ", 'version = "v1"\n[meters]\npages = 0.1\n'])
def test_one_that_cannot_be_used_is_named_with_what_is_wrong(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "prices.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"usage\.prices.*prices\.toml"):
        _read_prices(str(file))
