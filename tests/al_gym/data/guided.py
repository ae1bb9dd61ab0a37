"""Files that a coverage-guided fuzzer makes, for the parsers of our own.

    pip install -e ".[fuzz]"
    python -m tests.al_gym.data.guided --runs 20000

Where ``hostile`` damages blindly, libFuzzer (through atheris) keeps what reaches new lines of our
parsers and goes on from there, so that it finds the way behind checks that few damages pass. What
becomes of a file is judged as there. A table says how many edges of our code were reached by the
samples and in the end; a file that is wrong is kept.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

OURS = ("al_gym.data", "agents.checkpoint", "benchmarks.matrix", "benchmarks.reporting")
"""Whose lines guide it."""
SEEDS = 40
"""Damaged files that it begins with, beside the sample."""
BYTES = 16384
"""The longest file."""
COUNTS = re.compile(r"^#(\d+)\s+(INITED|DONE)\s+cov: (\d+)", re.MULTILINE)


def child(kind: str, n_runs: int, seed: int, kept: Path, place: Path) -> None:
    """Fuzz one format, with files below ``place``; ends the process, without more ado."""
    import atheris

    with atheris.instrument_imports(include=list(OURS)):
        from tests.al_gym.data import hostile
    warnings.simplefilter("ignore")
    way = hostile.FORMATS[kind]
    folder, corpus = place / "case", place / "corpus"
    folder.mkdir()
    corpus.mkdir()
    target = folder / (way.target or way.name)
    for case in range(SEEDS):
        hostile.write_case(folder, kind, case)
        (corpus / str(case)).write_bytes(target.read_bytes())
    way.write(folder / way.name)  # and what lies beside the file
    (corpus / "sample").write_bytes(target.read_bytes())

    def test(content: bytes) -> None:
        target.write_bytes(content)
        said = hostile.outcome(folder / way.name, kind)
        if said not in hostile.RIGHT:
            raise AssertionError(said)

    def mutated(content: bytes, max_size: int, number: int) -> bytes:
        """In two cases of three what checksums and packing would hide."""
        if way.within is not None and number % 3:
            try:
                return way.within(content, lambda part: atheris.Mutate(part, BYTES))[:max_size]
            except Exception:  # it cannot be unpacked any more
                pass
        return atheris.Mutate(content, max_size)

    hostile.limit_memory()
    flags = (
        f"-runs={n_runs}", f"-max_len={BYTES}", f"-timeout={hostile.SECONDS}", f"-seed={seed}",
        "-rss_limit_mb=0", "-len_control=0", f"-artifact_prefix={kept}/{kind.replace(' ', '_')}-",
    )  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, str(corpus)], test, custom_mutator=mutated)
    atheris.Fuzz()


def fuzzed(kind: str, n_runs: int, seed: int, kept: Path) -> tuple[list[int], str]:
    """Files tried, edges reached by the samples and in the end; what is wrong, or ""."""
    kept.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.al_gym.data.guided", "--child", kind]
    command += ["--runs", str(n_runs), "--seed", str(seed), "--kept", str(kept)]
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        done = subprocess.run(
            [*command, "--place", place], capture_output=True, text=True, errors="replace",
            cwd=Path(__file__).parents[3],
        )  # fmt: skip
    found = {event: (int(n), int(edges)) for n, event, edges in COUNTS.findall(done.stderr)}
    if done.returncode or "DONE" not in found:
        name = signal.Signals(-done.returncode).name if done.returncode < 0 else done.returncode
        return [], f"{kind}: ended by {name}; {done.stdout[-1500:]}{done.stderr[-300:]}"
    return [found["DONE"][0], found["INITED"][1], found["DONE"][1]], ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help="formats, as in hostile.py; none: all")
    parser.add_argument("--runs", type=int, default=20000, help="of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "guided")
    parser.add_argument("--child")
    parser.add_argument("--place", type=Path, help="of a child")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.runs, arguments.seed, arguments.kept, arguments.place)
    from tests.al_gym.data import hostile

    n_wrong = 0
    print(f"{'format':<15}{'tried':>9}{'edges before':>14}{'after':>8}{'wrong':>8}")
    for kind in arguments.kinds or hostile.FORMATS:
        counts, wrong = fuzzed(kind, arguments.runs, arguments.seed, arguments.kept)
        n_wrong += bool(wrong)
        shown = "".join(f"{n:>{width}}" for n, width in zip(counts, (9, 14, 8), strict=False))
        print(f"{kind:<15}{shown or wrong}{'' if wrong else f'{0:>8}'}", flush=True)
    sys.exit(bool(n_wrong))


if __name__ == "__main__":
    main()
