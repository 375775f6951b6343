"""What may import what: the daemon stays light, the kernel knows no Kafka, and nothing of the monitor knows training."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import monitor
import monitor.model

ROOT = Path(monitor.__file__).parent
MODULES = ["monitor", *(found.name for found in pkgutil.walk_packages([str(ROOT)], "monitor."))]
KERNEL = [name for name in MODULES if name.startswith("monitor.model")]
HEAVY = {"tensorflow", "keras", "pandas", "sklearn", "scipy", "matplotlib", "confluent_kafka", "pyarrow", "training"}
# Imports every module anew, as if it were the first of ours, and prints the names of all packages that this loaded.
IMPORT_ALL = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == "monitor"]:
        del sys.modules[loaded]
    importlib.import_module(name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
HELP = """
import json, sys
sys.argv = ["ganwatch", *json.loads(sys.argv[1])]
from monitor.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def packages_after(code: str, argument: list[str]) -> set[str]:
    """Top-level packages that a fresh interpreter holds after running the code."""
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(argument)], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def imported_names(file: Path) -> set[str]:
    """Modules that a source file imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def test_every_module_of_the_monitor_can_be_imported_first_and_none_pulls_in_the_training_stack() -> None:
    loaded = packages_after(IMPORT_ALL, MODULES)
    assert {"monitor", "numpy", "polars", "prometheus_client"} <= loaded
    assert loaded & HEAVY == set()


def test_the_kernel_pulls_in_neither_kafka_nor_http_nor_prometheus() -> None:
    loaded = packages_after(IMPORT_ALL, KERNEL)
    assert {"monitor", "numpy", "polars"} <= loaded
    assert loaded & {"kafka", "http", "socketserver", "prometheus_client", "typer"} == set()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "--list-settings"]])
def test_help_is_shown_without_loading_numpy_or_polars(arguments: list[str]) -> None:
    loaded = packages_after(HELP, arguments)
    assert "typer" in loaded
    assert loaded & (HEAVY - {"training"} | {"numpy", "polars", "kafka", "ai_edge_litert"}) == set()


@pytest.mark.parametrize("name", MODULES)
def test_no_module_of_the_monitor_imports_training_even_inside_a_function(name: str) -> None:
    file = ROOT.parent / Path(*name.split("."))
    source = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    names = imported_names(source)
    assert not {imported for imported in names if imported.split(".")[0] in HEAVY}
    assert not {imported for imported in names if imported.startswith(".")}, "imports are absolute"


@pytest.mark.parametrize("name", KERNEL)
def test_the_kernel_imports_nothing_of_the_monitor_above_it(name: str) -> None:
    file = ROOT.parent / Path(*name.split("."))
    source = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    ours = {imported for imported in imported_names(source) if imported.split(".")[0] == "monitor"}
    allowed = {"monitor.errors", "monitor.documents", "monitor.native_output"}
    assert {imported for imported in ours if not imported.startswith("monitor.model")} <= allowed


def test_the_modules_that_are_tested_are_all_there_are() -> None:
    files = {file for file in ROOT.rglob("*.py") if "__pycache__" not in file.parts}
    assert len(files) == len(MODULES)
    assert len(KERNEL) > 10
