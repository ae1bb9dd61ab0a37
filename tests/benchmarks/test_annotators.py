"""The studies of the annotator's page, small."""

import pytest

pytest.importorskip("nicegui", reason="the extra annotate is not installed")
pytest.importorskip("playwright.async_api", reason="Playwright is not installed")

from benchmarks import annotators
from benchmarks.annotating.robot import browser_path


@pytest.mark.slow
@pytest.mark.skipif(browser_path() is None, reason="there is no chromium")
def test_robots_through_kills_and_many_at_once(medmnist_root, tmp_path, monkeypatch):
    monkeypatch.setattr(annotators, "N_MANY", 700)  # features of thousands take their time
    config = annotators.AnnotatorsConfig(
        medmnist_root, tmp_path / "out", ("kills", "many"),
        answers=60, kills=2, people=3, seconds=20.0,
    )  # fmt: skip
    assert annotators.main(config) == 0
    header, _, kills, many = (tmp_path / "out" / "annotators.md").read_text().splitlines()
    names = [name.strip() for name in header.strip("|").split("|")]
    found = dict(zip(names, (cell.strip() for cell in kills.strip("|").split("|")), strict=True))
    assert found["answers"].startswith("60, ") and found["kills"] == "2"
    assert found["lost"] == found["asked again"] == "0"
    assert "3" in many


def test_a_loss_is_an_exit_status(tmp_path, monkeypatch):
    async def losing(_):
        return {"lost": "1"}, False

    monkeypatch.setattr(annotators, "through_kills", losing)
    config = annotators.AnnotatorsConfig(tmp_path, tmp_path / "out", ("kills",))
    assert annotators.main(config) == 1
