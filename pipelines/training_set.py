"""A certified training set:  lettingo training-set --labels FILE --service ranker_profile_v1 --out FILE"""

from __future__ import annotations

import click

from pipelines.console import home_option, json_option, open_home, show


def run_training_set(home, store, labels, service: str, out):
    """Join ``service`` to ``labels``, certify, write ``out`` and the certificate beside it; return the TrainingSet."""
    from lettingo_features.runs import run_record
    from lettingo_features.training_set import build_training_set

    with run_record(home, "training-set", {"service": service, "out": str(out)}) as run:
        made = build_training_set(store, labels, service)
        path = made.write(out)
        run.record(certificate=made.certificate.model_dump(), certificate_path=str(path))
    return made


@click.command("training-set")
@click.option("--labels", required=True, type=click.Path(), help="Parquet or CSV: entity keys, event_timestamp, label.")
@click.option("--service", required=True, help="FeatureService, such as ranker_profile_v1.")
@click.option("--out", required=True, type=click.Path(), help="Parquet file to write; the certificate goes beside it.")
@home_option
@json_option
def training_set(labels: str, service: str, out: str, home_dir: str, as_json: bool) -> None:
    """Join features to labels as of each label, check every row for leakage, and write a certificate."""
    from lettingo_features.feast_registry import check_registry
    from lettingo_features.training_set import read_labels
    from pipelines.store import REPO, open_store

    home = open_home(home_dir)
    store = open_store(home)
    check_registry(store, REPO)
    made = run_training_set(home, store, read_labels(labels), service, out)
    show(as_json, made.certificate.model_dump(), f"{made.certificate.to_text()}\n{out}: {made.table.num_rows:,} rows")
