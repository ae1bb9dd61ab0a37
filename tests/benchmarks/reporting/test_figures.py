"""What the figures draw, read back from them."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex

from benchmarks.matrix import layout
from benchmarks.reporting import figures, statistics


def lines(figure, kind):
    """Lines by their gid, of those whose gid begins with a kind."""
    return {
        line.get_gid().partition(":")[2]: line
        for axes in figure.axes
        for line in axes.get_lines()
        if (line.get_gid() or "").startswith(f"{kind}:")
    }


def panels(experiment, metric="macro_f1"):
    return list(
        figures.curve_panels(
            experiment.curves, experiment.supervised, metric, metric, experiment.label
        )
    )


def test_few_curves_a_panel_over_a_grey_background_of_the_others(experiment):
    drawn = panels(experiment)
    areas = statistics.aulc(experiment.curves, "macro_f1").groupby(level="method").mean()
    shown = [method for methods, _ in drawn for method in methods]
    assert shown == list(areas.sort_values(ascending=False).index)
    assert [len(methods) for methods, _ in drawn] == [3, 3, 2]
    for methods, figure in drawn:
        (axes,) = figure.axes
        assert list(lines(figure, "macro_f1")) == methods
        colours = [to_hex(line.get_color()) for line in axes.get_lines()]
        assert colours.count(figures.OTHERS) == 8 - len(methods)
        assert len(axes.collections) == len(methods)  # their bands
        assert axes.get_ylim() == drawn[0][1].axes[0].get_ylim()
        for method, line in lines(figure, "macro_f1").items():
            _, mean, _ = figures.mean_curve(experiment.curves, method, "macro_f1")
            np.testing.assert_array_equal(line.get_ydata(), mean)


def test_no_bands_with_few_seeds(experiment):
    few = experiment.curves[experiment.curves["seed"] < 4]
    for _, figure in figures.curve_panels(
        few, experiment.supervised, "macro_f1", "", experiment.label
    ):
        assert not figure.axes[0].collections


def test_rewards_are_smoothed_over_five_steps(experiment):
    smooth = figures.smooth_rewards(experiment.curves)
    own = experiment.curves.query("method == 'ms' and seed == 3")["reward"].to_numpy()
    found = smooth.query("method == 'ms' and seed == 3")["reward"].to_numpy()
    assert found[10] == pytest.approx(own[6:11].mean()) and found[1] == own[1]
    assert np.isnan(found[0])


def test_a_forest_shows_differences_and_marks_the_significant(experiment):
    tests = statistics.paired_tests(experiment.compared, "macro_f1", "random")
    order = [*tests.index, "random", "bald"]
    figure = figures.forest(tests, order, "random", experiment.label)
    points = lines(figure, "difference")
    assert set(points) == set(tests.index)
    for method, point in points.items():
        assert point.get_xdata() == [pytest.approx(tests.loc[method, "difference"])]
        told = tests.loc[method, "p_holm"] < 0.05
        assert (to_hex(point.get_markerfacecolor()) != figures.PAPER) == told
    assert len({to_hex(p.get_markerfacecolor()) for p in points.values()}) > 1
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said[-2:] == ["reference", "too few seeds"]
    above, below = statistics.significant(tests)
    assert sum("▲" in text for text in said) == len(above)
    assert sum("▼" in text for text in said) == len(below)


def test_the_diagram_of_ranks_has_every_method_and_a_bar_a_group(experiment):
    ranking = statistics.ranking(experiment.compared, "macro_f1")
    figure = figures.critical_difference(ranking, experiment.label)
    drawn = lines(figure, "rank")
    assert {m: line.get_xdata()[0] for m, line in drawn.items()} == ranking.ranks.to_dict()
    bars = [line for line in figure.axes[0].get_lines() if line.get_linewidth() == 4]
    assert len(bars) == len(ranking.groups) > 1
    first, last = bars[0].get_xdata()
    group = ranking.ranks[ranking.groups[0]]
    assert first < group.min() and last > group.max()


def test_how_an_agent_does_is_drawn_from_the_curves(experiment):
    """Means over seeds; a value below 0 is as far out of bounds as one above."""
    curves = experiment.curves.assign(q=-experiment.curves["q"])
    figure = figures.health(curves, "drla", experiment.label)
    own = experiment.curves.query("method == 'drla'").groupby("step")
    for column in layout.HEALTH:
        (line,) = lines(figure, column).values()
        np.testing.assert_allclose(line.get_ydata(), own[column].mean(), rtol=1e-12)
    assert figure.axes[0].get_title(loc="left") == "DRLA"
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "linear", "log", "log"]


def test_classes_stand_beside_those_of_the_training_set(experiment):
    names = experiment.config["class_names"]
    figure = figures.class_balance(
        experiment.curves, experiment.supervised, 0.24, names, experiment.label
    )
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[0] == "RANDOM" and labels[-1] == "training set"
    widths = np.reshape([bar.get_width() for bar in axes.patches], (len(names), len(labels)))
    np.testing.assert_allclose(widths.sum(axis=0), 1)


def test_every_text_has_a_colour_that_a_page_can_exchange(experiment, tmp_path):
    """What is black by default stays black on a dark page."""
    ranking = statistics.ranking(experiment.compared, "macro_f1")
    tests = statistics.paired_tests(experiment.compared, "macro_f1", "random")
    drawn = [
        figures.critical_difference(ranking, experiment.label),
        figures.forest(tests, list(tests.index), "random", experiment.label),
        panels(experiment)[0][1],
        figures.health(experiment.curves, "drla", experiment.label),
    ]
    known = {light for light, _ in figures.THEME.values()}
    for figure in drawn:
        svg = figures.save(figure, tmp_path, "figure").read_text()
        texts = re.findall(r"<text [^>]*>", svg)
        assert texts
        for text in texts:
            assert re.search(r"fill: (#\w+)", text).group(1) in known, text
        assert "#000000" not in svg


def test_both_files_of_a_figure_are_drawn_in_the_style_that_it_was_laid_out_in(
    experiment, tmp_path, monkeypatch
):
    """Ticks are made when they are drawn: in another size they may lie beyond the picture."""
    _, figure = panels(experiment)[0]
    sizes = {}
    monkeypatch.setattr(
        figure, "savefig", lambda path, **_: sizes.update({path.suffix: mpl.rcParams["font.size"]})
    )
    figures.save(figure, tmp_path, "figure")
    assert sizes == {".svg": figures.STYLE["font.size"], ".png": figures.STYLE["font.size"]}
