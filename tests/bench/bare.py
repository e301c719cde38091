"""The reference: the smallest FastAPI app with the same answers, on the same server, without anything of ours."""

import socket

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field


class Liveness(BaseModel):
    status: str = "alive"


class Person(BaseModel):
    id: str = "01980000-0000-7000-8000-000000000000"
    email: str = "0123456789ab@shop.example"
    name: str = ""
    role: str = "user"
    is_guest: bool = False
    is_disabled: bool = False
    created_at: str = "2026-01-01T00:00:00.000Z"


class Renewal(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    refresh_token: str = Field(min_length=1, max_length=256)


app = FastAPI(openapi_url=None)


@app.get("/health/live")
async def live() -> Liveness:
    return Liveness()


@app.get("/auth/me")
async def me() -> Person:
    return Person()


@app.post("/auth/refresh")
async def refresh(command: Renewal) -> Person:
    return Person()


def main() -> None:
    """Serve on a free port, which is printed."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="error", access_log=False)
        uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
