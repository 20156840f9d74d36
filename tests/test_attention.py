"""Rows side by side without padding: each row's logits are those it has alone."""

import pytest

FAMILIES = ["llama", "qwen2", "qwen3", "mistral"]
ROWS = [[5, 9, 33, 70, 12], [90, 41], [7, 7, 120, 33, 18, 64, 80, 2], [44]]


@pytest.fixture
def load(tiny_family):
    def loaded(family: str, attention: str):
        import torch
        from transformers import AutoModelForCausalLM

        from ftui.attention import register_varlen_attention

        register_varlen_attention()
        return AutoModelForCausalLM.from_pretrained(
            tiny_family(family), dtype=torch.float32, attn_implementation=attention
        )

    return loaded


def side_by_side(rows: list[list[int]]) -> dict:
    """What trl's collator hands over for rows without padding."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    batch = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([{"input_ids": row} for row in rows])
    assert batch["cu_seq_lens_q"].tolist() == [0, 5, 7, 15, 16]
    return {name: value for name, value in batch.items() if name != "labels"} | {"use_cache": False}


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_side_by_side_have_the_logits_of_each_row_alone(load, family):
    import torch

    model, stock = load(family, "ftui_varlen").eval(), load(family, "sdpa").eval()
    with torch.no_grad():
        packed = model(**side_by_side(ROWS)).logits[0].split([len(row) for row in ROWS])
        for row, logits in zip(ROWS, packed, strict=True):
            alone = stock(input_ids=torch.tensor([row])).logits[0]
            assert float((logits - alone).abs().max()) < 1e-4 and float(alone.std()) > 0.01


def test_a_row_sees_nothing_of_its_neighbors(load):
    import torch

    model = load("llama", "ftui_varlen").eval()
    with torch.no_grad():
        before = model(**side_by_side(ROWS)).logits[0]
        after = model(**side_by_side([ROWS[0], [3, 4], *ROWS[2:]])).logits[0]
    changed = (before - after).abs().amax(-1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [5, 6]


@pytest.mark.parametrize("short, block", [(512, 128), (512, 3), (4, 128)])
def test_gradients_are_those_of_the_stock_attention_with_padding(load, monkeypatch, short, block):
    import torch

    monkeypatch.setattr("ftui.attention.SHORT", short)
    monkeypatch.setattr("ftui.attention.BLOCK", block)
    gradients = []
    for name, rows in (
        ("ftui_varlen", [side_by_side(ROWS)]),
        ("sdpa", [{"input_ids": torch.tensor([r])} for r in ROWS]),
    ):
        model = load("llama", name)
        sum(model(**row).logits.logsumexp(-1).sum() for row in rows).backward()
        gradients.append(model.model.layers[0].self_attn.k_proj.weight.grad)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-4) and float(gradients[0].abs().max()) > 1e-3


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_generation_with_padding_and_a_cache_is_that_of_the_stock_attention(load, family):
    import torch

    ids = torch.tensor([[0, 0, 0, *ROWS[0]], ROWS[2]])
    mask = (ids != 0).long()
    written = [
        load(family, name).generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=12)
        for name in ("ftui_varlen", "sdpa")
    ]
    assert torch.equal(*written)
