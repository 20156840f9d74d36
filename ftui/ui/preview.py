"""Preview: what a config would learn, computed once and shown by several tabs. All sessions share one."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock

from ftui.check import Look, look
from ftui.config import RunConfig

KEPT = 2


class Preview:
    """The last few looks, by the part of the config that they depend on."""

    def __init__(self) -> None:
        self._looks: OrderedDict[str, Look] = OrderedDict()
        self._looking = Lock()

    def look(self, config: RunConfig) -> Look:
        """UserError when the rows or the model cannot be read."""
        values = config.model_dump(mode="json")
        parts = ("base_model", "revision", "chat_template", "dataset", "template", "split")
        training = [config.training.max_length, config.training.completion_only_loss]
        key = repr([[values[part] for part in parts], training, _stamps(config)])
        with self._looking:
            if key not in self._looks:
                self._looks[key] = look(config, report=lambda _: None)
            self._looks.move_to_end(key)
            while len(self._looks) > KEPT:
                self._looks.popitem(last=False)
            return self._looks[key]


def _stamps(config: RunConfig) -> list[tuple[int, int]]:
    """When the files last changed, and their sizes: rows that were edited on the disk are read again."""
    found = [Path(path).stat() for path in config.dataset.paths if Path(path).exists()]
    return [(stat.st_mtime_ns, stat.st_size) for stat in found]
