"""Settings of the daemon: one typed object from a TOML file, `GANWATCH_…` variables and flags, in rising priority."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from monitor.documents import NAME, describe_problem, read_toml
from monitor.errors import ConfigError

ENV_PREFIX = "GANWATCH_"
# Variables of this prefix that belong to others: tests and benchmarks find their data sets through GANWATCH_DATA.
_NOT_SETTINGS = frozenset({"GANWATCH_DATA", "GANWATCH_CONFIG"})
_SECRETS = frozenset(
    {"sasl_password", "ssl_password", "sasl_token_command", "schema_registry_password", "schema_registry_token"}
)
# What SIGHUP may change in a running daemon: decisions, never connections or the model.
RELOADABLE = (
    "target_alert_rate", "threshold", "threshold_method", "false_discovery_rate",
    "attribution_top_k", "alert_payload", "max_invalid_ratio", "log_level",
)  # fmt: skip

# Each says by itself which records are flagged.
_RULES = frozenset({"target_alert_rate", "threshold", "false_discovery_rate"})

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


def _split_at_commas(value: object) -> object:
    """A list as environment and flags write it."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Settings(BaseModel):
    """All settings, with their defaults. Durations are seconds, sizes are bytes or rows."""

    # A traceback that shows a ValidationError must not show a password.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # Kafka
    bootstrap_servers: str = Field("localhost:9092", description="host:port of one or more brokers, comma-separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to the brokers"
    )
    ssl_cafile: str | None = Field(None, description="PEM file of the authority that signed the brokers' certificates")
    ssl_certfile: str | None = Field(None, description="PEM file of the client certificate")
    ssl_keyfile: str | None = Field(None, description="PEM file of the client key")
    ssl_password: SecretStr | None = Field(None, description="password of the client key")
    ssl_check_hostname: bool = Field(True, description="the certificate must name the host")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="with SASL_PLAINTEXT or SASL_SSL"
    )
    sasl_username: str | None = Field(None, description="SASL user")
    sasl_password: SecretStr | None = Field(None, description="SASL password; best given as GANWATCH_SASL_PASSWORD")
    sasl_token_command: SecretStr | None = Field(
        None, description="with OAUTHBEARER: a command that prints a token; run without a shell, again when it expires"
    )
    kafka_api_version: str | None = Field(
        None, pattern=r"^\d+\.\d+(\.\d+)?$", description="protocol version; asked from the broker by default"
    )
    group_id: str = Field("ganwatch", min_length=1, description="consumer group; replicas of one monitor share it")
    group_instance_id: str | None = Field(
        None, description="static member name, stable over restarts, unique per replica"
    )
    rebalance_protocol: Literal["cooperative", "eager"] = Field(
        "cooperative",
        description="eager: all replicas give up all partitions at each change; only for a group with members that "
        "know no other way",
    )
    session_timeout_s: Seconds = Field(
        45.0, description="the group gives a silent replica's partitions away after this"
    )
    max_poll_interval_s: Seconds = Field(300.0, description="the same for a replica that no longer polls")
    fetch_max_wait_s: Seconds = Field(
        0.5, description="how long a broker may hold a fetch while there is nothing to send"
    )
    fetch_max_bytes: int = Field(8 * 2**20, ge=1024, description="the most one fetch answer may hold")
    broker_timeout_s: Seconds = Field(
        10.0, description="at start: the longest wait for a broker; always: for sasl_token_command"
    )
    broker_give_up_s: Seconds | None = Field(
        None, description="later: end with exit code 5 after waiting this long; never by default"
    )

    # Topics
    features_topic: Topic = Field("features", description="records to score, as the schema says they are encoded")
    alerts_topic: Topic = Field("alerts", description="where alerts go")
    dead_letters_topic: Topic = Field("dead-letters", description="where records go that cannot be scored")
    create_topics: bool = Field(False, description="create missing topics at start")
    new_topic_partitions: int = Field(1, ge=1, description="partitions of a topic created by create_topics")
    new_topic_replication: int = Field(-1, ge=-1, description="its replication factor; -1 takes the broker's default")
    start_from: Literal["earliest", "latest"] = Field("earliest", description="where a group without offsets begins")
    on_offset_lost: Literal["earliest", "latest", "fail"] = Field(
        "earliest", description="when the committed offset no longer exists"
    )
    on_unreadable_batch: Literal["fail", "skip"] = Field(
        "fail", description="when a record batch is corrupt, or compressed in a way for which no library is installed"
    )
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field("lz4", description="of alerts and dead letters")
    delivery: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once",
        description="exactly_once: alerts, dead letters and offsets of a micro-batch in one transaction; "
        "needs group_instance_id",
    )

    # Schema registry, where features.toml says that records are Avro or Protobuf
    schema_registry_url: str | None = Field(
        None, pattern=r"^https?://[^\s@?#]+$", description="base address of the schema registry, without a login"
    )
    schema_registry_username: str | None = Field(None, description="its user")
    schema_registry_password: SecretStr | None = Field(None, description="the user's password")
    schema_registry_token: SecretStr | None = Field(None, description="bearer token, instead of user and password")
    schema_registry_cafile: str | None = Field(
        None, description="PEM file of the authority that signed its certificate"
    )
    schema_registry_timeout_s: Seconds = Field(5.0, description="the longest wait for one of its answers")

    # Micro-batches
    max_rows: int = Field(8192, ge=1, le=1_000_000, description="a micro-batch is closed at this many records")
    max_wait_s: Seconds = Field(0.02, description="or this long after its first record")
    queue_batches: int = Field(2, ge=1, le=64, description="closed micro-batches that may wait for their turn")
    judge_threads: int = Field(
        2,
        ge=1,
        le=64,
        description="micro-batches that are decoded and scored at a time; best as many as there are cores",
    )

    # Model
    schema_path: str = Field("features.toml", description="the feature schema")
    registry: str = Field("registry", description="folder or fsspec URL that holds the models")
    model: str | None = Field(None, pattern=NAME, description="name of the model; the schema's name by default")
    model_version: str | None = Field(None, description="pin one version; the champion by default")
    trusted_keys: Annotated[tuple[str, ...], BeforeValidator(_split_at_commas)] = Field(
        (), description="public keys (PEM files or base64) whose signed models alone are used; all by default"
    )
    signing_key: str | None = Field(None, description="PEM file of the private key that signs new models")

    registry_poll_s: Seconds = Field(10.0, description="how often the registry is asked for a newly promoted model")
    guard_records: int = Field(
        2000,
        ge=0,
        le=1_000_000,
        description="records on which a new champion is watched beside its predecessor, which takes over again when the new "
        "one is bad; 0 trusts it at once",
    )
    model_events_topic: Topic | None = Field(
        None, description="where swaps, rollbacks and drift are announced; nowhere by default, only logged and counted"
    )

    # Archive
    archive: str | None = Field(
        None, description="folder or fsspec URL for a sample of the scored records, to retrain on; none by default"
    )
    archive_stratum_rows: int = Field(5000, ge=1, description="sampled records a file")
    archive_stratum_flagged: int = Field(1000, ge=1, description="flagged records kept beside them")
    archive_stratum_records: int = Field(1_000_000, ge=1, description="a file is closed after this many records")
    archive_stratum_s: Seconds = Field(3600.0, description="or this long after its first one")
    archive_strata: int = Field(40, ge=1, description="files kept; older ones are thinned out evenly")
    archive_retention_s: Seconds = Field(365 * 86_400.0, description="older ones go in any case")

    # Decision
    # The score ends at 100, which is one in a million: rarer records are not told apart by it.
    target_alert_rate: float = Field(
        0.001, ge=1e-6, lt=1, description="expected share of normal records that are flagged, at least 1e-6"
    )
    threshold: float | None = Field(
        None, ge=0, le=100, description="cut on the 0-100 score; replaces target_alert_rate"
    )
    threshold_method: Literal["fixed", "quantile", "conformal", "pot"] | None = Field(
        None,
        description="what meets target_alert_rate: p-values (conformal, the default), the calibration rows' quantile, or the "
        "tail fitted to them (pot); fixed is threshold",
    )
    false_discovery_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="instead: expected share of false alerts among those of a micro-batch (Benjamini-Hochberg); what is flagged "
        "then depends on the micro-batch",
    )
    attribution_top_k: int = Field(5, ge=1, le=100, description="features named in an alert")
    alert_payload: bool = Field(True, description="alerts carry the record itself")

    # Bad input
    max_invalid_ratio: float = Field(
        0.2, gt=0, le=1, description="stop with exit code 3 above this share of invalid records"
    )
    invalid_window_rows: int = Field(1000, ge=10, le=10_000_000, description="the last records it is measured on")
    max_record_bytes: int = Field(4 * 2**20, ge=64, description="a larger record is a dead letter")

    # HTTP and logs
    http_host: str = Field("127.0.0.1", description="address of /metrics, /healthz and /readyz")
    http_port: int = Field(9464, ge=0, le=65535, description="its port; 0 takes a free one")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severity that is logged")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: text on a terminal, JSON lines elsewhere"
    )
    shutdown_timeout_s: Seconds = Field(8.0, description="on SIGTERM: the longest wait for what is in flight")
    stuck_exit_s: Seconds = Field(
        120.0,
        description="end with exit code 6 when the loop has not turned for so long; waiting for a broker is turning",
    )

    @model_validator(mode="after")
    def _sasl_is_complete(self) -> Self:
        if self.security_protocol.startswith("SASL"):
            login = ("sasl_username", "sasl_password")
            needed = ("sasl_token_command",) if self.sasl_mechanism == "OAUTHBEARER" else login
            absent = [name for name in ("sasl_mechanism", *needed) if getattr(self, name) is None]
            if absent:
                raise ValueError(f"security_protocol {self.security_protocol} needs {', '.join(absent)}")
        elif self.sasl_mechanism is not None:
            raise ValueError(
                f"sasl_mechanism is set, but security_protocol is {self.security_protocol}; use SASL_SSL or SASL_PLAINTEXT"
            )
        return self

    @field_validator("sasl_token_command")
    @classmethod
    def _command_can_be_split(cls, command: SecretStr | None) -> SecretStr | None:
        # Quotes that do not match are a ValueError, too.
        if command is not None and not shlex.split(command.get_secret_value()):
            raise ValueError("expects a command, got none")
        return command

    @model_validator(mode="after")
    def _one_login_to_the_schema_registry(self) -> Self:
        if (self.schema_registry_username is None) != (self.schema_registry_password is None):
            raise ValueError("schema_registry_username and schema_registry_password belong together")
        if self.schema_registry_token is not None and self.schema_registry_username is not None:
            raise ValueError("schema_registry_token stands in for user and password; set only one of them")
        return self

    @model_validator(mode="after")
    def _transactions_are_named(self) -> Self:
        if self.delivery == "exactly_once" and self.group_instance_id is None:
            raise ValueError(
                "delivery 'exactly_once' needs group_instance_id, unique per replica and the same after a restart: "
                "it names the replica's transactions, and a restart ends those that were left open"
            )
        return self

    @model_validator(mode="after")
    def _one_thing_decides(self) -> Self:
        if self.threshold_method == "fixed" and self.threshold is None:
            raise ValueError("threshold_method 'fixed' needs threshold")
        if self.threshold is not None and self.threshold_method not in (None, "fixed"):
            raise ValueError(
                f"threshold is for threshold_method 'fixed', but that is {self.threshold_method!r}; leave one of them out"
            )
        if self.false_discovery_rate is not None and (self.threshold_method, self.threshold) != (None, None):
            raise ValueError("false_discovery_rate decides by itself; leave threshold and threshold_method out")
        return self

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        topics = [self.features_topic, self.alerts_topic, self.dead_letters_topic]
        topics += [self.model_events_topic] if self.model_events_topic else []
        if len(set(topics)) < len(topics):
            raise ValueError(
                "features_topic, alerts_topic, dead_letters_topic and model_events_topic must differ, "
                f"got {', '.join(topics)}"
            )
        return self

    @property
    def topic_rights(self) -> dict[str, str]:
        """The daemon's topics and what it must be allowed on each: "READ" or "WRITE"."""
        written = [self.alerts_topic, self.dead_letters_topic, *filter(None, [self.model_events_topic])]
        return {self.features_topic: "READ"} | dict.fromkeys(written, "WRITE")


def load_settings(
    config: str | Path | None = None, env: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> Settings:
    """Merges file, environment and flags (the last one wins) and validates the result.

    Of the rules that flag records (`threshold`, `false_discovery_rate`, `target_alert_rate` alone) the last one wins, too.

    Args:
        config: TOML file; when None, `GANWATCH_CONFIG` names it, and without that there is none.
        env: the environment; `os.environ` when None.
        flags: settings given on the command line; None values are absent ones.

    Raises:
        ConfigError: with every problem in every source: unknown keys, wrong types, values that contradict each other.
    """
    environ = os.environ if env is None else env
    config = config or environ.get("GANWATCH_CONFIG")
    in_file = read_toml(config, fix="settings may also come from the environment and flags") if config else {}
    variables = {
        name.removeprefix(ENV_PREFIX).lower(): text
        for name, text in environ.items()
        if name.startswith(ENV_PREFIX) and name not in _NOT_SETTINGS
    }
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    if len(rules := sorted(_RULES & given.keys())) > 1:
        raise ConfigError("command line", f"{' and '.join(rules)} each say what is flagged; give one of them")
    merged: dict[str, object] = {}
    origin: dict[str, str] = {}
    sources: tuple[tuple[Mapping[str, object], dict[str, str]], ...] = (
        (in_file, {key: f"{config}: {key}" for key in in_file}),
        (variables, {key: f"{ENV_PREFIX}{key.upper()}" for key in variables}),
        (given, {key: f"command line: {key}" for key in given}),
    )
    for source, origins in sources:
        merged = _without_overruled(merged, source) | dict(source)
        origin |= origins
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        problems = [
            _name_origin(describe_problem(_without_secret(problem)), problem, origin) for problem in error.errors()
        ]
        raise ConfigError("settings", problems) from error


def _without_overruled(merged: dict[str, object], source: Mapping[str, object]) -> dict[str, object]:
    """What earlier sources gave, without another rule of flagging than the one that a later source gives."""
    if source.get("threshold_method") == "fixed":  # whose threshold an earlier source may give
        overruled = {"false_discovery_rate"}
    elif (_RULES | {"threshold_method"}) & source.keys():
        overruled = {"threshold", "false_discovery_rate"}
    else:
        return merged
    if merged.get("threshold_method") == "fixed" or {"threshold", "false_discovery_rate"} & source.keys():
        overruled.add("threshold_method")
    return {key: value for key, value in merged.items() if key not in overruled}


def _without_secret(problem: object) -> dict[str, object]:
    entry: dict[str, Any] = dict(problem)  # type: ignore[call-overload]
    if entry["loc"] and entry["loc"][0] in _SECRETS:
        entry["input"] = None
    return entry


def _name_origin(sentence: str, problem: object, origin: Mapping[str, str]) -> str:
    """Says which file, variable or flag a complaint is about."""
    loc = dict(problem)["loc"]  # type: ignore[call-overload]
    named = [str(loc[0])] if loc else [word for word in re.findall(r"\w+", sentence) if word in origin]
    sources = ", ".join(dict.fromkeys(origin[key] for key in named if key in origin))
    return f"{sentence} (from {sources})" if sources else sentence
