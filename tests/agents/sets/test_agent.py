"""DDPG with set networks, masks and scaled noise, on a small environment."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback

from agents import checkpoint
from agents.ddpg import DDPG, DDPGConfig
from agents.sets import PoolConfig, PoolDDPG
from agents.sets.pool_features import FEATURES
from al_gym import ActiveLearningEnv, EnvConfig
from al_gym.wrappers import ContextObservation
from tests.samples import FAST, make_dataset

HEAD = replace(FAST, trainable="head")
TASK = EnvConfig(initial_fraction=0.1, query_size=4, budget=0.4)


@pytest.fixture(scope="module")
def images():
    return make_dataset()


@pytest.fixture
def make_env(images):
    def make(networks="set", **change):
        config = EnvConfig(**{**vars(TASK), **change})
        env = ActiveLearningEnv(images, config, HEAD)
        return ContextObservation(env) if networks == "set" else env

    return make


@pytest.fixture
def make_agent(make_env):
    def make(env=None, **change):
        settings = {"networks": "set", "seed": 0, "width": 16, "device": "cpu", **change}
        return PoolDDPG(env or make_env(settings["networks"]), PoolConfig(**settings))

    return make


def learn(agent, steps, **keywords):
    """Learn, and what happened: the callback's locals of every step."""
    seen = []
    agent.learn(steps, lambda local, _: seen.append(dict(local)), **keywords)
    return seen


def weights(network):
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def selected(seen):
    return [local["info"]["selected"].tolist() for local in seen]


def everything(agent):
    return agent.buffer._gather(torch.arange(len(agent.buffer)))


def departed(agent):
    """(steps, n_u), what had left the pool before each stored action."""
    return ~agent.encode.in_pool(everything(agent).observations)


# --- an episode ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mask": True},
        {"noise_scale": "spread", "noise_space": "logit"},
        {"gradient_steps": 2, "optimizer_impl": "default"},
        {"target_update": "epoch", "learning_starts": 2},
    ],
)
def test_it_learns_to_the_end_of_an_episode(make_agent, change, untouched_globals):
    agent = make_agent(**change)
    names = ("actor", "critic", "actor_target", "critic_target")
    before = {name: weights(getattr(agent, name)) for name in names}
    steps = agent.env.get_wrapper_attr("max_steps")
    seen = learn(agent, steps)
    assert [local["terminated"] for local in seen] == [False] * (steps - 1) + [True]
    assert agent.episodes == 1 and len(agent.buffer) == agent.buffer.capacity == steps
    seen += learn(agent, 1, reset_num_timesteps=False)
    for local in seen:
        assert agent.action_space.contains(local["executed"])
    for name, old in before.items():
        assert weights(getattr(agent, name)).isfinite().all()
        assert not torch.equal(weights(getattr(agent, name)), old)


def test_equal_seeds_choose_equal_samples(make_agent):
    runs = [selected(learn(make_agent(seed=seed, mask=True), 7)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_a_state_is_what_the_features_say(make_agent):
    agent = make_agent()
    observation, _ = agent.env.reset(seed=0)
    states, single = agent.encode(observation)
    assert single and states.shape == (1, agent.encode.size)
    n = agent.action_space.shape[0]
    p1 = states[0, -len(FEATURES) * n :][:n]
    np.testing.assert_allclose(p1, observation["softmax"].max(1))


# --- masks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("networks", ["set", "mlp"])
@pytest.mark.parametrize("noise_space", ["action", "logit"])
def test_departed_samples_score_zero(make_agent, networks, noise_space):
    agent = make_agent(networks=networks, mask=True, noise_space=noise_space)
    seen = learn(agent, 5)
    gone, actions = departed(agent), everything(agent).actions
    assert gone.sum(1).tolist() == [0, 4, 8, 12, 16]
    assert (actions[gone] == 0).all() and (actions[~gone] > 0).float().mean() > 0.5
    observation = seen[-1]["observation"]
    scores, _ = agent.predict(observation)
    available = seen[-1]["info"]["available"]
    assert (~available).sum() == 20
    assert (scores[~available] == 0).all() and (scores[available] > 0).all()


def test_departed_samples_score_zero_in_the_warm_up(make_agent):
    agent = make_agent(mask=True, learning_starts=3)
    learn(agent, 3)
    assert (everything(agent).actions[departed(agent)] == 0).all()


@pytest.mark.parametrize("networks", ["set", "mlp"])
def test_without_a_mask_they_do_not(make_agent, networks):
    agent = make_agent(networks=networks, noise_space="logit")
    learn(agent, 3)
    assert (everything(agent).actions[departed(agent)] > 0).all()


def test_targets_see_masked_actions(make_agent, monkeypatch):
    """In Eq. 6 and in Eq. 4."""
    agent = make_agent(mask=True, gradient_steps=0, noise_space="logit")
    learn(agent, 4)
    batch, seen = everything(agent), []
    for name, states in (("critic_target", "next_observations"), ("critic", "observations")):
        forward, gone = getattr(agent, name).forward, ~agent.encode.in_pool(getattr(batch, states))

        def watched(flat, actions, forward=forward, gone=gone):
            seen.append(bool((actions[gone] == 0).all() and (actions[~gone] > 0).all()))
            return forward(flat, actions)

        monkeypatch.setattr(getattr(agent, name), "forward", watched)
    agent.train_step(batch)
    assert seen == [True, True, True]


# --- noise --------------------------------------------------------------------------------------


def logit_noise(agent, steps):
    """What was added to the logits of every step, and those logits."""
    learn(agent, steps)
    batch = everything(agent)
    with torch.no_grad():
        logits = agent.actor.logits(batch.observations)
    return torch.logit(batch.actions.double()) - logits, logits


def test_noise_follows_the_spread_of_the_scores(make_agent):
    """Scores, and ten times those scores."""
    settings = {"gradient_steps": 0, "noise_space": "logit"}
    agents = [make_agent(**settings, noise_scale=scale) for scale in ("fixed", "spread", "spread")]
    with torch.no_grad():
        agents[2].actor.net.out.mul_(10)
        agents[2].actor.net.out_bias.mul_(10)
    (plain, _), (one, logits), (ten, larger) = (logit_noise(agent, 4) for agent in agents)
    np.testing.assert_allclose(ten[0], 10 * one[0], rtol=1e-2, atol=2e-3)
    for agent, noise, scores in ((agents[1], one, logits), (agents[2], ten, larger)):
        for t, gone in enumerate(departed(agent)):
            scale = float(scores[t, ~gone].std())
            np.testing.assert_allclose(noise[t], scale * plain[t], rtol=1e-2, atol=2e-3)


def test_spread_of_squashed_scores_in_action_space(make_agent):
    agent, plain = (
        make_agent(gradient_steps=0, noise_sigma=0.1, noise_scale=scale)
        for scale in ("spread", "fixed")
    )
    for each in (agent, plain):
        learn(each, 1)
    batch = everything(agent)
    with torch.no_grad():
        scores = agent.actor(batch.observations)
    noise, unscaled = batch.actions - scores, everything(plain).actions - scores
    inside = (everything(plain).actions > 0) & (everything(plain).actions < 1)
    np.testing.assert_allclose(
        noise[inside], (scores.std(correction=0) * unscaled)[inside], atol=1e-6
    )


@pytest.mark.parametrize("networks", ["set", "mlp"])
def test_the_last_sample_of_a_pool_has_no_spread(make_agent, make_env, networks):
    """Two queries, of which the second finds one sample left."""
    n = make_env(networks).action_space.shape[0]
    env = make_env(networks, query_size=n - 1, budget=1.0)
    agent = make_agent(env, networks=networks, noise_scale="spread", gradient_steps=0)
    seen = learn(agent, 2)
    assert seen[-1]["terminated"] and everything(agent).actions.isfinite().all()


# --- going on -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"mask": True, "noise_scale": "spread"},
        {"gradient_steps": 1, "buffer_size": 3},
        {"networks": "mlp", "mask": True, "noise_space": "logit"},
        {"gradient_steps": 1},
    ],
)
def test_it_goes_on_within_an_episode(make_agent, make_env, tmp_path, change):
    """The environment is brought to the same point by the same seed and the same actions."""
    agent = make_agent(**change)
    first = learn(agent, 3)
    agent.save(tmp_path / "saved")
    held = checkpoint.read(tmp_path / "saved")
    expected = learn(agent, 5, reset_num_timesteps=False)

    env = make_env(change.get("networks", "set"))
    env.reset(seed=0)
    for local in first:
        env.step(local["executed"])
    loaded = PoolDDPG.load(tmp_path / "saved", env, force_reset=False)
    restored = make_agent(**change)
    restored.load_state_dict(held)
    np.testing.assert_equal(
        {name: np.asarray(each) for name, each in restored.buffer.state_dict().items()},
        {name: np.asarray(each) for name, each in held["buffer"].items()},
    )
    found = learn(loaded, 5, reset_num_timesteps=False)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["executed"], other["executed"])
        assert one["scalars"] == other["scalars"]
    for name in ("actor", "critic", "actor_target", "critic_target"):
        assert torch.equal(weights(getattr(loaded, name)), weights(getattr(agent, name)))
    for one, other in zip(everything(loaded), everything(agent), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("networks", ["mlp", "set"])
def test_it_is_loaded_without_an_environment(make_agent, make_env, tmp_path, networks):
    agent = make_agent(networks=networks, mask=True)
    observation = learn(agent, 3)[-1]["observation"]
    loaded = PoolDDPG.load(agent.save(tmp_path / "saved"))
    assert loaded.observation_space == agent.observation_space
    np.testing.assert_array_equal(loaded.predict(observation)[0], agent.predict(observation)[0])
    with pytest.raises(RuntimeError, match="set_env"):
        loaded.learn(1)
    loaded.set_env(make_env(networks))
    other = PoolDDPG.load(tmp_path / "saved", make_env(networks))
    found = (learn(each, 2, reset_num_timesteps=False) for each in (loaded, other))
    for one, expected in zip(*found, strict=True):
        assert one["scalars"] == expected["scalars"]


@pytest.mark.parametrize("networks", ["mlp", "set"])
def test_the_callbacks_of_sb3(make_agent, make_env, tmp_path, networks):
    """Above all the vector of one around observations that are dictionaries."""
    callback = EvalCallback(
        *(make_env(networks), None, CheckpointCallback(1, str(tmp_path), save_replay_buffer=True)),
        n_eval_episodes=1,
        eval_freq=2,
        best_model_save_path=str(tmp_path),
        verbose=0,
        warn=False,
    )
    seen = []
    make_agent(networks=networks).learn(
        3, [callback, lambda local, _: seen.append(local["new_obs"])]
    )
    best = PoolDDPG.load(tmp_path / "best_model")
    assert best.num_timesteps == 2
    assert {path.name for path in tmp_path.glob("rl_*")} == {
        f"rl_model_{name}2_steps.safetensors" for name in ("", "replay_buffer_")
    }
    many, _ = best.predict(seen[-1])
    assert many.shape == (1, *best.action_space.shape)


def test_settings_one_by_one(make_env):
    agent = PoolDDPG(make_env("mlp"), mask=True, width=16, seed=0)
    assert agent.config == PoolConfig(mask=True, width=16, seed=0)
    with pytest.raises(TypeError, match="PoolDDPG has no setting 'maks'; did you mean 'mask'?"):
        PoolDDPG(make_env("mlp"), maks=True)


# --- predict ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [False, True])
def test_predict_on_one_and_on_many(make_agent, mask):
    agent = make_agent(mask=mask)
    each = [local["observation"] for local in learn(agent, 4)]
    stacked = {name: np.stack([one[name] for one in each]) for name in each[0]}
    actions, state = agent.predict(stacked, state="mine")
    assert state == "mine" and actions.shape == (4, *agent.action_space.shape)
    for action, one in zip(actions, each, strict=True):
        alone, _ = agent.predict(one)
        assert agent.action_space.contains(alone)
        np.testing.assert_allclose(alone, action, atol=1e-6)


def test_observations_of_another_form_are_refused(make_agent):
    agent = make_agent()
    observation, info = agent.env.reset(seed=0)
    with pytest.raises(ValueError, match="pass the observation's dictionary alone"):
        agent.predict((observation, info))
    with pytest.raises(ValueError, match=r"has shape \(\d+, 3\), got \(5, 3\)"):
        agent.predict(observation | {"softmax": observation["softmax"][:5]})
    observation["softmax"][0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        agent.predict(observation)


# --- settings that do not fit -------------------------------------------------------------------


def test_set_networks_need_the_context(make_agent, make_env, score_env):
    for env in (make_env("mlp"), score_env()):
        with pytest.raises(TypeError, match=r"no softmax, .*ContextObservation\(env\)"):
            make_agent(env)


def test_set_networks_need_a_query_size(make_agent, make_env):
    class Toy(gym.Env):
        observation_space = make_env().observation_space
        action_space = make_env().action_space

    with pytest.raises(ValueError, match="no query_size"):
        make_agent(Toy())


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"networks": "cnn"}, "networks"),
        ({"noise_scale": "large"}, "noise_scale"),
    ],
)
def test_unknown_options(change, name):
    with pytest.raises(ValueError, match=rf"{name} must be one of"):
        PoolConfig(**change)


def test_set_networks_end_in_a_sigmoid():
    with pytest.raises(ValueError, match="end in a sigmoid"):
        PoolConfig(networks="set", squash="tanh")


@pytest.mark.parametrize("change", [{"mask": True}, {"noise_scale": "spread"}])
def test_a_mask_needs_a_row_for_every_score(make_agent, score_env, change):
    make_agent(score_env(), networks="mlp", **change)
    with pytest.raises(ValueError, match=r"need observations \(n_u, M\) .* got \(3,\) and \(1,\)"):
        make_agent(gym.make("Pendulum-v1"), networks="mlp", **change)


# --- beside the paper's agent -------------------------------------------------------------------


def test_with_nothing_asked_for_it_is_the_papers_agent(make_env):
    settings = {"seed": 0, "width": 16, "device": "cpu"}
    ours = PoolDDPG(make_env("mlp"), PoolConfig(**settings))
    papers = DDPG(make_env("mlp"), DDPGConfig(**settings))
    assert selected(learn(ours, 5)) == selected(learn(papers, 5))
    for name in ("actor", "critic", "actor_target", "critic_target"):
        assert torch.equal(weights(getattr(ours, name)), weights(getattr(papers, name)))


def test_neither_takes_the_settings_of_the_other(make_env):
    with pytest.raises(TypeError, match="DDPG takes a DDPGConfig, not a PoolConfig"):
        DDPG(make_env("mlp"), PoolConfig(mask=True))
    with pytest.raises(TypeError, match="PoolDDPG takes a PoolConfig, not a DDPGConfig"):
        PoolDDPG(make_env("mlp"), DDPGConfig())


def test_a_file_of_one_is_not_read_by_the_other_where_it_asks_for_more(
    make_agent, make_env, tmp_path
):
    make_agent(networks="mlp", mask=True).save(tmp_path / "masked")
    with pytest.raises(ValueError, match="DDPGConfig has no setting mask=True"):
        DDPG.load(tmp_path / "masked", make_env("mlp"))
    assert PoolDDPG.load(tmp_path / "masked", make_env("mlp")).config.mask
    make_agent(networks="mlp").save(tmp_path / "plain")
    DDPG.load(tmp_path / "plain", make_env("mlp"))
