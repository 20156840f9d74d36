"""The page as a person meets it: real server, real browser, real training of the starter."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import MINUTE, Server


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def open_settings(page: Page) -> None:
    """Gradio draws a box and then gives it its value once more: what is written in between, as no hand can, is lost."""
    page.get_by_role("button", name="All settings").click()
    page.wait_for_timeout(1000)


def test_the_data_tab_shows_what_will_be_learned_token_by_token(page: Page) -> None:
    open_tab(page, "Data")
    seen = page.locator("#seen")
    expect(page.locator("#facts")).to_contain_text("400 rows: 400 can be used, 0 left out")
    expect(page.locator("#problems")).to_contain_text("The doctor found nothing wrong")
    learned = seen.locator(".tokens").first.locator(".token.learned")
    assert re.fullmatch(r'\{"product":.*\}<\|im_end\|>', "".join(learned.all_text_contents()))


def test_an_uploaded_csv_is_recognized_and_its_columns_are_put_in_place_by_choosing(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "questions.csv"
    file.write_text("frage;antwort\n" + "".join(f"Was ist {i} plus {i}?;{2 * i}, genau\n" for i in range(40)))
    open_tab(page, "Data")
    page.locator("#upload input[type=file]").set_input_files(file)
    expect(page.locator("#recognized")).to_contain_text("Rows: 40, columns: 2")
    for role, column in (("question", "frage"), ("answer", "antwort")):
        page.locator(f"#role_{role} input").click()
        page.get_by_role("option", name=column, exact=True).last.click()
    expect(page.locator("#template_prompt textarea")).to_have_value("{{frage}}")
    expect(page.locator("#template_completion textarea")).to_have_value("{{antwort}}")
    page.locator("#template_prompt textarea").fill("[[{{antwort}}\n]]{{ frage }}")
    expect(page.locator("#role_context input")).to_have_value("antwort")
    page.locator("#role_context input").click()
    page.get_by_role("option", name="—", exact=True).last.click()
    expect(page.locator("#template_prompt textarea")).to_have_value("{{ frage }}")
    page.locator("#show_examples").click()
    expect(page.locator("#facts")).to_contain_text("40 rows: 40 can be used")
    expect(page.locator("#seen .token.learned").first).to_be_visible()


def test_a_conversation_is_mapped_by_the_proposal_and_can_be_mapped_otherwise(page: Page, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps({"messages": turns, "note": f"Note {i}."}) + "\n" for i in range(40)))
    open_tab(page, "Data")
    page.locator("#upload input[type=file]").set_input_files(file)
    expect(page.locator("#role_messages input")).to_have_value("messages")
    page.locator("#role_text input").click()
    page.get_by_role("option", name="note", exact=True).last.click()
    expect(page.locator("#role_messages input")).to_have_value("—")
    page.locator("#show_examples").click()
    expect(page.locator("#seen .tokens .token.learned").first).to_contain_text("N")


def test_an_answer_of_several_columns_is_shown_whole_and_no_click_loses_one(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "slots.jsonl"
    lines = [{"id": f"n{i}", "text": f"Play song {i}.", "intent": "play", "slots": {"song": str(i)}} for i in range(40)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    open_tab(page, "Data")
    page.locator("#upload input[type=file]").set_input_files(file)
    answer, completion = page.locator("#role_answer input"), page.locator("#template_completion textarea")
    expect(answer).to_have_value("intent + slots")
    written = completion.input_value()
    answer.click()
    page.get_by_role("option", name="slots", exact=True).last.click()
    expect(answer).to_have_value("intent + slots")
    expect(completion).to_have_value(written)
    answer.click()
    page.get_by_role("option", name="id", exact=True).last.click()
    expect(answer).to_have_value("intent + slots + id")
    expect(completion).to_have_value(written + "\n{{id}}")


def test_the_doctor_holds_the_start_until_its_fix_is_taken_which_can_be_undone(
    page: Page, server: Server, tmp_path
) -> None:
    lines = [
        "question,answer",
        *(f"What is {i} plus {i}?,It is {2 * i}." for i in range(60)),
        "What is nothing?,",
        "Why?,",
    ]
    file = tmp_path / "sums.csv"
    file.write_text("\n".join(lines))
    open_tab(page, "Data")
    page.locator("#upload input[type=file]").set_input_files(file)
    expect(page.locator("#problems")).to_contain_text("error")
    open_tab(page, "Train")
    page.locator("#start").click()
    expect(page.locator(".toast-body").first).to_contain_text("Not started. 2 rows")
    expect(page.locator("#anyway")).to_be_visible()
    assert not list(server.runs.glob("*/config.yaml"))
    open_tab(page, "Data")
    expect(page.locator("#undo")).to_be_disabled()
    page.locator("#mend").click()
    expect(page.locator("#facts")).to_contain_text("60 rows: 60 can be used")
    named = page.locator("#dataset_path input")  # and so is a run of them
    expect(named).to_have_value(re.compile("sums.jsonl$"))
    page.locator("#undo").click()
    expect(page.locator("#facts")).to_contain_text("62 rows: 60 can be used")
    page.locator("#mend").click()
    expect(page.locator("#facts")).to_contain_text("60 rows: 60 can be used")
    expect(page.locator("#undo")).to_be_visible()
    page.locator("#dataset_path input").click()
    page.get_by_role("option", name="labels", exact=True).last.click()
    expect(page.locator("#facts")).not_to_contain_text("60 rows")
    expect(page.locator("#undo")).to_be_hidden()  # it would go back to rows that nobody looks at any more


def test_a_fix_of_the_doctor_changes_the_split_which_can_be_undone(page: Page) -> None:
    open_tab(page, "Data")
    page.get_by_role("button", name="Paste rows").click()
    page.locator("#pasted textarea").fill(
        "\n".join(["question,answer", *(f"Is it {i}?,It is {i}." for i in range(100))])
    )
    page.locator("#paste").click()
    expect(page.locator("#facts")).to_contain_text("100 rows")
    page.get_by_role("button", name="Advanced: reading and splitting").click()
    test = page.get_by_label("Held back for the verdict")
    test.fill("12")
    page.locator("#show_examples").click()
    expect(page.locator("#problems")).to_contain_text("few_test_rows")
    page.locator("#fix input").click()
    page.get_by_role("option", name="Hold back 20 rows for the test").click()
    page.locator("#mend").click()
    expect(page.locator("#facts")).to_contain_text("20 test")
    expect(test).to_have_value("20")
    expect(page.locator("#problems")).not_to_contain_text("few_test_rows")
    page.locator("#undo").click()
    expect(page.locator("#facts")).to_contain_text("12 test")
    expect(test).to_have_value("12")


def test_an_unknown_placeholder_is_named_with_the_closest_column(page: Page) -> None:
    open_tab(page, "Data")
    expect(page.locator("#facts")).to_contain_text("400 rows")
    page.locator("#template_prompt textarea").fill("{{texte}}")
    page.locator("#show_examples").click()
    expect(page.locator("#facts")).to_contain_text("texte")
    expect(page.locator("#facts")).to_contain_text("text")
    expect(page.locator("#seen")).not_to_contain_text("Row 1")


def test_prepared_rows_and_the_report_can_be_saved(page: Page) -> None:
    open_tab(page, "Data")
    expect(page.locator("#facts")).to_contain_text("400 rows")
    page.get_by_role("button", name="Save rows or report").click()
    page.locator("#save").click()
    expect(page.locator("#files")).to_contain_text("train")
    with page.expect_download() as download:
        page.locator("#files a").first.click()
    row = json.loads(Path(download.value.path()).read_text().splitlines()[0])
    assert [message["role"] for message in row["messages"]][-2:] == ["user", "assistant"]
    page.locator("#kind input").click()
    page.get_by_role("option", name="Report as a page").click()
    page.locator("#save").click()
    expect(page.locator("#files")).to_contain_text("check")


def test_the_data_tab_cuts_rows_where_the_train_tab_says(page: Page) -> None:
    open_tab(page, "Train")
    open_settings(page)
    page.get_by_role("textbox", name="Longest row (tokens) Longer").fill("110")
    page.keyboard.press("Tab")
    page.wait_for_timeout(1500)  # the form reaches the page's own state a moment after the typing
    open_tab(page, "Data")
    expect(page.locator("#facts")).to_contain_text("cut at 110")
    expect(page.locator("#problems")).to_contain_text("answer_cut")


def test_a_wrong_number_is_explained_and_nothing_starts(page: Page, server: Server) -> None:
    open_tab(page, "Train")
    open_settings(page)
    page.get_by_label("Learning rate").fill("-1")
    page.locator("#start").click(delay=1500)  # a slow hand: what leaving the box brings must not move the button away
    expect(page.locator(".toast-body").first).to_contain_text(
        "Learning rate (training.learning_rate): must be greater than 0, not '-1'"
    )
    assert not list(server.runs.glob("*/config.yaml"))


def test_the_form_shows_the_settings_of_the_preset_that_it_starts_with(page: Page) -> None:
    open_tab(page, "Train")
    open_settings(page)
    expect(page.get_by_role("textbox", name="Epochs How often")).to_have_value("0.55")
    page.get_by_label("Preset").click()
    page.get_by_role("option", name="Text to one of twelve labels").last.click()
    expect(page.get_by_role("textbox", name="Batch size Rows")).to_have_value("8")
    expect(page.get_by_role("textbox", name="Epochs How often")).to_have_value("1")


def test_the_page_speaks_spanish(browser: Browser, server: Server) -> None:
    context = browser.new_context(locale="es-ES")
    page = context.new_page()
    page.goto(server.url)
    open_tab(page, "Entrenar")
    expect(page.locator("#start")).to_have_text("Empezar a entrenar")
    expect(page.locator("#status")).to_contain_text("Aún no hay entrenamientos")
    context.close()


def test_a_newcomer_starts_without_opening_the_data_tab_watches_reloads_and_chats(
    page: Page, browser: Browser, server: Server
) -> None:
    open_tab(page, "Train")
    page.get_by_label("Quick check").check()
    page.locator("#start").click()
    status = page.locator("#status")
    expect(status).to_contain_text("Preparing")
    expect(page.locator("#start")).to_be_disabled()

    second = browser.new_context(locale="en-US").new_page()
    second.goto(server.url)
    open_tab(second, "Train")
    expect(second.locator("#status")).to_contain_text("Preparing")

    expect(status).to_contain_text(re.compile(r"step \d of 5"), timeout=6 * MINUTE)
    expect(page.locator("#watched")).to_contain_text("before")
    page.reload()
    open_tab(page, "Train")
    expect(page.locator("#status")).to_contain_text(re.compile(r"step \d of 5"))

    expect(page.locator("#status .phase b")).to_have_text("Done", timeout=6 * MINUTE)
    expect(second.locator("#status .phase b")).to_have_text("Done")
    expect(page.locator("#plot")).to_be_visible()
    expect(page.locator("#proof")).to_contain_text("A quick check: it works")
    second.context.close()

    page.locator("#to_chat").click()
    expect(page.locator("#chat_system textarea")).to_have_value(re.compile("Turn the mail into JSON"))
    page.locator("#message textarea").fill("My order A-4821, a desk fan, arrived broken. Please answer today.")
    page.locator("#message textarea").press("Enter")
    expect(page.locator("#conversation")).to_contain_text("A-4821")
    expect(page.locator("#conversation .bot, #conversation [data-testid=bot]").last).to_contain_text(
        re.compile(r"\w{3,}"), timeout=2 * MINUTE
    )


def test_a_killed_server_comes_back_and_the_open_page_says_interrupted(page: Page, server: Server) -> None:
    open_tab(page, "Train")
    page.locator("#start").click()
    expect(page.locator("#status")).to_contain_text("Preparing")
    expect(page.locator("#away")).to_be_hidden()
    server.kill()
    expect(page.locator("#away")).to_be_visible()
    expect(page.locator("#away")).to_contain_text("ftui does not answer")
    server.start()
    expect(page.locator("#status .phase b")).to_have_text("Interrupted")
    expect(page.locator("#away")).to_be_hidden()
