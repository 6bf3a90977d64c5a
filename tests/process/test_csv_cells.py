"""Cells of CSV that no spreadsheet computes."""

from hypothesis import given
from hypothesis import strategies as st

from process.csv_cells import cell_of, text_of


@given(st.text(st.sampled_from("'=+-@ \ta\uff1d"), max_size=6))
def test_a_cell_stands_for_its_text(text: str) -> None:
    """However many apostrophes it begins with."""
    cell = cell_of(text)
    assert text_of(cell) == text
    assert cell.strip()[:1] not in tuple("=+-@\uff1d")
