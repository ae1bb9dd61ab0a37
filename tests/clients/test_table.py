"""The table of docs/clients.md is put together from several runs."""

from tests.clients.table import Row, merged


def test_rows_are_in_order_and_a_client_missing_in_one_run_only_is_no_row():
    old = Row("Gymnasium", "1.0.0", "1.0.0", "checks", "passed")
    new = Row("Gymnasium", "1.10.0", "1.10.0", "checks", "failed")
    there = Row("Minari", "0.5", "1.10.0", "records", "passed")
    not_there = Row("Minari", "", "1.0.0", "records", "skipped: Minari is not installed")
    nowhere = Row("d3rlpy", "", "1.0.0", "learns", "skipped: d3rlpy is not installed")
    assert merged([[not_there, old, nowhere], [there, new]]) == [new, old, there, nowhere]
