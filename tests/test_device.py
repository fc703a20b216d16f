"""Device and precision are chosen once, and say why."""

import pytest
import torch

from backend.model import device
from backend.model.device import choose_placement
from feature_store.errors import InputError


def test_the_default_is_float32_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    place = choose_placement()
    assert (place.device.type, place.dtype) == ("cpu", torch.float32)
    assert place.why == "Runs on cpu in float32, since there is no CUDA device here."


def test_half_precision_only_when_asked() -> None:
    assert choose_placement("cpu", "bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("place", "dtype", "says"),
    [
        ("tpu", None, "This machine has no device 'tpu'. It has: cpu"),
        ("cuda:99", None, "This machine has no device 'cuda:99'. It has: cpu"),
        (None, "float8", "No dtype called 'float8'. Did you mean 'float32'? There are: bfloat16"),
    ],
)
def test_bad_names_list_what_works(place: str | None, dtype: str | None, says: str) -> None:
    with pytest.raises(InputError) as bad:
        choose_placement(place, dtype)
    assert str(bad.value).startswith(says)


def test_a_precision_that_is_slower_here_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor without units for bfloat16."""
    took = {torch.bfloat16: 0.005, torch.float32: 0.001}
    monkeypatch.setattr(device, "time_matrix_product", took.__getitem__)
    device.measure_dtype_slowdown.cache_clear()
    assert "takes 5.0 times as long as in float32" in choose_placement("cpu", "bfloat16").why
    assert "times as long" not in choose_placement("cpu", "float32").why
    took[torch.bfloat16] = 0.0011
    device.measure_dtype_slowdown.cache_clear()
    assert "times as long" not in choose_placement("cpu", "bfloat16").why
    device.measure_dtype_slowdown.cache_clear()


def test_the_slowdown_is_measured() -> None:
    device.measure_dtype_slowdown.cache_clear()
    assert 0.01 < device.measure_dtype_slowdown(torch.device("cpu"), torch.bfloat16) < 1000
    assert device.measure_dtype_slowdown(torch.device("cpu"), torch.float32) == 1
