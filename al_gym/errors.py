"""What is raised for files that cannot be used, so that it can be told from a wrong argument.

Both are ``ValueError``: who catches that catches these. Their messages name the file, and where in
it something is wrong, and say what to do.
"""


class DataError(ValueError):
    """An image, a table or a folder of data that is damaged, hostile, or not what it should be."""


class CheckpointError(ValueError):
    """A file that this project wrote itself, a checkpoint, a model or a run's, that is damaged."""
