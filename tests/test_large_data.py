"""Many rows: how much memory each of them costs on its way from the file to the trainer."""

import subprocess
import sys
from pathlib import Path

import pytest

FEW, MANY = 50_000, 200_000
BYTES_A_ROW = 600  # measured: 70 to 250; 1,400 to 1,500 with tokens and labels kept as Python lists

# The real path, as a run takes it: load, split, prepare, the trainer's data set, two steps. Tells the peak of the memory
# that no file stands behind: what is mapped from a file, the system can take back.
TRAINED = """
import json, random, sys, threading, time
from pathlib import Path
from ftui.config import RunConfig
from ftui.encoding import Encoding
from ftui.examples import prepare
from ftui.models import load_model, load_tokenizer
from ftui.train import build_trainer

base, folder, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
words = "red green blue white black round square flat tall small lamp boat tree chair stone letter".split()
chance, path = random.Random(1), folder / f"{count}.jsonl"
with path.open("w") as file:
    file.writelines(json.dumps({"text": f"{i} " + " ".join(chance.choices(words, k=12))}) + "\\n" for i in range(count))


def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def watch():
    while True:
        seen.append(max(anonymous(), seen.pop()))
        time.sleep(0.02)


seen = [anonymous()]
threading.Thread(target=watch, daemon=True).start()
config = RunConfig.parse(
    {
        "base_model": str(base),
        "dataset": {"path": str(path)},
        "template": {"text": "text"},
        "split": {"validation": 0, "test": 0},
        "quantization": {"load_in_4bit": False},
        "training": {"max_steps": 2, "per_device_train_batch_size": 2, "max_length": 128},
    }
)
encoding = Encoding(load_tokenizer(base))
examples = prepare(config, encoding)
trainer = build_trainer(config, load_model(base, config.quantization), encoding, examples, folder / f"{count}")
trainer.train()
assert trainer.state.global_step == 2 and len(trainer.train_dataset) == count
print(seen[0])
"""


def peak(base: Path, folder: Path, count: int) -> int:
    done = subprocess.run(
        [sys.executable, "-c", TRAINED, str(base), str(folder), str(count)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.splitlines()[-1])


@pytest.mark.true
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only Linux tells how much memory no file stands behind"
)
def test_a_row_more_costs_little_memory_from_the_file_to_the_trainer(tiny_model, tmp_path):
    few, many = (peak(tiny_model, tmp_path, count) for count in (FEW, MANY))
    assert (many - few) / (MANY - FEW) < BYTES_A_ROW
