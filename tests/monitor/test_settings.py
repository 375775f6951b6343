"""Settings: three sources in rising priority, every mistake reported at once with its source, secrets never shown."""

from __future__ import annotations

import json
import logging
import os
import pickle
import traceback
from io import StringIO
from pathlib import Path

import pytest
from pydantic import ValidationError

from monitor.errors import ConfigError
from monitor.logs import configure_logs
from monitor.settings import RELOADABLE, Settings, load_settings

SECRET = "hunter2-Zq9"  # noqa: S105 - planted, to be looked for
SASL: dict[str, object] = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "PLAIN",
    "sasl_username": "ann",
    "sasl_password": SECRET,
}


def toml(folder: Path, text: str) -> Path:
    path = folder / "ganwatch.toml"
    path.write_text(text)
    return path


def problems_of(**sources: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_settings(**{"env": {}, **sources})  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    return caught.value.problems


def test_without_any_source_all_settings_have_their_defaults() -> None:
    settings = load_settings(env={})
    assert settings == Settings.model_validate({})
    assert (settings.features_topic, settings.start_from, settings.http_host) == ("features", "earliest", "127.0.0.1")


def test_the_environment_beats_the_file_and_flags_beat_both(tmp_path: Path) -> None:
    path = toml(tmp_path, 'group_id = "file"\nmax_rows = 10\nfeatures_topic = "file"\n')
    env = {"GANWATCH_MAX_ROWS": "20", "GANWATCH_FEATURES_TOPIC": "env", "MAX_ROWS": "99"}
    settings = load_settings(path, env=env, flags={"features_topic": "flag", "max_rows": None})
    assert (settings.group_id, settings.max_rows, settings.features_topic) == ("file", 20, "flag")


def test_a_variable_names_the_file_unless_a_flag_does(tmp_path: Path) -> None:
    path = toml(tmp_path, "max_rows = 11\n")
    assert load_settings(env={"GANWATCH_CONFIG": str(path)}).max_rows == 11
    other = tmp_path / "other.toml"
    other.write_text("max_rows = 12\n")
    assert load_settings(other, env={"GANWATCH_CONFIG": str(path)}).max_rows == 12


def test_the_process_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GANWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GANWATCH_MAX_ROWS", "77")
    assert load_settings().max_rows == 77


def test_the_variable_of_the_test_data_is_no_setting() -> None:
    assert load_settings(env={"GANWATCH_DATA": "/data"}) == Settings.model_validate({})


def test_text_from_environment_and_flags_is_read_as_the_setting_s_type() -> None:
    env = {"GANWATCH_CREATE_TOPICS": "true", "GANWATCH_TARGET_ALERT_RATE": "1e-2", "GANWATCH_BROKER_GIVE_UP_S": "60"}
    settings = load_settings(env=env, flags={"alert_payload": "false", "http_port": "0"})
    assert (settings.create_topics, settings.target_alert_rate, settings.broker_give_up_s) == (True, 0.01, 60.0)
    assert (settings.alert_payload, settings.http_port) == (False, 0)


@pytest.mark.parametrize("source", ["file", "environment", "flag"])
def test_an_unknown_key_is_an_error_that_names_its_source(tmp_path: Path, source: str) -> None:
    path = toml(tmp_path, "max_row = 1\n" if source == "file" else "")
    env = {"GANWATCH_MAX_ROW": "1"} if source == "environment" else {}
    flags = {"max_row": 1} if source == "flag" else {}
    named = {"file": f"{path}: max_row", "environment": "GANWATCH_MAX_ROW", "flag": "command line: max_row"}[source]
    assert problems_of(config=path, env=env, flags=flags) == (f"unknown key 'max_row' (from {named})",)


def test_all_problems_of_all_sources_are_reported_at_once(tmp_path: Path) -> None:
    path = toml(tmp_path, 'max_rows = 0\nfeatures_topic = "no spaces"\nnonsense = 1\n')
    found = problems_of(
        config=path, env={"GANWATCH_START_FROM": "middle", "GANWATCH_NO_SUCH": "x"}, flags={"http_port": 70_000}
    )
    named = sorted(problem.rsplit("(from ")[1].rstrip(")") for problem in found)
    assert named == sorted(
        [f"{path}: max_rows", f"{path}: features_topic", f"{path}: nonsense", "GANWATCH_START_FROM", "GANWATCH_NO_SUCH",
         "command line: http_port"]
    )  # fmt: skip
    assert f"max_rows: Input should be greater than or equal to 1, got 0 (from {path}: max_rows)" in found


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_wait_s", "0"), ("max_wait_s", "nan"), ("session_timeout_s", "inf"), ("target_alert_rate", "0"), ("target_alert_rate", "1"),
     ("threshold", "100.1"), ("threshold", "nan"),
     ("threshold_method", "guess"), ("false_discovery_rate", "1"), ("max_invalid_ratio", "0"), ("http_port", "-1"), ("compression", "rar"),
     ("log_level", "loud"), ("attribution_top_k", "0"), ("features_topic", ""), ("model", "a/b"),
    ("features_topic", "a b"), ("alerts_topic", "x" * 250),
     ("kafka_api_version", "two"), ("create_topics", "perhaps"), ("group_id", ""), ("max_record_bytes", "10"),
     ("new_topic_replication", "-2")],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_with_the_setting_s_name(key: str, value: str) -> None:
    (problem,) = problems_of(flags={key: value})
    assert problem.startswith(f"{key}: ")
    assert problem.endswith(f"(from command line: {key})")


def test_a_target_below_one_in_a_million_which_no_score_tells_apart_is_refused() -> None:
    assert load_settings(None, env={}, flags={"target_alert_rate": "1e-6"}).target_alert_rate == 1e-6
    (problem,) = problems_of(flags={"target_alert_rate": "9e-7"})
    assert "target_alert_rate: Input should be greater than or equal to 0.000001, got '9e-7'" in problem


def test_topics_that_are_the_same_are_refused() -> None:
    (problem,) = problems_of(flags={"alerts_topic": "features"})
    assert (
        problem == "features_topic, alerts_topic, dead_letters_topic and model_events_topic must differ, "
        "got features, features, dead-letters (from command line: alerts_topic)"
    )


def test_an_incomplete_login_is_refused_with_what_it_lacks() -> None:
    (problem,) = problems_of(env={"GANWATCH_SECURITY_PROTOCOL": "SASL_SSL", "GANWATCH_SASL_USERNAME": "ann"})
    assert problem == "security_protocol SASL_SSL needs sasl_mechanism, sasl_password (from GANWATCH_SECURITY_PROTOCOL)"
    (problem,) = problems_of(env={"GANWATCH_SASL_MECHANISM": "PLAIN"})
    assert problem.startswith("sasl_mechanism is set, but security_protocol is PLAINTEXT")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"max_rows = ", "is not TOML: "), (b"\xff\xfe", "is not TOML: "), (b"a = 1\na = 2\n", "is not TOML: ")],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "x.toml", env={})
    assert caught.value.where == str(tmp_path / "x.toml")
    assert caught.value.problems[0].startswith(problem)


def test_a_missing_file_is_named_whoever_asked_for_it(tmp_path: Path) -> None:
    for config, env in ((tmp_path / "no.toml", {}), (None, {"GANWATCH_CONFIG": str(tmp_path / "no.toml")})):
        with pytest.raises(
            ConfigError, match=r"no\.toml: no such file; settings may also come from the environment and flags"
        ):
            load_settings(config, env=env)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_settings(tmp_path, env={})


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(env={}).max_rows = 1


@pytest.mark.parametrize("key", ["sasl_password", "ssl_password"])
def test_a_secret_is_shown_in_no_form_of_the_settings(key: str) -> None:
    settings = load_settings(env={}, flags=SASL | {key: SECRET})
    assert getattr(settings, key).get_secret_value() == SECRET
    for shown in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        str(settings.model_dump()),
        f"{settings!r:.9999}",
    ):
        assert SECRET not in shown


BAD_SECRETS: list[dict[str, object]] = [
    SASL | {"sasl_mechanism": None},
    SASL | {"security_protocol": "PLAINTEXT"},
    SASL | {"security_protocol": "TLS"},
    SASL | {"max_rows": "many"},
    SASL | {"alerts_topic": "features"},
    {"sasl_password": [SECRET]},
    {"sasl_password": {"is": SECRET}},
    {"ssl_password": 7, "sasl_password": SECRET, "sasl_mechanism": "PLAIN"},
    {"sasl_pasword": SECRET},
]


@pytest.mark.parametrize("given", BAD_SECRETS)
def test_a_secret_is_shown_in_no_error_message_log_line_or_traceback(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(env={}, flags=given)
    stream = StringIO()
    previous = logging.getLogger().handlers[:], logging.getLogger().level, logging.getLogger("kafka").level
    try:
        configure_logs("debug", "json", stream)
        logging.getLogger("test").error("settings_refused", extra={"error": str(caught.value)}, exc_info=caught.value)
    finally:
        logging.getLogger().handlers[:] = previous[0]
        logging.getLogger().setLevel(previous[1])
        logging.getLogger("kafka").setLevel(previous[2])
    logged = json.loads(stream.getvalue())
    assert "trace" in logged
    for shown in (
        str(caught.value),
        repr(caught.value),
        stream.getvalue(),
        "".join(traceback.format_exception(caught.value)),
    ):
        assert SECRET not in shown


@pytest.mark.parametrize("key", ["sasl_password", "ssl_password"])
def test_a_password_that_is_a_number_is_refused_without_being_shown(tmp_path: Path, key: str) -> None:
    (problem,) = problems_of(config=toml(tmp_path, f"{key} = 8675309\n"))
    assert problem == f"{key}: Input should be a valid string (from {tmp_path / 'ganwatch.toml'}: {key})"


def test_a_secret_from_the_environment_or_a_file_is_not_shown_either(tmp_path: Path) -> None:
    path = toml(tmp_path, f'sasl_password = "{SECRET}"\nsasl_mechanism = "PLAIN"\nmax_rows = "x"\n')
    for problem in (
        *problems_of(config=path),
        *problems_of(env={"GANWATCH_SASL_PASSWORD": SECRET, "GANWATCH_SASL_MECHANISM": "PLAIN"}),
        *problems_of(env={"GANWATCH_SSL_PASSWORDS": SECRET}),
    ):
        assert SECRET not in problem


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"threshold_method": "fixed"}, "threshold_method 'fixed' needs threshold"),
        (
            {"threshold_method": "pot", "threshold": "50"},
            "threshold is for threshold_method 'fixed', but that is 'pot'",
        ),
        ({"false_discovery_rate": "0.1", "threshold": "50"}, "false_discovery_rate decides by itself"),
        ({"false_discovery_rate": "0.1", "threshold_method": "pot"}, "false_discovery_rate decides by itself"),
    ],
)
def test_two_things_that_decide_are_refused(given: dict[str, str], problem: str) -> None:
    (found,) = problems_of(env={f"GANWATCH_{key.upper()}": value for key, value in given.items()})
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("in_file", "flags", "rule"),
    [
        ("threshold = 50", {"target_alert_rate": 0.01}, (0.01, None, None, None)),
        ('threshold = 50\nthreshold_method = "fixed"', {"target_alert_rate": 0.01}, (0.01, None, None, None)),
        ("false_discovery_rate = 0.1", {"target_alert_rate": 0.01}, (0.01, None, None, None)),
        ('threshold_method = "pot"', {"target_alert_rate": 0.01}, (0.01, None, None, "pot")),
        ('threshold_method = "pot"', {"threshold": 50}, (0.001, 50, None, None)),
        ("false_discovery_rate = 0.1", {"threshold": 50}, (0.001, 50, None, None)),
        ("threshold = 50", {"false_discovery_rate": 0.1}, (0.001, None, 0.1, None)),
        ("threshold = 50", {"threshold_method": "quantile"}, (0.001, None, None, "quantile")),
        ("false_discovery_rate = 0.1", {"threshold_method": "pot"}, (0.001, None, None, "pot")),
        (
            "threshold = 50",
            {"threshold_method": "fixed", "target_alert_rate": 0.01},
            (0.01, 50, None, "fixed"),
        ),
        ("threshold = 50\ntarget_alert_rate = 0.01", {}, (0.01, 50, None, None)),
    ],
)
def test_a_rule_that_is_given_later_takes_the_place_of_an_earlier_one(
    tmp_path: Path, in_file: str, flags: dict[str, object], rule: tuple[object, ...]
) -> None:
    (tmp_path / "c.toml").write_text(in_file)
    for env, given in (({}, flags), ({f"GANWATCH_{key.upper()}": str(value) for key, value in flags.items()}, {})):
        found = load_settings(tmp_path / "c.toml", env=env, flags=given)
        decided = (found.target_alert_rate, found.threshold, found.false_discovery_rate, found.threshold_method)
        assert decided == rule


@pytest.mark.parametrize("other", ["target_alert_rate", "false_discovery_rate"])
def test_two_rules_on_the_command_line_are_refused(other: str) -> None:
    with pytest.raises(ConfigError, match=f"{other} and threshold each say what is flagged; give one of them"):
        load_settings(env={}, flags={"threshold": 50, other: 0.01})


def test_rules_that_contradict_each_other_are_named_with_their_sources(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('threshold = 50\nthreshold_method = "pot"')
    with pytest.raises(
        ConfigError, match=r"leave one of them out \(from .*c\.toml: threshold, .*c\.toml: threshold_method\)"
    ):
        load_settings(tmp_path / "c.toml", env={})


def test_all_that_decides_can_be_changed_in_a_running_daemon() -> None:
    assert {"target_alert_rate", "threshold", "threshold_method", "false_discovery_rate"} <= set(RELOADABLE)


def test_every_reloadable_setting_exists_and_none_is_a_connection() -> None:
    assert set(RELOADABLE) <= set(Settings.model_fields)
    assert not any(
        word in name
        for name in RELOADABLE
        for word in ("topic", "bootstrap", "ssl", "sasl", "registry", "model", "group")
    )


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_survive_a_process_boundary() -> None:
    settings = load_settings(env={}, flags=SASL)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


def test_exactly_once_needs_a_name_that_a_restart_bears_again() -> None:
    (problem,) = problems_of(flags={"delivery": "exactly_once"})
    assert problem.startswith("delivery 'exactly_once' needs group_instance_id")
    settings = load_settings(env={}, flags={"delivery": "exactly_once", "group_instance_id": "replica-0"})
    assert settings.delivery == "exactly_once"
