"""Tiny random models and the tokenizer they share, made in a second: everything but the weights is what real ones are."""

import json
from pathlib import Path

WORDS = ["red", "green", "blue", "white", "black", "round", "square", "flat", "tall", "small"]
THINGS = ["lamp", "boat", "tree", "chair", "stone", "letter"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5}


def rows(count: int = 30) -> list[dict]:
    """Questions a tiny model can learn: the answer repeats the last words of the question."""
    pairs = [(word, thing) for thing in THINGS for word in WORDS][:count]
    return [{"text": f"What do you see? A {word} {thing}.", "answer": f"{word} {thing}"} for word, thing in pairs]


def write_rows(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def values(base: Path, folder: Path) -> dict:
    """A config as nested dictionaries: 16-bit, six steps, 20 rows to learn from, 4 to watch, 6 for the test."""
    return {
        "base_model": str(base),
        "dataset": {"path": str(write_rows(folder / "rows.jsonl", rows()))},
        "template": {"system": "Look.", "prompt": "{{text}}", "completion": "{{answer}}"},
        "split": {"validation": 4, "test": 6, "seed": 1},
        "quantization": {"load_in_4bit": False},
        "lora": {"r": 8, "lora_alpha": 16},
        "training": {
            "max_steps": 6,
            "per_device_train_batch_size": 4,
            "learning_rate": 5e-3,
            "max_length": 128,
            "eval_steps": 3,
        },
        "evaluation": {"max_new_tokens": 8},
    }


def make_tokenizer(folder: Path, metaspace: bool = False, pad: str | None = "<|endoftext|>") -> None:
    """ByteLevel BPE with ChatML, or (`metaspace`) what a SentencePiece model such as Llama 2 becomes: a blank before each text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    texts = [row["text"] + " " + row["answer"] for row in rows(60)] + ["system user assistant four two and is it"] * 9
    if metaspace:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        alphabet = [chr(code) for code in range(32, 127)] + ["▁", "\n", "é"]
        specials = ["<unk>", *specials, *(f"<0x{byte:02X}>" for byte in range(256))]
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=len(specials) + 400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        ),
    )
    if metaspace:  # the byte tokens are plain entries of the vocabulary, not special ones
        kept = json.loads(tokenizer.to_str())
        kept["added_tokens"] = [token for token in kept["added_tokens"] if not token["content"].startswith("<0x")]
        tokenizer = Tokenizer.from_str(json.dumps(kept))
    names = {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"]}
    if pad:
        names["pad_token"] = pad
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHATML, **names)
    fast.save_pretrained(folder)


def make_model(folder: Path, family: str, seed: int = 7) -> Path:
    """A random model of `family` with its tokenizer, as safetensors. The families take the paths that real ones take."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForMaskedLM

    make_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    torch.manual_seed(seed)
    if family == "bert":
        BertForMaskedLM(BertConfig(**SIZES, vocab_size=len(tokenizer))).save_pretrained(folder)
        return folder
    if family == "gpt2":
        config = AutoConfig.for_model("gpt2", n_embd=64, n_layer=2, n_head=4, n_positions=512, **ids)
    else:
        config = AutoConfig.for_model(
            family, **SIZES, **GROUPED, **ids, tie_word_embeddings=family == "llama", initializer_range=0.1
        )
    if family == "mistral":
        config.sliding_window = None
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(torch.bfloat16).save_pretrained(folder)
    return folder
