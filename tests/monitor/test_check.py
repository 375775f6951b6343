"""`ganwatch check` where there is no Kafka: what it finds in libraries, settings, schema, registry and model."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.check.installation import try_installation
from monitor.check.model import CheckedModel
from monitor.check.sizes import alert_sizes
from monitor.check.trials import Trial, Trials
from monitor.errors import BrokerError, BundleError, ConfigError
from monitor.model.bundle import Bundle
from monitor.settings import Settings
from tests.kafka_broker import free_port
from tests.machines import FEATURES_TOML, REGISTRY, as_json, readings
from tests.terminal import Terminal, terminal_in


@pytest.fixture
def terminal(
    machines_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    with terminal_in(machines_folder, capsys, monkeypatch) as terminal:
        terminal.flags = ("--bootstrap-servers", "kafka:port")
        yield terminal


def states(terminal: Terminal, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code, and by trial its state and detail."""
    outcome = terminal.run("check", "--json", *arguments)
    content = outcome.json
    assert content["exit_code"] == outcome.code
    return outcome.code, {trial["what"]: (trial["state"], trial["detail"]) for trial in content["trials"]}


def test_what_needs_no_broker_is_tried_without_one(terminal: Terminal) -> None:
    code, found = states(terminal)
    assert code == ConfigError.exit_code
    well = [what for what, (state, _) in found.items() if state == "ok"]
    assert well == ["settings", "checksums", "codecs", "schema", "registry", "model"]
    assert found["broker"] == ("wrong", "bootstrap_servers: expects host:port, comma-separated, got 'kafka:port'")
    left = [what for what, (state, _) in found.items() if state == "not tried"]
    assert left == ["topics", "rights", "records", "size of alerts", "size of dead letters"]


def test_a_model_that_can_flag_nothing_is_told_of(terminal: Terminal) -> None:
    assert "no record can be flagged" not in states(terminal)[1]["model"][1]
    state, detail = states(terminal, "--set", "target_alert_rate=0.0001")[1]["model"]
    assert state == "ok"
    assert "but no record can be flagged, however extreme: target_alert_rate = 0.0001" in detail


def test_every_wrong_thing_is_one_line_that_says_how_to_mend_it(terminal: Terminal) -> None:
    terminal.flags = ("--bootstrap-servers", f"127.0.0.1:{free_port()}", "--set", "broker_timeout_s=0.3")
    outcome = terminal.run_apart("check")
    assert (outcome.code, outcome.err) == (BrokerError.exit_code, "")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("wrong")]
    assert line.startswith("wrong      broker: Kafka at 127.0.0.1:")
    assert "cannot be reached (Connection refused)" in line
    assert "to mend it: the settings bootstrap_servers, security_protocol" in line
    assert outcome.out.endswith("1 of 12 wrong; `ganwatch run` would not work\n")


def test_all_wrong_settings_are_named_and_nothing_else_of_theirs_is_tried(terminal: Terminal) -> None:
    code, found = states(terminal, "--set", "max_row=5", "--set", "threshold=200")
    assert code == ConfigError.exit_code
    assert found["settings"][0] == "wrong"
    assert "max_row" in found["settings"][1]
    assert "threshold" in found["settings"][1]
    assert found["codecs"][0] == "ok"
    assert {state for what, (state, _) in found.items() if what not in {"settings", "checksums", "codecs"}} == {
        "not tried"
    }


def test_a_missing_schema_leaves_registry_and_model(terminal: Terminal) -> None:
    (terminal.folder / "features.toml").unlink()
    _, found = states(terminal)
    assert found["schema"][0] == "wrong"
    assert (found["registry"][0], found["model"][0]) == ("not tried", "not tried")


def test_a_registry_without_the_model_is_wrong(terminal: Terminal) -> None:
    _, found = states(terminal, "--registry", "elsewhere")
    assert found["registry"] == (
        "wrong",
        "elsewhere/aliases/machines: model 'machines' has no champion; `ganwatch train --registry elsewhere` makes one "
        "(the registry holds no models)",
    )
    assert found["model"][0] == "not tried"


def test_a_damaged_model_is_wrong(terminal: Terminal) -> None:
    registry = terminal.folder / "registry"
    registry.unlink()
    shutil.copytree(REGISTRY, registry)
    scorer = next((registry / "models" / "machines").iterdir()) / "scorer.tflite"
    scorer.write_bytes(scorer.read_bytes()[:-1] + b"x")
    _, found = states(terminal)
    assert found["registry"][0] == "ok"
    assert found["model"][0] == "wrong"
    assert "scorer.tflite: was changed after it was written" in found["model"][1]


def test_a_model_for_another_schema_is_wrong(terminal: Terminal) -> None:
    (terminal.folder / "features.toml").write_text(FEATURES_TOML.replace('"mode"', '"tool"'))
    _, found = states(terminal)
    assert "was trained for another schema: feature 'tool' is not in the bundle" in found["model"][1]


def test_a_pinned_version_is_looked_for(terminal: Terminal) -> None:
    _, found = states(terminal, "--model-version", "v9")
    assert found["registry"][0] == "wrong"
    assert "no such version in the registry" in found["registry"][1]


def test_a_missing_library_for_checksums_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crc32c", None)
    trials = Trials()
    try_installation(trials)
    assert [(trial.what, trial.state, trial.exit_code) for trial in trials.done] == [
        ("checksums", "wrong", 2),
        ("codecs", "ok", 0),
    ]
    assert "pip install crc32c" in str(trials.done[0].remedy)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_missing_codec_is_named(monkeypatch: pytest.MonkeyPatch, codec: str) -> None:
    from kafka import codec as codecs

    monkeypatch.setattr(codecs, codec, None)  # what kafka-python does where the library is absent
    trials = Trials()
    try_installation(trials)
    assert trials.done[1] == Trial(
        "codecs",
        "wrong",
        f"installation: batches compressed with {codec} cannot be read",
        "install ganwatch anew, or `pip install` the package of that name (zstd: zstandard)",
        2,
    )


def test_the_exit_code_is_the_highest_of_all() -> None:
    trials = Trials()

    def fail(error: Exception) -> tuple[bool, str]:
        raise error

    assert trials.exit_code == 0
    for error in (BundleError("here", "is gone"), ConfigError("there", "is odd")):
        trials.attempt("a part", lambda error=error: fail(error), remedy="mend it")  # type: ignore[misc]
    assert trials.exit_code == 4


def test_the_largest_alert_is_that_of_the_largest_record(machines_bundle: Bundle) -> None:
    records = as_json(readings(20, seed=1, anomalies=2))
    long = records[0][:-1] + b', "note": "' + b"x" * 5000 + b'"}'
    model, settings = CheckedModel(machines_bundle, tuple(records)), Settings()  # type: ignore[call-arg]
    largest, bare = alert_sizes(model, settings, [*records, long])
    usual = alert_sizes(model, settings, records)
    assert largest == pytest.approx(usual[0] + 5000, abs=200)
    assert bare == usual[1]
    without = settings.model_copy(update={"alert_payload": False})
    assert alert_sizes(model, without, [*records, long]) == (bare, bare)
