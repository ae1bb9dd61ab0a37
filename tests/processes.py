"""Which processes there are, by Linux's /proc."""

from pathlib import Path


def started(pid):
    """When a process that is no zombie began, or None."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def children_of(pid):
    """Processes below ``pid`` with the time of their beginning."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            child = int(path.parent.name)
            found |= {child: fields[19], **children_of(child)}
    return found


def alive(processes):
    return [pid for pid, begun in processes.items() if started(pid) == begun]
