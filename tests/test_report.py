"""The report of a run as the page shows it: the verdict, the mistakes first, and the merge."""

import json
import re
from html import escape

import gradio as gr
import pytest

from ftui.history import kept_sentence
from ftui.proof import best_model
from ftui.ui.chat_tab.chooser import Chooser
from ftui.ui.language import Voice
from ftui.ui.report import proof_html
from ftui.ui.run_html import status_html


def test_a_quick_check_claims_no_verdict_and_says_so(run_to_change):
    report = run_to_change.read_json("report.json")
    assert report["verdict"] == "too few rows"
    assert "Too few held-out rows (6)" in proof_html(run_to_change, Voice(None)), "there were no more"
    run_to_change.write("report.json", json.dumps(report | {"limit": 8}))
    assert "A quick check: it works." in proof_html(run_to_change, Voice(None))


def test_a_report_shows_mistakes_first_and_says_how_many_there_are(run_to_change):
    report = run_to_change.read_json("report.json")
    example = {"prompt": "?", "expected": "right", "zero_shot": "base"}
    examples = [{**example, "tuned": "right", "row": row} for row in range(23)] + [{**example, "tuned": "mistaken"}]
    spread = {"difference": {"mean": 0.875, "low": 0.75, "high": 1.0}, "metric": "exact_match"}
    run_to_change.write("report.json", json.dumps(report | spread | {"examples": examples}))
    html = proof_html(run_to_change, Voice(None))
    assert "1 of 24 tuned answers are not exactly as expected; they come first. 12 of 24 rows are shown." in html
    assert html.count("class='right'") == 11 and html.index("mistaken") < html.index("class='right'")
    assert "Difference 88 percentage points, 95 % interval 75 to 100." in html


def test_an_answer_without_words_is_shown_as_one(run_to_change):
    report = run_to_change.read_json("report.json")
    example = {"prompt": "?", "expected": "right", "zero_shot": " \n", "tuned": "", "row": 1}
    run_to_change.write("report.json", json.dumps(report | {"examples": [example]}))
    assert proof_html(run_to_change, Voice(None)).count("(no words)") == 2


@pytest.mark.parametrize("spanish", [False, True])
def test_a_merge_that_could_not_be_proven_says_so_beside_the_report(run_to_change, spanish):
    why = "the merged model fits neither the GPU nor the memory beside it"
    run_to_change.write("proof.json", json.dumps({"base_weights": "original", "not_proven": why}))
    shown = proof_html(run_to_change, Voice.of(spanish))
    assert ("pero no comparado con lo entrenado" if spanish else "but not compared with what was trained") in shown


def test_a_merge_that_differs_is_shown_as_failed_and_the_chat_takes_the_adapter(run_to_change):
    with gr.Blocks():
        chooser = Chooser()
    assert best_model(run_to_change) == "merged" and "class='bad'" not in proof_html(run_to_change, Voice(None))
    proof = run_to_change.read_json("proof.json")
    for wrong in (
        {"top1_agreement": 0.7},
        {"max_abs_logit_difference": 14.0},
        {"validation_loss_merged": 2 * proof["validation_loss_adapter"]},
        {"validation_loss_merged": float("nan")},
    ):
        run_to_change.write("proof.json", json.dumps(proof | wrong))
        assert best_model(run_to_change) == "adapter"
        models = chooser.show({run_to_change.run_id: run_to_change}, run_to_change, None, Voice(None))[1]
        assert models.value == "adapter" and any("failed" in label for label, _ in models.choices)
        assert "<p class='bad'>Merged" in proof_html(run_to_change, Voice(None))
        status = status_html(run_to_change, "done", run_to_change.events(), Voice(None))
        assert "status done wrong" in status


def test_a_run_says_which_step_its_adapter_is_from(run_to_change):
    kept = kept_sentence(run_to_change)
    assert kept.startswith("Kept: step ") and kept.endswith(" by validation.")
    assert kept in (run_to_change.path / "README.md").read_text()
    assert kept in (run_to_change.path / "report.md").read_text()
    assert kept in status_html(run_to_change, "done", run_to_change.events(), Voice(None))
    assert kept in proof_html(run_to_change, Voice(None))
    assert any(kept in event.message for event in run_to_change.events())


def test_the_page_and_the_card_say_the_verdict_and_the_merge_in_the_words_of_the_log(run_to_change):
    said = [event.message for event in run_to_change.events()]
    shown, card = proof_html(run_to_change, Voice(None)), (run_to_change.path / "README.md").read_text()
    for beginning in ("Too few held-out rows", "Merged into the base's weights (original): it predicts "):
        sentence = next(message for message in said if message.startswith(beginning))
        assert escape(sentence) in shown and sentence in card


def test_a_report_is_said_in_spanish_with_commas_where_spanish_has_them(run_to_change):
    proof = run_to_change.read_json("proof.json") | {"top1_agreement": 0.9913, "tokens": 1812}
    proof |= {"validation_loss_adapter": 0.12341, "validation_loss_merged": 0.124}
    run_to_change.write("proof.json", json.dumps(proof))
    shown = proof_html(run_to_change, Voice.of(True))
    assert "Hay muy pocas filas apartadas (6) para un veredicto; hacen falta 20." in shown
    assert (
        "Fusionado con los pesos de la base (originales): predice como el adaptador el 99,1% de 1.812 tokens" in shown
    )
    assert "la pérdida es 0,1234 con el adaptador y 0,1240 fusionado." in shown
    assert re.search(r"<td>\d+,\d{3}</td>", shown) and not re.search(r"\d\.\d{1,2}\b", shown)
