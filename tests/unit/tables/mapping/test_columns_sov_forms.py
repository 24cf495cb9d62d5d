"""Published forms are understood without an option."""

from __future__ import annotations

import pytest

from pingdata_async.tables.mapping.columns import map_columns
from tests.support.sov_forms import FORMS, Form


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_published_form_needs_no_option(form: Form) -> None:
    """Each column that the API has a field for is found, and nothing else is sent."""
    mapping = map_columns("sov.xlsx", form.headers)
    assert {
        column.field: column.headers[0] if len(column.headers) == 1 else column.headers
        for column in mapping.columns
    } == form.fields
    for column in mapping.columns:
        assert tuple(form.headers[place] for place in column.places) == column.headers
    used = {place for column in mapping.columns for place in column.places}
    assert mapping.unused == tuple(
        header for place, header in enumerate(form.headers) if place not in used
    )


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_order_of_columns_means_nothing(form: Form) -> None:
    """The same form backwards is read the same."""
    forth = map_columns("sov.xlsx", form.headers)
    back = map_columns("sov.xlsx", form.headers[::-1])
    assert {column.field: column.headers for column in forth.columns} == {
        column.field: column.headers for column in back.columns
    }
