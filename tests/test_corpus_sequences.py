"""A plan feeds every document's own tokens, once, up to a budget, on one side of the split."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from backend.corpus import Corpus, Document, SequencePlan, open_corpus, plan_sequences
from feature_store.errors import InputError
from tests.models import SPECIAL, tokenizer
from tests.test_corpus_groups import documents, texts

BOS, EOS = 0, 1


class Words:
    """`12` is token 12, `</s>` the special token 1; keeps no state."""

    def __call__(self, text: list[str], **how: bool) -> dict[str, list[list[int]]]:
        specials = {} if how["split_special_tokens"] else {"<s>": BOS, "</s>": EOS}
        found = [re.findall(r"<s>|</s>|\w+", one) for one in text]
        return {"input_ids": [[specials.get(w) or self.id(w) for w in one] for one in found]}

    def id(self, word: str) -> int:
        if word in ("<s>", "</s>"):
            return BOS if word == "<s>" else 2
        return int(word) if word.isdecimal() else 3 + sum(word.encode()) % 5000


def corpus(found: list[Document]) -> Corpus:
    return Corpus("test", lambda: iter(found))


def numbers(*lengths: int) -> list[Document]:
    """Documents of so many words, every word of the corpus another number from 10 on."""
    borders = [10 + sum(lengths[:i]) for i in range(len(lengths) + 1)]
    return documents([" ".join(map(str, range(a, b))) for a, b in pairwise(borders)])


def planned(folder: Path, found: list[Document], **how) -> SequencePlan:
    how = {"context_size": 16, "tokens": 10**6, "bos": BOS, "special_ids": {BOS, EOS}} | how
    return plan_sequences(corpus(found), Words(), folder, **how)


def ids_of(found: list[Document]) -> list[list[int]]:
    return [Words()([d.text], split_special_tokens=True)["input_ids"][0] for d in found]


LENGTHS = [3, 15, 16, 18, 19, 40, 100] * 6


def starts_of(plan: SequencePlan, i: int) -> list[tuple[int, int, int]]:
    """(position in the sequence, document, token of the document) of each segment of `i`."""
    some = plan.segment_sequence == i
    columns = (plan.segment_position, plan.segment_document, plan.segment_start)
    return list(zip(*(column[some].tolist() for column in columns), strict=True))


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("bos", [BOS, None])
def test_every_token_is_where_the_plan_says(tmp_path, pack: bool, bos: int | None) -> None:
    """No token twice, none in another document's place; only short remainders are missing."""
    found = numbers(*LENGTHS)
    plan = planned(tmp_path, found, pack=pack, bos=bos)
    want, seen = ids_of(found), []
    for i in range(plan.n_sequences):
        tokens = plan.tokens(i)
        assert len(tokens) <= 16
        assert bos is None or tokens[0] == BOS
        starts = starts_of(plan, i)
        assert starts[0][0] == (bos is not None)
        ends = [position for position, _, _ in starts[1:]] + [len(tokens)]
        for (position, document, start), end in zip(starts, ends, strict=True):
            piece = tokens[position:end].tolist()
            assert piece == want[document][start : start + len(piece)]
            seen += piece
    assert len(set(seen)) == len(seen) == plan.n_tokens
    missing = set(sum(want, [])) - set(seen)
    assert len(missing) <= 3 * len(found)
    assert pack or (np.diff(plan.document) >= 0).all()


def test_unpacked_cuts(tmp_path) -> None:
    """15 fit behind BOS; a remainder of 3 is dropped, of 4 kept, a short document is kept."""
    plan = planned(tmp_path, numbers(*LENGTHS))
    cuts = [plan.length[plan.document == i].tolist() for i in range(7)]
    assert cuts == [[4], [16], [16], [16], [16, 5], [16, 16, 11], [16] * 6 + [11]]
    assert plan.n_documents == len(LENGTHS)
    assert plan.document_ids[5] == "d5"


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("tokens", [1, 7, 300, 301])
@pytest.mark.parametrize("lengths", [LENGTHS, [700], [60, 500]])
def test_the_budget_is_met_exactly(tmp_path, tokens: int, pack: bool, lengths: list[int]) -> None:
    plan = planned(tmp_path, numbers(*lengths), tokens=tokens, pack=pack)
    fed = np.concatenate([plan.tokens(i) for i in range(plan.n_sequences)])
    assert plan.n_tokens == tokens == (fed > EOS).sum()


def test_sequences_follow_their_documents_split(tmp_path) -> None:
    """Packed or not; copies share a side."""
    found = documents(texts(60) * 2)
    for pack in (False, True):
        plan = planned(tmp_path, found, pack=pack)
        sides: dict[int, set[int]] = {}
        for i in range(plan.n_sequences):
            for _, document, _ in starts_of(plan, i):
                sides.setdefault(document % 60, set()).add(int(plan.split[i]))
        assert [len(side) for side in sides.values()] == [1] * 60
        assert 0.25 < plan.split.mean() < 0.75
    assert plan.warnings[0] == (
        "Documents are packed: tokens can attend across the border to the previous document."
    )


@pytest.mark.parametrize("pack", [False, True])
def test_few_documents_are_split_by_blocks_with_a_gap(tmp_path, pack: bool) -> None:
    plan = planned(tmp_path, numbers(1000, 500), pack=pack)
    side = np.full(1510, -1)
    for i in range(plan.n_sequences):
        side[plan.tokens(i)[1:]] = plan.split[i]
    for own in (side[10:1010], side[1010:]):
        where = [np.flatnonzero(own == split) for split in (0, 1)]
        assert min(map(len, where)) > 100
        assert np.abs(where[0][:, None] - where[1][None, :]).min() > 16
    assert plan.warnings[0] == (
        "Only 2 documents: both splits hold parts of the same documents, in blocks of 12 "
        "sequences separated by gaps of 16 tokens."
    )


def test_blocks_divide_copies_alike(tmp_path) -> None:
    """Two near copies of few documents: no word is shown on one side and asked on the other."""
    (text,) = texts(1, 600)
    plan = planned(tmp_path, documents([text, "well " + text]))
    side = np.full((2, 601), -1)
    for i in range(plan.n_sequences):
        _, document, start = starts_of(plan, i)[0]
        side[document, start : start + plan.length[i] - 1] = plan.split[i]
    first, second = side[0, :600], side[1, 1:]
    both = (first >= 0) & (second >= 0)
    assert both.sum() > 400
    assert (first[both] == second[both]).all()


def test_templates_are_never_cut_in_two(tmp_path) -> None:
    found = documents(texts(5), template="t") + documents(texts(5, seed=1), template="u")
    plan = planned(tmp_path, found)
    assert {(d >= 5, s) for d, s in zip(plan.document, plan.split, strict=True)} == {
        (False, plan.split[0]),
        (True, 1 - plan.split[0]),
    }
    assert plan.warnings[0] == (
        "Only 2 groups of documents once copies and texts of one template are joined: the "
        "splits are coarse and uneven."
    )


def test_templates_are_never_cut_in_two_beside_a_text_in_blocks(tmp_path) -> None:
    plan = planned(tmp_path, [*documents(texts(2, 300), template="t"), *numbers(900)])
    sides = [set(plan.split[plan.document == i].tolist()) for i in range(3)]
    assert sides[0] == sides[1]
    assert [len(side) for side in sides] == [1, 1, 2]


def test_few_short_documents_are_dealt_to_both_sides(tmp_path) -> None:
    assert sorted(planned(tmp_path, documents(texts(6, 10))).split) == [0, 0, 0, 1, 1, 1]


def test_the_same_inputs_give_the_same_bytes(tmp_path) -> None:
    found = documents(texts(50))
    plans = [planned(tmp_path / name, found, pack=True, tokens=3000) for name in "ab"]
    files = [{p.name: p.read_bytes() for p in plan.folder.iterdir()} for plan in plans]
    assert files[0] == files[1]
    assert plans[0].digest != planned(tmp_path / "c", found, pack=True, tokens=2999).digest
    again = SequencePlan.load(tmp_path / "a")
    assert again.document_ids == plans[0].document_ids
    assert again.special_ids == {BOS, EOS}
    assert (again.every_token == plans[1].every_token).all()


def test_an_unfinished_plan_is_not_loaded(tmp_path) -> None:
    planned(tmp_path, numbers(50))
    (tmp_path / "plan.json").unlink()
    assert not SequencePlan.complete(tmp_path)
    with pytest.raises(InputError) as refused:
        SequencePlan.load(tmp_path)
    said = f"'{tmp_path}' contains no complete sequence plan; run the harvest again."
    assert str(refused.value) == said


def test_special_tokens_in_a_text_stay_text(tmp_path) -> None:
    """With a tokenizer of transformers, whose default would make them special."""
    fast = tokenizer()
    found = documents([f"the cat {special} sat" for special in SPECIAL] * 10)
    assert fast([found[0].text], add_special_tokens=False)["input_ids"][0][2] == BOS
    plan = plan_sequences(
        corpus(found), fast, tmp_path, context_size=16, tokens=10**6, bos=BOS, special_ids=range(3)
    )
    for i in range(plan.n_sequences):
        assert not np.isin(plan.tokens(i)[1:], [0, 1, 2]).any()
    assert not any("special token" in warning for warning in plan.warnings)


def test_special_tokens_of_a_chat_template_are_special(tmp_path) -> None:
    """Fed, but not counted; the template's own BOS does not come twice."""
    found = [Document(f"d{i}", f"<s> {i} 11 12 13 </s> 14", rendered=True) for i in range(10, 40)]
    plan = planned(tmp_path, found)
    assert plan.tokens(0).tolist() == [BOS, 10, 11, 12, 13, EOS, 14]
    assert plan.n_tokens == 30 * 5


def test_special_tokens_made_in_spite_of_all_are_reported(tmp_path) -> None:
    plan = planned(tmp_path, documents([f"1 {t}" for t in texts(30)]))
    assert "30 special tokens came from the corpus's own text." in plan.warnings


def test_a_short_corpus_and_a_lopsided_one_say_so(tmp_path) -> None:
    plan = planned(tmp_path, [*numbers(*[20] * 30), *documents(texts(1, 20_000))])
    assert plan.warnings[0] == "The corpus gave 20,600 tokens, fewer than the 1,000,000 requested."
    assert re.fullmatch(r"Only \d\.\d% of the tokens are in split '\w+'\.", plan.warnings[1])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"tokens": 0}, "The number of tokens must be at least 1, not 0."),
        ({"tokens": -5}, "The number of tokens must be at least 1, not -5."),
        (
            {"context_size": 1},
            "context_size must be at least 2, not 1: BOS takes one position.",
        ),
        (
            {"d_vocab": 12},
            "The tokenizer gives token id 59, but the model has only 12 tokens; use the "
            "model's own tokenizer.",
        ),
        (
            {"special_ids": range(100)},
            "Corpus 'test' contains no token that counts: only BOS and special tokens.",
        ),
    ],
)
def test_what_cannot_be_planned(tmp_path, how: dict, said: str) -> None:
    with pytest.raises(InputError) as refused:
        planned(tmp_path, numbers(50), **how)
    assert str(refused.value) == said
    assert not SequencePlan.complete(tmp_path)


def test_real_text_and_tokenizer(real: Path, tmp_path) -> None:
    """Real stories keep their text through tokens and cuts, and special strings stay text."""
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(real / "stories3m")
    stories = open_corpus(str(real / "text" / "tinystories_validation_part.jsonl"))
    plan = plan_sequences(
        stories, fast, tmp_path, context_size=512, tokens=50_000, bos=1, special_ids={0, 1, 2}
    )
    first = next(iter(stories))
    assert fast.decode(plan.tokens(0)[1:].tolist()).strip() == first.text.strip()
    assert plan.n_tokens == 50_000
    spelt = fast(["<s> a </s>"], add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert not {0, 1, 2} & {*spelt[0]}
