"""Pictures and lines of an episode."""

import gymnasium as gym
import numpy as np
import pytest
from matplotlib.text import Text

from al_gym.rendering import as_picture, figure
from tests.al_gym.episodes import Clerk, make


def test_ansi_is_a_line_with_what_counts(dataset):
    env = make(dataset, render_mode="ansi")
    env.reset(seed=0)
    start = env.render()
    *_, info = env.step(np.ones(env.action_space.shape))
    line = env.render()
    assert "\n" not in line and start.startswith("step 0/") and "Eq. 3" not in start
    assert f"labelled {info['n_labelled']}" in line
    assert f"macro F1 {info['macro_f1']:.3f}" in line
    assert f"Eq. 3 {info['sample_rewards'].mean():.3f}" in line


def test_what_was_skipped_is_said_and_shown(dataset):
    clerk = Clerk(lambda indices: np.where(np.arange(len(indices)) < 3, -1, 0))
    env = make(dataset, render_mode="ansi", annotator=clerk)
    env.reset(seed=0)
    assert "skipped" not in env.render()
    env.step(np.ones(env.action_space.shape))
    n = len(env.run.episode.pool.labelled)
    assert f"labelled {n} ({n / 80:.1%})  skipped 3  macro F1 0." in env.render()
    texts = [text.get_text() for text in figure(env.run.episode, dataset).findobj(Text)]
    assert "Step 1: 1 image annotated, 3 skipped" in texts
    assert sum(text.startswith("skipped\npredicted class ") for text in texts) == 3


def test_the_sheet_is_a_picture_that_changes_with_the_episode(dataset):
    env = make(dataset, render_mode="rgb_array", query_size=15)
    env.reset(seed=0)
    start = env.render()
    env.step(np.ones(env.action_space.shape))
    sheet = env.render()
    assert sheet.shape == start.shape == (640, 1120, 3) and sheet.dtype == np.uint8
    # twelve queried images fill the left, which was white before
    assert (start[100:, :600] == 255).mean() > 0.99
    assert (sheet[100:, :600] == 255).mean() < 0.9


def test_a_volume_shows_its_central_slice():
    volume = np.arange(2 * 4 * 5 * 6).reshape(2, 4, 5, 6)
    np.testing.assert_array_equal(as_picture(volume), volume[0, 2])
    colour = np.arange(3 * 5 * 6).reshape(3, 5, 6)
    np.testing.assert_array_equal(as_picture(colour)[1, 2], colour[:, 1, 2])


def test_rendering_without_a_mode_warns(dataset):
    env = make(dataset)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


def test_rendering_needs_a_reset(dataset):
    with pytest.raises(gym.error.ResetNeeded):
        make(dataset, render_mode="ansi").render()
