"""The memory of a step of each example: little more than what is alive in it at one time."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.compiler.footprint import footprint
from dlc.compiler.pipeline import plan
from dlc.frontend.build import Build

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST = 1.15
# Which steps there are; what a model is built with, where it is not trained and has no defaults.
STEPS: dict[str, tuple[str, dict[str, int | float | bool], str]] = {
    "autoencoder.dl": ("Autoencoder", {}, "fit"),
    "dbn.dl": ("DBN", {}, "pretrain1 pretrain2 pretrain3 fine_tune"),
    "lenet5.dl": ("LeNet5", {}, "fit"),
    "lstm.dl": ("CharModel", {}, "fit"),
    "masked_words.dl": ("MaskedWords", {"words": 1000, "depth": 2}, "fit"),
    "plain_lenet5.dl": ("PlainLeNet5", {}, "fit"),
    "rbm.dl": ("RBM", {"visible": 784, "hidden": 500}, "contrast"),
    "sparse_coding.dl": ("SparseCoding", {}, "learn"),
    "text_classifier.dl": ("BagOfWords", {"words": 1000, "classes": 4}, "fit"),
    "word2vec.dl": ("SkipGram", {"words": 1000}, "fit"),
    "zoo/decoder.dl": ("Decoder", {}, "fit"),
    "zoo/dqn.dl": ("DQN", {}, "follow fit"),
    "zoo/hmm.dl": ("HMM", {}, "fit"),
    "zoo/maml.dl": ("MAML", {}, "fit"),
    "zoo/unet.dl": ("UNet", {}, "fit"),
    "zoo/wgan.dl": ("WGAN", {}, "judge fool fit"),
}


@pytest.mark.parametrize("file", STEPS)
def test_a_step_takes_little_more_than_is_alive_in_it(file: str) -> None:
    model, given, names = STEPS[file]
    build = Build(EXAMPLES / file)
    built = build.model(model, {**build.program().trained.get(model, {}), **given})
    steps = [name for name, each in built.record.functions.items()
             if each.kind == "step" and "." not in name]
    assert steps == names.split()
    for name in steps:
        found = footprint(*plan(built.graph(name), built.options(name)))
        assert found.alive <= found.peak <= MOST * found.alive


def test_all_examples_that_train_are_here() -> None:
    train = [file for file in EXAMPLES.rglob("*.dl") if "\n    step " in file.read_text()]
    assert {str(file.relative_to(EXAMPLES)) for file in train} == STEPS.keys()
