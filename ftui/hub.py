"""The Hub's client, with limits to its patience: huggingface_hub by itself waits for an answer without end."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CONNECT_SECONDS, SILENCE_SECONDS = 10, 30


def hub_api(token: str | bool | None = None) -> HfApi:
    """Its API; whatever else asks the Hub from then on is as impatient."""
    from huggingface_hub import HfApi

    _limit_patience()
    return HfApi(token=token)


@cache
def _limit_patience() -> None:
    from httpx2 import Client, Timeout
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def impatient() -> Client:
        client = default_client_factory()
        client.timeout = Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        return client

    set_client_factory(impatient)
