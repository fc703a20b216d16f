"""Device and precision are chosen once, and say why."""

import pytest
import torch

from backend.device import choose_placement
from feature_store.errors import InputError


def test_the_default_is_float32_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    place = choose_placement()
    assert (place.device.type, place.dtype) == ("cpu", torch.float32)
    assert place.why == "Runs on cpu in float32, since there is no CUDA device here."


def test_half_precision_only_when_asked() -> None:
    assert choose_placement("cpu", "bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("device", "dtype", "says"),
    [
        ("tpu", None, "No device 'tpu' here. There are: cpu"),
        ("cuda:99", None, "No device 'cuda:99' here. There are: cpu"),
        (None, "float8", "No dtype called 'float8'. Did you mean 'float32'? There are: bfloat16"),
    ],
)
def test_bad_names_list_what_works(device: str | None, dtype: str | None, says: str) -> None:
    with pytest.raises(InputError) as bad:
        choose_placement(device, dtype)
    assert str(bad.value).startswith(says)
