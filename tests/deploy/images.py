"""What the Dockerfile promises, and rules for images that both kinds of deployment keep."""

from __future__ import annotations

import json
from pathlib import Path

from tests.test_dockerfile import DOCKERFILE, instructions

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
SHIPPING_S = 30  # what the shipper gets at the end (journal/shipper.py, stop)

_FINAL = {i.name: i.value for i in instructions(DOCKERFILE)}  # the last of each name
USER = _FINAL["USER"]
CONFIG_FILE = Path(json.loads(_FINAL["ENTRYPOINT"])[-1])
DATA_DIR = json.loads(_FINAL["VOLUME"])[0]


def image_problems(where: str, image: str) -> list[str]:
    """Whether an image says which version it is."""
    name, _, tag = image.rpartition(":")
    if not name or "/" in tag or tag == "latest":
        return [f"{where}: expected an image with a version, found {image}"]
    return []
