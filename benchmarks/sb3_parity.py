"""Our DDPG beside Stable-Baselines3's: the same settings, environment and seeds, one figure.

`tests/agents/test_sb3_parity.py` proves that the two updates are equal to the bit. This program
shows that the rest is, too: acting, exploring, storing and sampling differ in their random numbers
alone, so both must learn the same task equally well.

    python -m benchmarks.sb3_parity --json parity.json --out parity.png

It exits with status 1 if the 95 % interval of the difference of the final returns does not contain
0, or an agent's mean final return is not above `--threshold`.
"""

import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib
import numpy as np
import stable_baselines3 as sb3
import torch
import tyro
from numpy.typing import NDArray
from scipy import stats
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from tqdm import tqdm

from agents.ddpg import DDPG, DDPGConfig
from benchmarks.reporting.statistics import interval

AGENTS = {"ours": "DDPG, this project", "sb3": "DDPG, Stable-Baselines3"}
STYLES: dict[str, dict[str, Any]] = {
    "ours": {"color": "#08306b", "linestyle": "-"},
    "sb3": {"color": "#f16913", "linestyle": "--"},
}
"""Apart in lightness and in stroke, so that the figure can be read in grey."""


@dataclass(frozen=True)
class Settings:
    """What both agents share, and where the results go."""

    env: str = "Pendulum-v1"
    """Environment id."""
    seeds: int = 5
    """Runs of each agent, with seeds 0, 1, ..."""
    timesteps: int = 15_000
    """Environment steps of a run."""
    learning_starts: int = 1_000
    """Random steps at the beginning."""
    learning_rate: float = 1e-3
    """Adam's, for actor and critic."""
    batch_size: int = 128
    """Transitions in a gradient step; one step follows every environment step."""
    tau: float = 0.005
    """Share of the online weights in a target update."""
    gamma: float = 0.99
    """Discount."""
    sigma: float = 0.1
    """Standard deviation of the Gaussian exploration noise, for actions in [-1, 1]."""
    eval_episodes: int = 50
    """Episodes without noise that give a run's final return, the same ones for every run."""
    threshold: float = -250.0
    """What both mean final returns must be above."""
    workers: int = 2
    """Processes, of one thread each."""
    json: Path | None = None
    """File for every figure."""
    out: Path | None = None
    """File for the figure, PNG, PDF or SVG."""


class Returns(BaseCallback):
    """Collects the return of every finished training episode and the step at which it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0
        self.steps: list[int] = []
        self.returns: list[float] = []

    def _on_step(self) -> bool:
        values = self.locals
        # SB3 knows vectors of environments and speaks of rewards and dones.
        reward = values["rewards"][0] if "rewards" in values else values["reward"]
        done = (
            values["dones"][0] if "dones" in values else values["terminated"] or values["truncated"]
        )
        self.total += float(reward)
        if done:
            self.steps.append(self.num_timesteps)
            self.returns.append(self.total)
            self.total = 0.0
        return True


def build(name: str, settings: Settings, seed: int) -> Any:
    """Make the agent called `name` with the shared settings."""
    env = gym.make(settings.env)
    shared: dict[str, Any] = {
        name: getattr(settings, name)
        for name in ("learning_starts", "learning_rate", "batch_size", "tau", "gamma")
    }
    shared |= {"buffer_size": settings.timesteps, "gradient_steps": 1, "seed": seed}
    if name == "ours":
        config = DDPGConfig(
            squash="tanh", noise="gaussian", noise_sigma=settings.sigma, device="cpu", **shared
        )
        return DDPG(env, config)
    size = np.zeros(env.action_space.shape or ())
    noise = NormalActionNoise(size, size + settings.sigma)
    arch = {"net_arch": [256, 256]}
    return sb3.DDPG(
        "MlpPolicy", env, action_noise=noise, policy_kwargs=arch, device="cpu", **shared
    )


def run(name: str, settings: Settings, seed: int) -> dict[str, Any]:
    """Train one agent on one seed; returns its curve, final return and seconds of training."""
    torch.set_num_threads(1)
    agent, curve = build(name, settings, seed), Returns()
    begin = time.perf_counter()
    agent.learn(settings.timesteps, curve)
    seconds = time.perf_counter() - begin
    return {
        "agent": name,
        "seed": seed,
        "steps": curve.steps,
        "returns": curve.returns,
        "final_return": evaluate(agent, settings),
        "seconds": seconds,
    }


def evaluate(agent: Any, settings: Settings) -> float:
    """Mean return over `eval_episodes` episodes without noise, whose starts are fixed."""
    env, total = gym.make(settings.env), 0.0
    for episode in range(settings.eval_episodes):
        observation, _ = env.reset(seed=10_000 + episode)
        over = False
        while not over:
            action, _ = agent.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            over = terminated or truncated
    return total / settings.eval_episodes


def run_all(settings: Settings) -> Iterator[dict[str, Any]]:
    """Run both agents on all seeds, agents in turns, in worker processes."""
    jobs = [(name, settings, seed) for seed in range(settings.seeds) for name in AGENTS]
    context = multiprocessing.get_context("spawn")  # forked copies of torch's threads may hang
    with ProcessPoolExecutor(settings.workers, mp_context=context) as pool:
        futures = [pool.submit(run, *job) for job in jobs]
        for future in tqdm(as_completed(futures), total=len(futures), unit="run"):
            yield future.result()


def summarise(runs: list[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Means, their difference with its 95 % interval (Welch's t), and whether both pass."""
    final = {name: [r["final_return"] for r in runs if r["agent"] == name] for name in AGENTS}
    seconds = {
        name: float(np.mean([r["seconds"] for r in runs if r["agent"] == name])) for name in AGENTS
    }
    bounds = stats.ttest_ind(final["ours"], final["sb3"], equal_var=False).confidence_interval()
    means = {name: float(np.mean(values)) for name, values in final.items()}
    return {
        "final_return": means,
        "difference": means["ours"] - means["sb3"],
        "interval_95": [float(bounds.low), float(bounds.high)],
        "seconds_per_run": seconds,
        "interval_contains_0": bool(bounds.low <= 0 <= bounds.high),
        "above_threshold": all(mean > settings.threshold for mean in means.values()),
    }


def draw(runs: list[dict[str, Any]], summary: dict[str, Any], settings: Settings) -> None:
    """Learning curves with 95 % bands, and the final returns beside them."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt  # after the choice of a backend that needs no display

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9, 3.6), width_ratios=(2.6, 1), layout="constrained"
    )
    for position, (name, label) in enumerate(AGENTS.items()):
        mine = [r for r in runs if r["agent"] == name]
        style = STYLES[name]
        n = min(len(r["returns"]) for r in mine)
        steps = np.array(mine[0]["steps"][:n])
        mean, half = interval(np.array([smooth(r["returns"][:n]) for r in mine]))
        left.plot(steps, mean, label=label, linewidth=1.8, **style)
        left.fill_between(steps, mean - half, mean + half, color=style["color"], alpha=0.18, lw=0)
        final = np.array([r["final_return"] for r in mine])
        centre, spread = interval(final)
        colour = style["color"]
        right.plot(np.full(len(final), position - 0.15), final, "o", color=colour, alpha=0.7)
        right.errorbar(position + 0.15, centre, spread, fmt="s", capsize=5, color=colour)
    left.set(
        xlabel="environment step",
        ylabel="return (mean, 95 % band)",
        title=f"{settings.env}, training",
    )
    label = "random actions before, training after"
    left.axvline(settings.learning_starts, color="0.5", linewidth=1, linestyle=":", label=label)
    left.legend(loc="lower right", frameon=False)
    low, high = summary["interval_95"]
    right.set(xlim=(-0.6, 1.6), xticks=(0, 1), xticklabels=("this project", "SB3"))
    right.set_title("final return, no noise")
    right.set_xlabel(f"difference {summary['difference']:.1f} [{low:.1f}, {high:.1f}]")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9", linewidth=0.8)
    assert settings.out is not None
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(settings.out, dpi=150)
    plt.close(figure)


def smooth(returns: list[float], window: int = 5) -> NDArray[np.float64]:
    """Mean of each return and those before it, at most `window` in all."""
    return np.array([np.mean(returns[max(0, i - window + 1) : i + 1]) for i in range(len(returns))])


def main(settings: Settings) -> int:
    """Run, report, write the files; returns the exit status."""
    runs = sorted(run_all(settings), key=lambda r: (r["agent"], r["seed"]))
    summary = summarise(runs, settings)
    for name, label in AGENTS.items():
        final = [r["final_return"] for r in runs if r["agent"] == name]
        listed = " ".join(f"{value:.1f}" for value in final)
        print(
            f"{label:24} final return {np.mean(final):8.1f}   ({listed})   "
            f"{summary['seconds_per_run'][name]:.0f} s a run"
        )
    low, high = summary["interval_95"]
    print(f"difference {summary['difference']:.1f}, 95 % interval [{low:.1f}, {high:.1f}]")
    passed = summary["interval_contains_0"] and summary["above_threshold"]
    print("agree" if passed else "DO NOT AGREE")
    if settings.json is not None:
        versions = {"python": platform.python_version()} | {
            module.__name__: module.__version__ for module in (torch, sb3, gym, np)
        }
        report = {
            "settings": asdict(settings),
            "versions": versions,
            "summary": summary,
            "runs": runs,
        }
        settings.json.parent.mkdir(parents=True, exist_ok=True)
        settings.json.write_text(json.dumps(report, indent=1, default=str))
    if settings.out is not None:
        draw(runs, summary, settings)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings, description=__doc__)))
