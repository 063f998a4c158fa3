"""What profiles add to a ranker, beside every control:  lettingo uplift

Labels by one global time split, a certified training set of each service, one full ranking per test user.
"""

from __future__ import annotations

import click

from pipelines.console import home_option, json_option, open_home, show

SERVICES = {"statistical": "ranker_profile_v0", "language_model": "ranker_profile_v1"}
PROFILE_VIEWS = {
    "statistical": "user_profile_embedding_v0_minilm_l6_v2",
    "language_model": "user_profile_embedding_v1_minilm_l6_v2",
}
ITEM_VIEWS = ("item_behaviour_v1", "item_text_embedding_minilm_l6_v2")


def make_labels(home, split, config):
    """(TrainLabels, TestLabels) of the time split: they need interactions only, no feature."""
    from lettingo_features.evaluation.labels import test_labels, train_labels
    from lettingo_features.sql import connect

    interactions, connection = home.scan("interactions"), connect(home.spill)
    return (
        train_labels(connection, interactions, split, config),
        test_labels(connection, interactions, split, config),
    )


def labelled_users(labels, test):
    """Ids of every user that a training or test label asks about."""
    import pyarrow as pa

    return pa.chunked_array([*labels.rows["user_id"].chunks, *test.users["user_id"].chunks]).unique()


def run_uplift(home, store, split, labels, test, config):
    """Build both training sets and the test rows from the labels, then the table.

    Returns (UpliftReport, certificate of the language model's training set). The training sets stay in
    ``home/training_sets`` with their certificates.
    """
    from lettingo_features.data.ingest import latest_items_sql
    from lettingo_features.evaluation.splits import history
    from lettingo_features.evaluation.uplift import ProfileRows, UpliftInputs, uplift_table
    from lettingo_features.runs import run_record
    from lettingo_features.sql import connect
    from lettingo_features.training_set import join_views
    from pipelines.training_set import run_training_set

    connection = connect(home.spill)
    with run_record(home, "uplift", config.model_dump(mode="json")) as run:
        made = {
            arm: run_training_set(home, store, labels.rows, service, home.root / "training_sets" / f"{service}.parquet")
            for arm, service in SERVICES.items()
        }
        users = join_views(store, test.users, ["user_behaviour_v1"])
        profiles = {arm: join_views(store, test.users, [view]) for arm, view in PROFILE_VIEWS.items()}
        items = _with_categories(connection, latest_items_sql(home), join_views(store, test.items, ITEM_VIEWS))
        inputs = UpliftInputs(
            split=split,
            train=made["language_model"].table,
            test_users=users,
            items=items,
            history=history(connection, home.scan("interactions"), split.test_start),
            relevant=test.relevant,
            statistical=ProfileRows(made["statistical"].table, profiles["statistical"]),
            language_model=ProfileRows(made["language_model"].table, profiles["language_model"]),
            counts={**labels.counts, **test.counts},
        )
        report = uplift_table(inputs, config)
        run.record(report=report.to_dict())
    return report, made["language_model"].certificate


def _with_categories(connection, items_sql: str, items):
    """``items`` with the catalogue's ``categories`` beside them, in the same order."""
    import pyarrow as pa

    catalogue = connection.sql(f"SELECT item_id, categories FROM {items_sql}").to_arrow_table()
    categories = dict(zip(catalogue["item_id"].to_pylist(), catalogue["categories"].to_pylist(), strict=True))
    column = pa.array([categories.get(item) or [] for item in items["item_id"].to_pylist()], pa.list_(pa.string()))
    return items.append_column("categories", column)


@click.command()
@click.option("--max-queries", default=4_000, show_default=True, help="Training queries, by seeded sample.")
@click.option("--max-test-users", default=600, show_default=True, help="Test users, by seeded sample.")
@click.option("--seed", default=0, show_default=True)
@home_option
@json_option
def uplift(max_queries: int, max_test_users: int, seed: int, home_dir: str, as_json: bool) -> None:
    """Train the reference ranker with and without profiles and print the table, whichever way it comes out."""
    from lettingo_features.evaluation.splits import SplitConfig, time_split
    from lettingo_features.evaluation.uplift import UpliftConfig
    from lettingo_features.sql import connect
    from pipelines.store import open_store

    home = open_home(home_dir)
    config = SplitConfig(max_queries=max_queries, max_test_users=max_test_users, seed=seed)
    split = time_split(connect(home.spill), home.scan("interactions"), config)
    labels, test = make_labels(home, split, config)
    report, certificate = run_uplift(home, open_store(home), split, labels, test, UpliftConfig())
    facts = {"uplift": report.to_dict(), "certificate": certificate.model_dump()}
    show(as_json, facts, f"{report.to_text()}\n\n{certificate.to_text()}")
