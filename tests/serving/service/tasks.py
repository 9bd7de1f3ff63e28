"""A Celery application whose broker and results are folders."""

import os

from celery import Celery

folder = os.environ["CELERY_FOLDER"]
app = Celery("tasks", broker="filesystem://", backend=f"file://{folder}/results")
app.conf.update(
    broker_transport_options={
        "data_folder_in": f"{folder}/queue",
        "data_folder_out": f"{folder}/queue",
        "control_folder": f"{folder}/control",
    },
    worker_prefetch_multiplier=1,
)


@app.task
def predict():
    from model import predict as run

    run()
    return os.getpid()
