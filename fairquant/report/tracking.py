"""Where the MLflow UI shows the runs of a store."""

from __future__ import annotations

import logging

from fairquant.errors import UserError
from fairquant.files import absolute_database


def tracking_views(store: str, address: str) -> dict[str, str]:
    """Experiment -> the address of its runs with the columns that matter; none where the store cannot be read yet.

    The MLflow plugin keeps such a view in each of its experiments, under a tag that ends in ".fairquant". Raises UserError
    for a file that is no database.
    """
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        experiments = MlflowClient(absolute_database(store)).search_experiments()
    except MlflowException:
        return {}
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise UserError(
            f"{store}: cannot be opened as a tracking store: {reason}. Name another store with --store, or move what is there"
        ) from error
    return {
        each.name: f"{address}/#/experiments/{each.experiment_id}/runs?viewStateShareKey=fairquant"
        for each in experiments
        if any(key.endswith(".fairquant") for key in each.tags)
    }
