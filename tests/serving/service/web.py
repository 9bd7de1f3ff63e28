"""A FastAPI service: what is posted is read, and answered with a prediction."""

import os

from fastapi import FastAPI, Request
from model import predict

app = FastAPI()


@app.get("/")
async def up() -> int:
    predict()
    return os.getpid()


@app.post("/upload/{name}")
async def upload(name: str, request: Request) -> int:
    await request.body()
    predict()
    return 1


@app.post("/ask/{name}")
async def ask(name: str, request: Request) -> int:
    await request.body()
    predict()
    return 1
