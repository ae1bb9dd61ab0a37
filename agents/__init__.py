"""Whatever acts in the environment. Knows Gymnasium and torch; of al_gym how it writes files.

What is heavy, PyTorch above all, is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.ddpg import DDPG, DDPGConfig
    from agents.sets import PoolConfig, PoolDDPG
    from agents.transfer import CoveragePolicy, TransferPolicy, load_pretrained

__all__ = [
    "DDPG",
    "CoveragePolicy",
    "DDPGConfig",
    "PoolConfig",
    "PoolDDPG",
    "TransferPolicy",
    "load_pretrained",
]
_HOMES = {
    "CoveragePolicy": "transfer",
    "DDPG": "ddpg",
    "DDPGConfig": "ddpg",
    "PoolConfig": "sets",
    "PoolDDPG": "sets",
    "TransferPolicy": "transfer",
    "load_pretrained": "transfer",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})
