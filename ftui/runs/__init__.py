"""What a run is, and all of them: the one seam between doing and watching."""

from ftui.runs.run import ENDED, TAIL, WORKING, Event, Run, Stopped, write_whole
from ftui.runs.store import RunStore, folder_size

__all__ = ["ENDED", "TAIL", "WORKING", "Event", "Run", "RunStore", "Stopped", "folder_size", "write_whole"]
