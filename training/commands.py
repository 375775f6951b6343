"""The commands that `training` adds to `ganwatch`. Light to import: each command imports what it needs when it runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.catalogue.command import SigningKeyOption
from monitor.command_options import (
    BrokersOption,
    ConfigOption,
    ModelOption,
    RateOption,
    RegistryOption,
    SchemaOption,
    ThresholdOption,
)
from monitor.native_output import native_stderr_held

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.settings import Settings
    from training.history import History
    from training.train import TrainedModel

AnomalyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--anomaly", help="Label that means anomaly; may be repeated.", show_default="all but 0, false, normal, …"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def train(
    data: Annotated[
        str, typer.Option(metavar="FILE|TOPIC[@FROM..TO]", help="Rows to learn from; times as ISO 8601 with zone.")
    ],
    schema: SchemaOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    detector: Annotated[
        str, typer.Option(help="One of alocc, anogan, autoencoder, efficient_gan, ganomaly, vae.")
    ] = "efficient_gan",
    preset: Annotated[
        str, typer.Option(help="`default`: stable and measured; `paper`: as published, where a paper says how.")
    ] = "default",
    label: Annotated[
        str | None,
        typer.Option(
            help="Column that tells anomalies; they are kept out of training and guide early stopping.",
            show_default=False,
        ),
    ] = None,
    anomaly: AnomalyOption = None,
    latent_dim: Annotated[
        int | None, typer.Option(help="Length of the latent code.", show_default="by the preset")
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(help="Share of the reconstruction in the score (alpha).", show_default="by the detector"),
    ] = None,
    degree: Annotated[int | None, typer.Option(help="Norm of the residuals.", show_default="1")] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            help="Second term: cross_entropy, cross_entropy_reconstruction or feature_matching.",
            show_default="by the preset",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows.", show_default=False)] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps, instead of epochs.", show_default="by the rows")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows of a batch; a step takes two.", show_default="by the preset")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of encoder and generator.", show_default="by the preset")
    ] = None,
    early_stop_num: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many evaluations without improvement.", show_default="10 with labels, else never"
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Any other option of the detector; `ganwatch detectors NAME` lists them. May be repeated.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    max_rows: Annotated[int, typer.Option(help="The last so many rows are used.", min=20)] = 1_000_000,
    signing_key: SigningKeyOption = None,
    config: ConfigOption = None,
    bootstrap_servers: BrokersOption = None,
    json_output: JsonOption = False,
) -> None:
    """Train a model on normal rows and make it the champion.

    Rows come from a file or from a topic. The newest 30 % (or a random 30 % where no time is known) are kept out of training
    and calibrate the scores.
    """
    from monitor.champion import open_registry
    from monitor.errors import ConfigError
    from monitor.model.decision import explain_no_flags
    from monitor.model.schema import Schema
    from monitor.settings import load_settings
    from monitor.terminal import new_console, print_json
    from training.history import read_history
    from training.progress import TrainingProgress

    console = new_console(stderr=json_output)
    flags = {"schema_path": schema, "registry": registry, "model": model, "bootstrap_servers": bootstrap_servers}
    settings = load_settings(config, flags=flags | {"signing_key": signing_key})
    given = {
        "latent_dim": latent_dim,
        "weight": weight,
        "degree": degree,
        "loss": loss,
        "epochs": epochs,
        "steps": steps,
    }
    given |= {"batch_size": batch_size, "learning_rate": learning_rate, "early_stop_num": early_stop_num}
    named = {key: value for key, value in given.items() if value is not None}
    others = _parse_options(option)
    twice = sorted(named.keys() & others.keys())
    if twice:
        raise ConfigError("--option", f"{', '.join(twice)}: given as a flag of its own, too; leave one out")
    features = Schema.load(settings.schema_path)
    held = open_registry(settings, to_publish=True)
    held.expect_to_publish()
    history = read_history(data, features, settings, label=label, anomaly=anomaly or (), max_rows=max_rows)
    if history.unmatched:
        _name_unmatched_labels(console, history, data, label, max_rows)
    console.print(f"{history.frame.height} rows from {history.source}")
    with console.status("loading TensorFlow"), native_stderr_held():
        from training.report.page import report_training
        from training.train import TrainingPlan, find_devices, train_model

        find_devices()
    plan = TrainingPlan(
        detector,
        preset,
        named | others,
        seed,
    )
    with TrainingProgress(console) as progress:
        trained = train_model(
            history,
            features,
            held,
            plan,
            model=settings.model,
            on_progress=progress.update,
            report=lambda bundle, split: report_training(held, bundle, history, split, settings),
        )
    report = held.report_url(trained.manifest.model, trained.version)
    silence = explain_no_flags(settings, trained.bundle.calibration)
    if json_output:
        print_json(_as_json(trained) | {"nothing_flagged_because": silence, "report": report})
    _print_summary(console, trained, settings, report)


def _name_unmatched_labels(console: Console, history: History, data: str, label: str | None, max_rows: int) -> None:
    """Labels that were mistyped, perhaps; when they are all that there are, nothing would be an anomaly."""
    from monitor.errors import ConfigError
    from training.labels import list_labels, read_labels

    found = list_labels(read_labels(Path(data), label or "").tail(max_rows))
    sentence = f"no row is labelled {', '.join(map(repr, history.unmatched))}; the labels are {found}"
    if history.labels is None or not history.labels.any():
        raise ConfigError("--anomaly", sentence)
    console.print(f"--anomaly: {sentence}")


def _parse_options(assignments: list[str] | None) -> dict[str, Any]:
    """`KEY=VALUE` with the value read as JSON where it is JSON, else as text."""
    import msgspec

    from monitor.command_options import parse_assignments

    options: dict[str, Any] = {}
    for key, text in parse_assignments(assignments, "--option").items():
        try:
            options[key] = msgspec.json.decode(str(text))
        except msgspec.DecodeError:
            options[key] = text
    return options


def _as_json(trained: TrainedModel) -> dict[str, Any]:
    data = trained.manifest.data
    return {
        "model": trained.manifest.model,
        "version": trained.version,
        "data": data,
        "metrics": trained.manifest.metrics,
        "configuration": trained.manifest.configuration,
        "ignored_columns": list(trained.ignored),
        "absent_fields": list(trained.absent),
        "constant_features": data["constant_features"],
        "missing_features": data["missing_features"],
        "extreme_features": data["extreme_features"],
        "rows_per_day": trained.rows_per_day,
    }


def _print_summary(console: Console, trained: TrainedModel, settings: Settings, report: str) -> None:
    """What a person wants to know after a training."""
    data, metrics = trained.manifest.data, trained.manifest.metrics
    console.print(f"model      {trained.manifest.model} {trained.version}, champion of {settings.registry}")
    console.print(
        f"rows       {data['train_rows']} to train, {data['calibration_rows']} to calibrate (split {data['split']})"
        + (f", {data['validation_rows']} to validate" if data["validation_rows"] else "")
    )
    if data["labelled_anomalies"] is not None:
        left_out = (
            ", and are not learned from" if data["labelled_anomalies"] else ": --anomaly says which labels mean one"
        )
        console.print(f"labels     {data['labelled_anomalies']} of {data['rows']} rows are anomalies{left_out}")
    if data["invalid_records"]:
        console.print(f"invalid    {data['invalid_records']} (left out)")
    if trained.ignored:
        console.print(f"ignored    columns the schema does not name: {', '.join(trained.ignored)}")
    if trained.absent:
        console.print(f"absent     {', '.join(trained.absent)}: named in features.toml beside the features, in no row")
    _print_odd_features(console, data)
    console.print(
        f"training   {metrics['steps']} steps in {metrics['train_seconds']} s, kept step {metrics['best_step']}"
    )
    if metrics["restarts"]:
        console.print(f"restarts   {len(metrics['restarts'])}: {'; '.join(metrics['restarts'])}")
    if metrics["collapse"]:
        console.print(f"collapse   of the last attempt, too: {metrics['collapse']}")
    if metrics["trimmed_rows"]:
        console.print(
            f"trimmed    {metrics['trimmed_rows']} training rows with the sparsest surroundings were left out"
        )
    if metrics["calibration_tail"] is None:
        console.print(
            "tail       too few or too extreme held-out scores for a fitted tail; p-values end at 1 / (calibration rows + 1)"
        )
    console.print(f"alerts     {_describe_alerts(trained, settings)}")
    console.print(f"report     {report}", soft_wrap=True)
    console.print(f"next       {_next_command(settings)}", soft_wrap=True)


def _next_command(settings: Settings) -> str:
    """How to run the monitor with what was trained."""
    named = {"--schema": "schema_path", "--registry": "registry", "--model": "model"}
    given = {
        flag: getattr(settings, key)
        for flag, key in named.items()
        if flag == "--registry" or key in settings.model_fields_set
    }
    return " ".join(["ganwatch run", *(f"{flag} {shlex.quote(value)}" for flag, value in given.items() if value)])


def _print_odd_features(console: Console, data: dict[str, Any]) -> None:
    if data["missing_features"]:
        missing = ", ".join(data["missing_features"])
        console.print(
            f"missing    {missing}: in every row; take it out of features.toml, or train on rows that have it"
        )
    if data["constant_features"]:
        console.print(
            f"constant   {', '.join(data['constant_features'])}: one value only; any other one will stand out"
        )
    if data["extreme_features"]:
        extreme = ", ".join(f"{name} ({value:g})" for name, value in data["extreme_features"].items())
        console.print(
            f"extreme    {extreme}: out of all proportion to the other rows, and not counted by the scaling; if it stands for a "
            "missing value, leave the field out of such rows"
        )


def _describe_alerts(trained: TrainedModel, settings: Settings) -> str:
    """How many are to be expected on normal data, or why there will be none."""
    from monitor.model.decision import expected_alert_rate, explain_no_flags, raw_cut

    calibration = trained.bundle.calibration
    silence = explain_no_flags(settings, calibration)
    if silence is not None:
        return f"none: {silence}"
    if settings.false_discovery_rate is not None:
        return f"at most a share of {settings.false_discovery_rate:g} of those of a micro-batch expected to be false"
    per = f"{trained.rows_per_day:,.0f} records a day" if trained.rows_per_day else "a million records"
    rate, cut = expected_alert_rate(settings), raw_cut(settings, calibration)
    if cut is not None and cut <= calibration.scores[-1]:  # the highest of n rows is reached by one in n + 1
        rate = max(rate, 1 / (len(calibration.scores) + 1))
    expected = rate * (trained.rows_per_day or 1e6)
    decided_by = (
        f"target_alert_rate = {settings.target_alert_rate:g}"
        if settings.threshold is None
        else f"threshold = {settings.threshold:g}"
    )
    return f"{expected:,.1f} expected on {per} of normal data at {decided_by}"


def detectors(
    name: Annotated[str | None, typer.Argument(help="List the options of this one.", show_default=False)] = None,
    preset: Annotated[str, typer.Option(help="Whose values are shown as defaults.")] = "default",
) -> None:
    """List the detectors, or the options of one with default and meaning."""
    with native_stderr_held():
        from training.detectors import DETECTORS, find_detector

    if name is None:
        for known, detector in sorted(DETECTORS.items()):
            presets = ", ".join(detector.options_type.presets)
            summary = (sys.modules[detector.__module__].__doc__ or "").partition("\n")[0]
            typer.echo(f"{known:<16} {summary} Presets: {presets}.")
        return
    options = find_detector(name).options_type.preset(preset)
    for key, info in type(options).model_fields.items():
        value = getattr(options, key)
        shown = "none" if value is None else str(list(value) if isinstance(value, tuple) else value)
        typer.echo(f"{key:<28} {shown:<16} {info.description}")


def evaluate(
    file: Annotated[Path, typer.Argument(help="Labelled CSV, Parquet or JSON-lines file.")],
    label: Annotated[str, typer.Option(help="Column that tells anomalies.")],
    anomaly: AnomalyOption = None,
    config: ConfigOption = None,
    schema: SchemaOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    target_alert_rate: RateOption = None,
    threshold: ThresholdOption = None,
    json_output: JsonOption = False,
) -> None:
    """Measure the deployed model on labelled rows, with the daemon's own scoring code."""
    from monitor.settings import load_settings
    from monitor.terminal import new_console, print_json
    from training.evaluate import evaluate_file

    flags = {
        "schema_path": schema,
        "registry": registry,
        "model": model,
        "target_alert_rate": target_alert_rate,
        "threshold": threshold,
    }
    result = evaluate_file(file, label, load_settings(config, flags=flags), anomaly=anomaly or ())
    if json_output:
        print_json(result.as_dict())
        return
    console = new_console()
    for name, value in result.as_dict().items():
        if name == "nothing_flagged_because" and value is None:
            continue
        console.print(f"{name:<22} {value:.4f}" if isinstance(value, float) else f"{name:<22} {value}")


def simulate(
    config: ConfigOption = None,
    bootstrap_servers: BrokersOption = None,
    topic: Annotated[str | None, typer.Option(help="Where to publish.", show_default="features")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Records a second.", min=0.01, show_default="as fast as possible")
    ] = None,
    records: Annotated[int | None, typer.Option(help="How many.", min=1, show_default="until interrupted")] = None,
    anomaly_share: Annotated[float, typer.Option(help="Share of planted frauds.", min=0.0, max=0.5)] = 0.01,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    create_topics: Annotated[
        bool | None, typer.Option("--create-topics", help="Create the topic.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a .csv or .jsonl file instead.", show_default=False)] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Add the truth to the file under this name.", show_default=False)
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Write the truth to a CSV file of its own.", show_default=False)
    ] = None,
    schema_out: Annotated[
        Path | None, typer.Option(help="Write the stream's features.toml there.", show_default=False)
    ] = None,
) -> None:
    """Publish a simulated stream of card payments with four kinds of planted fraud, or write it to a file."""
    from monitor.settings import load_settings
    from monitor.terminal import new_console
    from training.payment_stream import SimulationConfig
    from training.simulate import SimulateOptions, run_simulate

    flags = {"bootstrap_servers": bootstrap_servers, "features_topic": topic, "create_topics": create_topics}
    options = SimulateOptions(
        settings=load_settings(config, flags=flags),
        simulation=SimulationConfig(seed=seed, anomaly_share=anomaly_share),
        records=records,
        rate=rate,
        output=out,
        label_column=label_column,
        labels=labels,
        schema=schema_out,
    )
    run_simulate(options, new_console(stderr=True))


def demo(
    workdir: Annotated[Path, typer.Option(help="Where data, model, settings, alerts and metrics go.")] = Path(
        "ganwatch-demo"
    ),
    data: Annotated[
        Path | None,
        typer.Option(help="Stream your own labelled file instead of simulated payments.", show_default=False),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Its column that tells anomalies.", show_default=False)] = None,
    dataset: Annotated[
        str | None, typer.Option(help="`kddcup99`: fetch that set with scikit-learn.", show_default=False)
    ] = None,
    records: Annotated[int, typer.Option(help="How many records to stream at most.", min=100)] = 30_000,
    rate: Annotated[float, typer.Option(help="Records a second.", min=1)] = 1500.0,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
    json_output: JsonOption = False,
) -> None:
    """See all of it in two minutes: train, then watch a live stream. No Kafka, no Java, no Docker needed.

    An in-process test broker stands in for Kafka; the daemon is the real one.
    """
    from monitor.terminal import new_console, print_json

    with native_stderr_held():
        from training.demo import DemoOptions, run_demo

    options = DemoOptions(
        workdir=workdir, records=records, rate=rate, seed=seed, data=data, label=label, dataset=dataset
    )
    summary = run_demo(options, new_console(stderr=json_output))
    if json_output:
        print_json(summary.as_dict())
    raise typer.Exit(summary.exit_code)
