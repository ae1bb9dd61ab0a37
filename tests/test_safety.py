"""No code from data: what would run what a file says, or unpack more than it says, is not called.

The sources are read, not run. What a rule forbids is allowed in the places of ``EXCEPTIONS`` alone,
each for a reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    ROOT / "envs_registry.py",
    *(path for part in ("al_gym", "agents", "benchmarks", "examples")
      for path in sorted((ROOT / part).rglob("*.py"))),
]  # fmt: skip
UNPICKLE = ("pickle", "cPickle", "_pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal")
EXPAND = ("xml", "lxml")
OURS = ("al_gym", "agents", "benchmarks")
NO_OBJECTS = ("open_memmap", "read_magic", "read_array_header")
"""Of NumPy's formats: what never unpickles."""
EXCEPTIONS = {
    ("al_gym/classifiers/architectures.py", "torch.load"):
        "weights in an installed package, of the one digest that is known, and weights_only",
    ("al_gym/data/photographs.py", "tags.load"): "Pillow's: the tags of an EXIF block",
    ("al_gym/data/decoder.py", "import pickle"):
        "a job for a process, from the one that starts it; what comes back is JSON",
    ("al_gym/data/decoder.py", "pickle.load"): "the same",
    ("benchmarks/bccd_cells.py", "import xml"): "a public data set's; entities are refused",
    ("al_gym/__init__.py", "import_module"): "of this package, by a table",
    ("agents/__init__.py", "import_module"): "of this package, by a table",
    ("al_gym/import_paths.py", "importlib.import_module"):
        "what the user names; files name it by consent",
}  # fmt: skip
"""(file, what is found there) -> why it may be."""


def findings(source: str) -> Iterator[str]:
    """What is forbidden in a program, by the names that ``EXCEPTIONS`` has."""
    tree = ast.parse(source)
    homes: dict[str, str] = {}  # name in this file -> module, or thing, that it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                homes[alias.asname or alias.name.partition(".")[0]] = alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                homes[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for home in homes.values():
        if home.partition(".")[0] in (*UNPICKLE, *EXPAND, "yaml"):
            yield f"import {home.partition('.')[0]}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)):
            first, _, rest = called.partition(".")
            where = ".".join(filter(None, (homes.get(first, first), rest)))
            if is_forbidden(where, called, node):
                yield called


def is_forbidden(where: str, called: str, call: ast.Call) -> bool:
    """Whether a call is.

    Args:
        where: the name called, its first part replaced by what was imported under it.
        called: as it is written.
        call: with its arguments.
    """
    last = where.rpartition(".")[2]
    keywords = {each.arg: ast.unparse(each.value) for each in call.keywords}
    if called in ("eval", "exec", "compile", "__import__") or last == "import_module":
        return True
    if last == "eval" and call.args:  # of pandas; a module's eval() has no argument
        return True
    if where in ("os.system", "os.popen", "tempfile.mktemp", "runpy.run_path", "runpy.run_module"):
        return True
    if last in ("read_pickle", "load_from_zip_file", "unpickle", "full_load", "unsafe_load"):
        return True
    if keywords.get("shell", "False") != "False":
        return True
    if last in ("extractall", "extract", "unpack_archive"):
        return "filter" not in keywords
    if where.startswith("numpy.lib.format.") and not last.startswith(NO_OBJECTS):
        return keywords.get("allow_pickle") != "False"
    if last != "load" or not (call.args or call.keywords):
        return False
    if where == "numpy.load":
        return keywords.get("allow_pickle") != "False"
    if where == "load":  # of the file itself
        return False
    return where.partition(".")[0] not in OURS  # as load of Stable-Baselines3's, which unpickles


def found_in_sources() -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(ROOT)), what)
        for path in SOURCES
        for what in findings(path.read_text(encoding="utf-8"))
    ]


def test_no_source_runs_what_data_says():
    found = found_in_sources()
    assert set(found) == set(EXCEPTIONS)  # nothing else, and no exception that is none any more
    assert len(found) == len(EXCEPTIONS)  # each of them once


def test_weights_are_read_as_weights_only():
    """Those of the package, and those that torchvision downloads or finds in PyTorch's cache."""
    path = ROOT / "al_gym/classifiers/architectures.py"
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    texts = [ast.unparse(call) for call in calls]
    for name in ("torch.load(", "entry.get_state_dict("):
        assert [text.endswith("weights_only=True)") for text in texts if text.startswith(name)] == [
            True
        ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch\ntorch.load('a')", ["torch.load"]),
        ("from torch import load\nload('a')", ["load"]),
        ("import pickle as p", ["import pickle"]),
        ("from joblib import load", ["import joblib"]),
        ("def f():\n    from xml.etree import ElementTree", ["import xml"]),
        ("import yaml\nyaml.safe_load('a')", ["import yaml"]),
        ("import numpy as np\nnp.load('a')", ["np.load"]),
        ("import numpy as np\nnp.load('a', allow_pickle=True)", ["np.load"]),
        ("import numpy as np\nnp.load('a', allow_pickle=False)", []),
        ("from numpy import load\nload('a')", ["load"]),
        ("import numpy as np\nnp.lib.format.read_array(file)", ["np.lib.format.read_array"]),
        ("eval('1')", ["eval"]),
        ("exec(compile(text, 'a', 'exec'))", ["exec", "compile"]),
        ("import re\nre.compile('a')\nmodule.eval()", []),
        ("frame.eval('a + b')", ["frame.eval"]),
        ("import subprocess\nsubprocess.run('ls', shell=True)", ["subprocess.run"]),
        ("import subprocess\nsubprocess.run(['ls'])", []),
        ("import os\nos.system('ls')", ["os.system"]),
        ("from tempfile import mktemp\nmktemp()", ["mktemp"]),
        ("archive.extractall(folder)", ["archive.extractall"]),
        ("archive.extractall(folder, filter='data')", []),
        ("import shutil\nshutil.unpack_archive(path)", ["shutil.unpack_archive"]),
        ("from stable_baselines3 import PPO\nPPO.load('a')", ["PPO.load"]),
        ("model.load(path=path)", ["model.load"]),
        ("from agents.ddpg import DDPG\nDDPG.load('a')\nimage.load()", []),
        ("import pandas as pd\npd.read_pickle('a')", ["pd.read_pickle"]),
    ],
)  # fmt: skip
def test_the_rules_find_it(source, expected):
    assert list(findings(source)) == expected
