"""The command line of the phantoms; see the package."""

from collections.abc import Callable, Sequence
from typing import Any

import tyro

from al_gym.data.phantoms import write_chestct, write_retinopathy

COMMANDS: dict[str, Callable[..., Any]] = {
    "chestct": write_chestct,
    "retinopathy": write_retinopathy,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ``arguments`` None: those of the process."""
    tyro.extras.subcommand_cli_from_dict(COMMANDS, args=arguments)


if __name__ == "__main__":
    main()
