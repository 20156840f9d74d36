"""Where rows come from and how they are divided: files of any usual format, folders, the Hub; train, validation, test."""

from ftui.dataset.rows import BrokenRow, Rows
from ftui.dataset.source import DatasetSource
from ftui.dataset.split import Split, SplitSettings

__all__ = ["BrokenRow", "DatasetSource", "Rows", "Split", "SplitSettings"]
