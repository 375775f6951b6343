"""Every error that ganwatch raises on purpose; its type says what happens next.

    GanwatchError                 one clear line on stderr, then the exit code below
    ├── ConfigError               stop, exit 2: settings, schema or command line are wrong
    ├── TooManyInvalidRecords     stop, exit 3: the topic does not carry what the schema describes
    ├── BundleError               exit 4 at start; at a swap the old model stays in service
    ├── BrokerError               exit 5 at start; later: wait with back-off
    ├── SchemaRegistryError       (in monitor.encodings) exit 5 in commands; the daemon waits with back-off
    └── InvalidRecord             never stops anything: the record becomes a dead letter

An error names what was expected, what came, and where. Errors of other libraries are translated at the border where
they enter, with `raise ... from`.
"""

from __future__ import annotations

from collections.abc import Sequence


class GanwatchError(Exception):
    """Base of all errors of our own.

    Attributes:
        exit_code: what the process returns when the error ends it.
    """

    exit_code = 1


class ConfigError(GanwatchError):
    """Settings, schema, file or command line are wrong.

    Attributes:
        where: file, variable or flag the problem was found in.
        problems: one sentence each; all that were found, not only the first.
    """

    exit_code = 2

    def __init__(self, where: str, problems: str | Sequence[str]) -> None:
        self.where = where
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(f"{where}: {'; '.join(self.problems)}")


class TooManyInvalidRecords(GanwatchError):  # noqa: N818 - the name says what happened; "Error" would add nothing
    """More of the last records were invalid than `max_invalid_ratio` allows; nothing after the last commit is lost."""

    exit_code = 3

    def __init__(
        self, *, topic: str, invalid: int, window: int, max_invalid_ratio: float, example: InvalidRecord
    ) -> None:
        self.topic = topic
        self.invalid = invalid
        self.window = window
        self.max_invalid_ratio = max_invalid_ratio
        self.example = example
        super().__init__(
            f"topic {topic!r}: {invalid} of the last {window} records are invalid, more than max_invalid_ratio = "
            f"{max_invalid_ratio:g} allows; the last one: {example}. Compare features.toml with the records "
            f"(`ganwatch init --from {topic}`); the offsets of this batch were not committed"
        )


class BundleError(GanwatchError):
    """A model bundle is missing, damaged, or made for something else.

    Attributes:
        file: path of the offending file or folder.
    """

    exit_code = 4

    def __init__(self, file: object, problem: str, *, expected: object = None, found: object = None) -> None:
        self.file = str(file)
        self.problem = problem
        self.expected = expected
        self.found = found
        detail = "" if expected is None and found is None else f" (expected {expected}, found {found})"
        super().__init__(f"{self.file}: {problem}{detail}")


class BrokerError(GanwatchError):
    """Kafka cannot be reached, refuses us, or lacks a topic.

    Attributes:
        broker: the bootstrap servers as configured.
    """

    exit_code = 5

    def __init__(self, broker: str, problem: str) -> None:
        self.broker = broker
        self.problem = problem
        super().__init__(f"Kafka at {broker}: {problem}")


class InvalidRecord(GanwatchError):  # noqa: N818 - it describes a record, not a failure of ours
    """A record that cannot be scored; it is sent to the dead letters with this reason.

    Attributes:
        reason: one of `REASONS`, a small closed set that is used as a metric label.
        detail: a sentence for people; never contains more of the record than one value, shortened.
    """

    REASONS = (
        "empty", "not_utf8", "not_json", "not_one_object", "wrong_type", "missing_field", "too_large", "wrong_encoding",
        "unknown_schema",
    )  # fmt: skip

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")
