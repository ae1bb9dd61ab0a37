"""What a step costs, in numbers that do not depend on the machine."""

from dataclasses import dataclass, fields


@dataclass
class Counters:
    """Work done since the last ``reset`` or ``step`` began."""

    samples_forwarded: int = 0
    """Rows passed through the network for predictions; with ``trainable="head"`` through the linear
    layer, which takes whole stretches of rows where that is cheaper than picking them."""
    samples_trained: int = 0
    """Rows in training batches, or passed by ``optimizer="newton"``, with repetition."""
    files_decoded: int = 0
    """Image files read. All are read when the data set is made, none afterwards."""
    bytes_to_host: int = 0
    """Bytes of tensors taken from the device; counted on the CPU too, where they stay in place."""

    def clear(self) -> None:
        """Begin to count anew."""
        for field in fields(self):
            setattr(self, field.name, 0)
