"""The merge with its proof: which base weights serve an adapter best is measured on held-out rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftui.encoding import Encoded
from ftui.examples import Examples
from ftui.merge import Rounding, as_trained, merge_into, prove
from ftui.models import load_model, place_for
from ftui.plan import PROVEN_ROWS
from ftui.runs import Run, Stopped

if TYPE_CHECKING:
    from transformers import PreTrainedModel


# A merged model that is further from what was trained than this is another model. Rounding to 16 bits moves the loss by
# less than a percent and agrees on 98 % of the tokens or more.
LEAST_AGREEMENT = 0.9
MOST_LOSS = 1.1  # times the adapter's
MOST_LOGIT_DIFFERENCE = 10.0
MERGE_FAILED = "The merge failed its check: the merged model differs from what was trained. Use the adapter."


def differs(proof: dict[str, Any] | None) -> bool:
    """Whether a merged model is not the one that was trained. One that could not be compared is not known to differ."""
    if not proof or "not_proven" in proof:
        return False
    return not (
        proof["top1_agreement"] >= LEAST_AGREEMENT
        and proof["validation_loss_merged"] <= MOST_LOSS * proof["validation_loss_adapter"] + 0.01
        and proof["max_abs_logit_difference"] <= MOST_LOGIT_DIFFERENCE
    )


def merge_and_prove(run: Run, base_dir: Path, adapted: PreTrainedModel, examples: Examples) -> dict[str, Any]:
    """Merges into the original weights; where held-out rows lose by that, into the weights as they were in training.

    A 4-bit run learns on rounded weights. Usually the original ones serve the adapter as well; the proof tells. The merged
    model is in its place only once it is proven, and a proof stands beside no other one.
    """
    place = place_for(base_dir)
    with run.new_folder("merged") as folder:
        if place is None:
            merge_into(folder, run, base_dir)
            why = "the merged model fits neither the GPU nor the memory beside it"
            proof: dict[str, Any] = {"base_weights": "original", "not_proven": why}
            level = "warning"
        else:
            held_out = (examples.validation or examples.test or examples.train)[:PROVEN_ROWS]
            proof = _best_merge(folder, run, base_dir, place, adapted, [example.encoded for example in held_out])
            level = "error" if differs(proof) else "warning" if _loses(proof) else "info"
        (run.path / "proof.json").unlink(missing_ok=True)
    run.write("proof.json", json.dumps(proof, indent=1))
    run.log("message", merge_sentence(proof), level, proof=proof)
    return proof


def _best_merge(
    folder: Path, run: Run, base_dir: Path, place: str, adapted: PreTrainedModel, held_out: list[Encoded]
) -> dict[str, Any]:
    """The proof of the merge that serves the held-out rows best, which is the one that is in the folder then."""

    def merged(base_weights: str, rounding: Rounding | None) -> dict[str, Any]:
        if run.stop_wanted:
            raise Stopped
        shutil.rmtree(folder)  # a third copy of the model beside the base would not fit where two do
        folder.mkdir()
        merge_into(folder, run, base_dir, rounding)
        if run.stop_wanted:
            raise Stopped
        model = load_model(folder, place=place).eval()
        proof = prove(adapted, model, held_out, run.counting("compared", len(held_out)))
        return {"base_weights": base_weights} | proof

    proof, quantization = merged("original", None), run.config.quantization
    if not (quantization.load_in_4bit and (_loses(proof) or differs(proof))):
        return proof
    run.log("message", f"On the original weights: {proof_sentence(proof)} Trying the weights as they were in training.")
    other = merged("rounded as in training", as_trained(quantization))
    if other["validation_loss_merged"] <= proof["validation_loss_merged"]:
        return other
    return merged("original", None)


def _loses(proof: dict[str, Any]) -> bool:
    return proof["validation_loss_merged"] > 1.01 * proof["validation_loss_adapter"] + 1e-4


def merge_sentence(proof: dict[str, Any]) -> str:
    """What came of the merge, as the log, the model card and the page say it."""
    if "not_proven" in proof:
        return f"Merged, but not compared with what was trained: {proof['not_proven']}."
    said = f"Merged into the base's weights ({proof['base_weights']}): {proof_sentence(proof)}"
    return f"{said} {MERGE_FAILED} {_limits(proof)}" if differs(proof) else said


def _limits(proof: dict[str, Any]) -> str:
    return (
        f"Logits are up to {proof['max_abs_logit_difference']:.1f} apart. Allowed: at least "
        f"{LEAST_AGREEMENT:.0%} of the tokens, a loss up to {MOST_LOSS - 1:.0%} higher, logits up to {MOST_LOGIT_DIFFERENCE:.0f} apart."
    )


def best_model(run: Run) -> str:
    """Which of a run's models to ask: the merged one if it is there and what was trained, else the adapter."""
    return "merged" if run.merged_dir.is_dir() and not differs(run.read_json("proof.json")) else "adapter"


def proof_sentence(proof: dict[str, Any]) -> str:
    """How near the merged model is to what was trained."""
    return (
        f"it predicts {proof['top1_agreement']:.1%} of {proof['tokens']:,} held-out tokens as the adapter does; "
        f"the loss is {proof['validation_loss_adapter']:.4f} with the adapter and {proof['validation_loss_merged']:.4f} merged."
    )
