"""What is raised for files that cannot be used, and for numbers that are none.

The errors of files are ``ValueError``: who catches that catches these. Their messages name the
file, and where in it something is wrong, and say what to do.
"""

from typing import Any


class DataError(ValueError):
    """An image, a table or a folder of data that is damaged, hostile, or not what it should be."""


class CheckpointError(ValueError):
    """A file that this project wrote itself, a checkpoint, a model or a run's, that is damaged."""


class NotFiniteError(FloatingPointError):
    """Numbers that are NaN or infinite where a run cannot go on with them.

    Attributes:
        k: the number of the run in its loop.
        classifier: the ``state_dict`` of its classifier then, to be looked at: the run itself goes
            back to where it was. None if the numbers are not the classifier's.
    """

    k: int = 0
    classifier: dict[str, Any] | None = None
