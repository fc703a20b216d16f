"""What fires on a text: ranked as by hand, over all of it or a part; and how long a text may be."""

import numpy as np
import pytest

from app import firing
from backend.engine_protocol import TextActivations, TokenizedText
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from tests.stores import DEAD, make_store

READ = TokenizedText([0, 2, 3, 4, 2], [False, True, True, True, True])


class Words:
    """An engine that reads ten words at most."""

    def read(self, text: str) -> TokenizedText:
        if not 0 < len(text.split()) <= 10:
            raise InputError("too long")
        return TokenizedText([1] * len(text.split()), [True] * len(text.split()))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> HarvestFile:
    return make_store(tmp_path_factory.mktemp("firing") / "store").harvest()


def drawn(seed: int = 0) -> TextActivations:
    """Activations of either sign on half of all (position, feature)."""
    rng = np.random.default_rng(seed)
    position, feature = np.nonzero(rng.random((5, 40)) < 0.5)
    return TextActivations(position, feature, rng.normal(size=len(position)).astype(np.float32))


@pytest.mark.parametrize("where", [(0, 4), (2, 3), (4, 4)])
def test_each_feature_at_its_strongest_as_by_hand(file: HarvestFile, where) -> None:
    one, want = drawn(), {}
    for p, f, v in zip(one.position, one.feature, one.value, strict=True):
        if p and where[0] <= p <= where[1] and abs(v) > abs(want.get(f, (0, 0))[0]):
            want[f] = (v, p)
    found = firing.strongest(file, READ, {"abs": one}, where)
    assert {hit.feature: (hit.value, hit.position) for hit in found} == want


def test_ranks_are_activation_share_and_rarity(file: HarvestFile) -> None:
    one = TextActivations(np.array([1, 1]), np.array([3, DEAD]), np.array([-2.0, 9.0]))
    live, dead = firing.strongest(file, READ, {"abs": one}, (0, 4))
    assert live.max_act is not None and live.share == pytest.approx(2 / live.max_act)
    assert live.rank("activation") == 2 and live.rank("relative") == live.share
    assert live.rank("rare") == pytest.approx(live.share * -np.log(live.density))
    assert dead.share is None and dead.rank("relative") == 0 and dead.rank("activation") == 9


@pytest.mark.parametrize(
    ("at", "want"), [("", (0, 4)), ("0", (0, 0)), ("3", (3, 3)), ("1-4", (1, 4))]
)
def test_a_selection_is_positions(at: str, want: tuple[int, int]) -> None:
    assert firing.span(at, READ) == want


@pytest.mark.parametrize("at", ["5", "2-9", "3-1", "-1", "luck", "1-", "٣", "99999999"])
def test_what_is_no_selection_is_refused(at: str) -> None:
    with pytest.raises(InputError, match="is no position of this text: it has 0 to 4"):
        firing.span(at, READ)


def test_a_long_text_is_cut_at_a_word() -> None:
    text = " ".join(f"word{i}" for i in range(30))
    assert firing.fitting(Words(), text) == " ".join(f"word{i}" for i in range(10))
    assert firing.fitting(Words(), "a b c") == "a b c"
    longest = firing.fitting(Words(), "x" * (firing.LONGEST + 5))
    assert longest == "x" * firing.LONGEST
