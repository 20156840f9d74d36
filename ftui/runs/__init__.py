"""What a run is, and all of them: the one seam between doing and watching."""

from ftui.runs.run import CHECKPOINTS, ENDED, TAIL, WORKING, Event, Run, Stopped, write_whole
from ftui.runs.store import UPLOADS, RunStore, folder_size, slug

__all__ = [
    "CHECKPOINTS",
    "ENDED",
    "TAIL",
    "UPLOADS",
    "WORKING",
    "Event",
    "Run",
    "RunStore",
    "Stopped",
    "folder_size",
    "slug",
    "write_whole",
]
