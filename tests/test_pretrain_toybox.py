import json

import numpy as np
import pytest
from transformers import CLIPTokenizer

from sbir_jax.data.toybox import world
from tools import toybox_losses, toybox_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    size = toybox_tokenizer.make_tokenizer(folder)
    made = CLIPTokenizer.from_pretrained(folder)
    assert len(made) == size
    return made


def test_every_toybox_word_is_one_token(tokenizer):
    for word in world.VOCABULARY:
        ids = tokenizer(word)["input_ids"]
        assert len(ids) == 3, (word, tokenizer.convert_ids_to_tokens(ids))


def test_any_other_text_can_be_read_and_comes_back(tokenizer):
    for text in ("zeppelin", "42 cats!", "größe"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids[1:-1]
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        assert decoded.replace(" ", "") == text.replace(" ", "")


def test_a_tokenizer_that_is_there_is_kept(tmp_path):
    count = toybox_tokenizer.make_tokenizer(tmp_path)
    path = tmp_path / "vocab.json"
    swapped = json.loads(path.read_text())
    swapped["of</w>"], swapped["an</w>"] = swapped["an</w>"], swapped["of</w>"]
    path.write_text(json.dumps(swapped))
    assert toybox_tokenizer.make_tokenizer(tmp_path) == count
    assert json.loads(path.read_text()) == swapped


def test_short_texts_are_padded_to_77(tokenizer):
    ids = tokenizer(
        "a red mug", padding="max_length", max_length=tokenizer.model_max_length
    )["input_ids"]
    assert len(ids) == 77
    assert ids[0] == tokenizer.bos_token_id and ids[4] == tokenizer.eos_token_id


def test_images_keep_their_range():
    pixels = np.array([0, 255], np.uint8)
    np.testing.assert_allclose(toybox_losses.to_float(pixels), [-1.0, 1.0])


def test_a_larger_tokenizer_keeps_what_the_text_encoder_knows(tokenizer, tmp_path):
    import pathlib
    import shutil

    new = pathlib.Path(tokenizer.name_or_path)
    old = tmp_path / "old"
    shutil.copytree(new, old)
    known = toybox_tokenizer.read_vocabulary(old)
    gone = "teapot</w>"
    merges = (old / "merges.txt").read_text().splitlines()
    kept = [m for m in merges if "".join(m.split()) != gone]
    (old / "merges.txt").write_text("\n".join([*kept, ""]))
    fewer = [token for token in known if token != gone]
    (old / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(fewer)}))
    assert toybox_tokenizer.knows_all_words(new)
    assert not toybox_tokenizer.knows_all_words(old)
    rows = np.random.default_rng(0).standard_normal((len(fewer), 3))
    found = toybox_tokenizer.carry_over(rows, old, new)
    for token in ("mug</w>", "<|startoftext|>", "<|endoftext|>"):
        np.testing.assert_array_equal(found[known[token]], rows[fewer.index(token)])
    pieces = CLIPTokenizer.from_pretrained(old).tokenize("teapot")
    assert len(pieces) > 1
    expected = rows[[fewer.index(piece) for piece in pieces]].mean(0)
    np.testing.assert_allclose(found[known[gone]], expected)
