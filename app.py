"""The web door, also what a Space starts: `python app.py`, with whatever `python -m ftui app` takes."""

import os
import sys
from pathlib import Path

from ftui.__main__ import main

if __name__ == "__main__":
    host = os.environ.get("FTUI_HOST", "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1")
    port = os.environ.get("FTUI_PORT", "7860")
    runs = os.environ.get("FTUI_RUNS", str(Path(__file__).parent / "runs"))
    sys.exit(main(["app", "--host", host, "--port", port, "--runs", runs, *sys.argv[1:]]))
