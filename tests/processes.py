"""Which processes there are, by Linux's /proc."""

from pathlib import Path


def _stat(folder):
    """Parent and time of the beginning of a process that is there and no zombie, or None."""
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[1]), fields[19])


def started(pid):
    """When a process that is no zombie began, or None."""
    found = _stat(Path(f"/proc/{pid}"))
    return found and found[1]


def children_of(pid):
    """Processes below ``pid`` with the time of their beginning."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        parent, begun = _stat(folder) or (None, None)
        if parent == pid:
            child = int(folder.name)
            found |= {child: begun, **children_of(child)}
    return found


def alive(processes):
    return [pid for pid, begun in processes.items() if started(pid) == begun]
