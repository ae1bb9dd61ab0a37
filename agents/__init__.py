"""Whatever acts in the environment. Knows Gymnasium and torch; never imports al_gym."""

from agents.transfer import TransferPolicy, load_pretrained

__all__ = ["TransferPolicy", "load_pretrained"]
