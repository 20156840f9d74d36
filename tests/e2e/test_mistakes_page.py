"""What the page says of what is wrong or not yet whole: once, in its place, and until it is right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from playwright.sync_api import Page, expect

from ftui.config import RunConfig
from ftui.runs import RunStore
from tests import tiny
from tests.e2e.conftest import Server
from tests.e2e.test_page import open_settings, open_tab

MARKS = "[data-testid=status-tracker] .error"  # what Gradio puts over the outputs of an event that raised

LATE = """
const sent = window.fetch;
window.fetch = async (...asked) => {
  if (asked[1]?.method === "POST") await new Promise(done => setTimeout(done, 3000));
  return sent(...asked);
};
"""


def upload(page: Page, file: Path) -> None:
    open_tab(page, "Data")
    page.locator("#upload input[type=file]").set_input_files(file)


def choose(page: Page, box: str, option: str) -> None:
    page.locator(f"{box} input").click()
    page.get_by_role("option", name=option, exact=True).last.click()


def marks_seen(page: Page) -> int:
    return sum(mark.is_visible() for mark in page.locator(MARKS).all())


def test_a_file_that_cannot_be_read_leaves_one_sentence_where_the_rows_were(page: Page, tmp_path: Path) -> None:
    empty, good = tmp_path / "empty.csv", tmp_path / "good.csv"
    empty.write_text("")
    good.write_text("question,answer\n" + "".join(f"What is {i}?,It is {i}.\n" for i in range(40)))
    open_tab(page, "Data")
    expect(page.locator("#facts")).to_contain_text("400 rows")
    upload(page, empty)
    said = page.locator("#facts").get_by_role("alert")
    expect(said).to_contain_text("empty.csv")
    expect(page.locator("#rows")).to_be_hidden()
    for gone in ("#problems", "#seen", "#recognized"):
        expect(page.locator(gone)).to_have_text("")
    assert marks_seen(page) == 0
    open_tab(page, "Train")
    open_tab(page, "Data")
    expect(said).to_contain_text("empty.csv")
    upload(page, good)
    expect(page.locator("#facts")).to_contain_text("40 rows")
    expect(page.locator("#rows")).to_contain_text("What is 1?")
    expect(said).to_have_count(0)


def test_a_wrong_number_is_told_beneath_the_questions_until_it_is_corrected(page: Page) -> None:
    open_tab(page, "Train")
    open_settings(page)
    rate = page.get_by_label("Learning rate")
    rate.fill("-1")
    page.locator("#start").click()
    told = page.locator("#plan").get_by_role("alert")
    expect(told).to_contain_text("training.learning_rate")
    expect(page.locator(".toast-body").first).to_contain_text("training.learning_rate")
    expect(page.locator(MARKS).first).to_be_attached()  # Gradio still marks: the page hides it
    assert marks_seen(page) == 0
    rate.fill("0.001")
    rate.blur()
    expect(page.locator("#plan")).to_contain_text("steps")
    expect(told).to_have_count(0)


def test_however_slow_the_server_a_reload_gives_the_form_back_at_once_and_overwrites_nothing(
    page: Page, server: Server, tmp_path: Path, tiny_model: Path
) -> None:
    open_tab(page, "Train")
    plan = page.locator("#plan p").first
    expect(plan).to_contain_text("48 steps")
    choose(page, "#preset", "Text to one of twelve labels")
    expect(plan).not_to_contain_text("48 steps")
    planned = plan.inner_text()
    waiting = RunStore(server.runs).create(RunConfig.parse(tiny.values(tiny_model, tmp_path)))
    try:
        page.add_init_script(LATE)
        page.reload()  # a run that was interrupted: the page will turn to the Train tab by itself
        open_tab(page, "Train")
        open_settings(page)
        length, decay = page.get_by_label("Longest row (tokens)"), page.get_by_label("Weight decay")
        expect(length).to_have_value("256", timeout=2000)  # that of the chosen preset: no server was asked
        decay.fill("0.3")
        expect(plan).to_have_text(planned)
        expect(decay).to_have_value("0.3")
    finally:
        shutil.rmtree(waiting.path)


def test_other_rows_are_learned_as_long_as_was_chosen_for_them_and_not_as_briefly_as_those_before(
    page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "own.csv"
    file.write_text("question,answer\n" + "".join(f"What is {i}?,It is {i}.\n" for i in range(200)))
    open_tab(page, "Train")
    page.get_by_label("Quick check").check()
    upload(page, file)
    expect(page.locator("#recognized")).to_contain_text("Chosen for these rows")
    open_tab(page, "Train")
    expect(page.get_by_label("Standard")).to_be_checked()


def test_a_form_that_is_no_presets_any_more_is_called_your_own_until_one_is_chosen_again(
    page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "own.csv"
    file.write_text("question,answer\n" + "".join(f"What is {i}?,It is {i}.\n" for i in range(40)))
    preset, needs = page.locator("#preset input"), page.get_by_text("A laptop without a GPU")
    open_tab(page, "Train")
    expect(preset).to_have_value("Mail to JSON (starter)")
    expect(needs).to_be_visible()
    upload(page, file)
    expect(page.locator("#facts")).to_contain_text("40 rows")
    open_tab(page, "Train")
    expect(preset).to_have_value("Your own")
    expect(needs).to_be_hidden()
    page.wait_for_timeout(1500)  # the form reaches the browser's storage a moment later
    page.reload()
    open_tab(page, "Train")
    expect(preset).to_have_value("Your own")
    expect(needs).to_be_hidden()
    choose(page, "#preset", "Mail to JSON (starter)")
    expect(page.locator("#plan")).to_contain_text("48 steps")
    expect(preset).to_have_value("Mail to JSON (starter)")
    expect(needs).to_be_visible()


def test_columns_that_cannot_be_guessed_are_asked_for_and_the_rows_checked_once_they_are_chosen(
    page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "two.csv"
    file.write_text("alpha;beta;gamma\n" + "".join(f"a{i} x;b{i} y;c{i} z\n" for i in range(40)))
    upload(page, file)
    facts, seen = page.locator("#facts"), page.locator("#seen")
    expect(facts.get_by_role("status")).to_contain_text("choose the columns for Question and Answer")
    expect(page.locator("#facts .bad")).to_have_count(0)
    choose(page, "#role_question", "alpha")
    expect(facts.get_by_role("status")).to_contain_text("choose the column for Answer")
    choose(page, "#role_answer", "beta")
    expect(facts).to_contain_text("40 rows: 40 can be used")
    expect(seen).to_contain_text("b1")
    page.locator("#next").click()
    expect(seen).to_contain_text("6 to 10 of 40")
    page.locator("#template_completion textarea").focus()
    page.locator("#template_prompt textarea").focus()  # nothing was written
    page.wait_for_timeout(1500)
    expect(seen).to_contain_text("6 to 10 of 40")
    page.locator("#template_prompt textarea").fill("{{alfa}}")
    page.locator("#template_prompt textarea").blur()
    expect(facts.get_by_role("alert")).to_contain_text("alfa")


def test_rows_are_found_while_the_search_is_written_and_a_search_without_any_says_so(page: Page) -> None:
    open_tab(page, "Data")
    seen = page.locator("#seen")
    expect(seen).to_contain_text("1 to 5 of 400")
    page.locator("#search input, #search textarea").press_sequentially("desk fan", delay=30)
    expect(seen).to_contain_text("desk fan")
    expect(seen).not_to_contain_text("of 400")
    page.locator("#search input, #search textarea").press_sequentially("xyz", delay=30)
    expect(seen).to_contain_text("No row here has “desk fanxyz”.")


def test_every_column_is_on_the_first_screen_and_a_conversation_is_json(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "wide.jsonl"
    row = {"context": "A long story. " * 40, "turns": [{"role": "user", "content": "¿Qué?"}], "answer": "The end."}
    file.write_text((json.dumps(row) + "\n") * 40)
    upload(page, file)
    expect(page.locator("#rows")).to_contain_text('[{"role": "user"')
    box, answer = page.locator("#rows").bounding_box(), page.locator("#rows").get_by_text("The end.").first
    assert answer.bounding_box()["x"] + answer.bounding_box()["width"] <= box["x"] + box["width"]
