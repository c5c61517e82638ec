"""Where the MLflow UI shows the runs of a store."""

from __future__ import annotations

import logging

from fairquant.files import absolute_database


def tracking_views(store: str, address: str) -> dict[str, str]:
    """Experiment -> the address of its runs with the columns that matter; none where the store cannot be read yet.

    The MLflow plugin keeps such a view in each of its experiments, under a tag that ends in ".fairquant".
    """
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        experiments = MlflowClient(absolute_database(store)).search_experiments()
    except MlflowException:
        return {}
    return {
        each.name: f"{address}/#/experiments/{each.experiment_id}/runs?viewStateShareKey=fairquant"
        for each in experiments
        if any(key.endswith(".fairquant") for key in each.tags)
    }
