"""Browsing: the list and the run that is looked at, drawn anew when something has changed."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ftui.ui.events import LATEST, QUIET
from ftui.ui.language import Voice
from ftui.ui.page import Page
from ftui.ui.runs_tab.detail import Detail
from ftui.ui.runs_tab.listing import Listing
from ftui.ui.runs_tab.shelf import Asked, Shelf
from ftui.ui.runs_table import LETTERS


class Browsing:
    """`asked`: the inputs that say what a page looks at, as `Asked` names them; `anew`: an event that draws everything again."""

    def __init__(self, shelf: Shelf, listing: Listing, detail: Detail) -> None:
        self.shelf, self.listing, self.detail = shelf, listing, detail
        # Which run is looked at stays with the browser; the secret only keeps its form over a restart.
        self.chosen = gr.BrowserState("", storage_key="ftui-run", secret="ftui")
        self.ticked, self.seen = gr.State([]), gr.State("")
        self.timer = gr.Timer(2, active=False)
        self.asked = [self.chosen, self.ticked, listing.group, listing.search]
        self.outputs = [self.seen, *listing.outputs, *detail.outputs]

        def show_anew(request: gr.Request, *asked: Any) -> list[Any]:
            return self.show("", Asked(*asked), Voice(request))

        self.anew = {"fn": show_anew, "inputs": self.asked, "outputs": self.outputs, **QUIET, **LATEST}

    def show(self, seen: str, asked: Asked, voice: Voice) -> list[Any]:
        """What the tab shows now; nothing is sent again that the page has `seen`."""
        lines, run = self.shelf.lines(asked), self.shelf.chosen(asked)
        listed = str(hash(repr((lines, run and run.run_id, asked.ticked))))
        looked_at = run and [run.path, len(run.events()), run.state, run.is_held, run.stop_wanted, run.discarding]
        detailed = str(hash(repr((looked_at, asked.group))))
        old_list, _, old_detail = seen.partition(" ")
        table, detail = [gr.skip() for _ in self.listing.outputs], [gr.skip() for _ in self.detail.outputs]
        if listed != old_list:
            table = self.listing.show(lines, run, asked, self.shelf.store, voice)
        if detailed != old_detail:
            detail = self.detail.show(run, asked.in_trash, voice)
        return [f"{listed} {detailed}", *table, *detail]

    def follow(self, page: Page, tab: gr.Tab) -> None:
        """Drawn with the page, when the tab is opened, when another run or group is chosen, and while it is looked at."""
        listing, box = self.listing, self.detail.question

        def show_runs(request: gr.Request, seen: str, *asked: Any) -> list[Any]:
            return self.show(seen, Asked(*asked), Voice(request))

        def choose(event: gr.EventData) -> list[Any]:
            """Another run; what was asked about the one before is not asked any more."""
            return [str(event.run), *box.close()]

        def tick(event: gr.EventData) -> list[str]:
            names, last = [str(name) for name in event.runs], str(event.last)
            return names if len(names) <= len(LETTERS) else [*[name for name in names if name != last][:2], last]

        self.timer.tick(show_runs, [self.seen, *self.asked], self.outputs, **QUIET)
        gr.on([page.studio.load, listing.search.change, listing.group.input], **self.anew)
        tab.select(**self.anew)
        listing.table.click(choose, outputs=[self.chosen, *box.outputs], **QUIET, **LATEST).then(**self.anew)
        listing.table.select(tick, outputs=self.ticked, **QUIET, **LATEST).then(**self.anew)
