"""The raw body of a request, regardless of its content type."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Request

MAX_FILE_BYTES = 16 * 1024 * 1024


async def _file(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_FILE_BYTES:
            raise HTTPException(413, f"files of up to {MAX_FILE_BYTES} bytes")
    return bytes(data)


File = Annotated[bytes, Depends(_file)]
