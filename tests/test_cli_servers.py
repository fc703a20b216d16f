"""`saefari servers`: the list of servers, and the capabilities of one."""

import json
from pathlib import Path

import pytest

from app.jobs.asking import Asking, settle
from autointerp.llm.server_presets import SERVER_PRESETS
from autointerp.llm.server_settings import find_server, load_servers, normalize_base_url
from feature_store.errors import InputError
from tests.commands import answer, refusal
from tests.openai_server import Body, Fault, Said, logprobs, serve

KEY = "sk-secret-4711-abcdefghijklmnop"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENROUTER_API_KEY", "SAEFARI_PRICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SAEFARI_SERVERS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    (tmp_path / "servers.toml").write_text(text)
    monkeypatch.setenv("SAEFARI_SERVERS", str(tmp_path / "servers.toml"))


@pytest.mark.parametrize("name", SERVER_PRESETS)
def test_a_preset_is_a_server_by_its_name(name: str) -> None:
    server = find_server(name, {})
    assert server.name == name and normalize_base_url(server.base_url) == server.base_url
    assert SERVER_PRESETS[name].title and SERVER_PRESETS[name].start


def test_only_presets_that_were_tried_are_called_so() -> None:
    """Against both of these the replies in tests/replies were recorded."""
    assert {name for name, one in SERVER_PRESETS.items() if one.verified} == {
        "llamacpp",
        "transformers",
    }


def test_a_job_keeps_a_presets_settings() -> None:
    asking = settle(Asking("transformers", "m"))
    assert asking.server == SERVER_PRESETS["transformers"].server


def test_a_table_may_begin_with_a_preset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = '[servers.lab]\npreset = "ollama"\nbase_url = "http://gpu7:11434/v1"\ntimeout_s = 9\n'
    configure(monkeypatch, tmp_path, text)
    lab = load_servers()["lab"]
    assert (lab.name, lab.base_url, lab.timeout_s) == ("lab", "http://gpu7:11434/v1", 9)
    assert lab.context_tokens == SERVER_PRESETS["ollama"].server.context_tokens and lab.free
    configure(monkeypatch, tmp_path, '[servers.lab]\npreset = "olama"\n')
    with pytest.raises(InputError, match="no preset 'olama'.*ollama"):
        load_servers()


def test_the_list_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    text = '[servers.lab]\nbase_url = "http://gpu7/v1"\nkey_env = "LAB_KEY"\n'
    configure(monkeypatch, tmp_path, text)
    for words in (["servers"], ["servers", "--json"]):
        shown = answer(words, capsys)
        assert "lab" in shown and "LAB_KEY" in shown and KEY not in shown
        assert all(name in shown for name in SERVER_PRESETS)
    entries = {entry["name"]: entry for entry in json.loads(shown)}
    assert entries["lab"]["key_set"] and not entries["vllm"]["verified"]


def test_a_key_in_place_of_its_variables_name_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    text = f'[servers.lab]\nbase_url = "http://gpu7/v1"\nkey_env = "{KEY}"\n'
    configure(monkeypatch, tmp_path, text)
    said = refusal(["servers"], capsys)
    assert "name of an environment variable" in said and KEY not in said


def good(body: Body) -> str | Said:
    """Keeps to schemas and their bounds, gives log probabilities, and the same to one seed."""
    fields = body["response_format"]["json_schema"]["schema"]["properties"]
    if "answers" in fields:
        tops = {"1": -0.1, "0": -2.4} | {f"x{i}": -5.0 - i for i in range(18)}
        each = [("1", tops), (",", {",": -0.1})] * 5
        return Said('{"answers": [1, 1, 1, 1, 1]}', logprobs(each), 160, 12)
    return Said(json.dumps({"explanation": "word " * 12}), tokens_in=120, tokens_out=30)


def prose(body: Body) -> str:
    return "I think that the first text is about a cat."


def checked(words: list[str], capsys: Capture) -> dict:
    return json.loads(answer(["servers", "check", *words, "--json"], capsys))


def test_a_check_of_a_good_server(capsys: Capture) -> None:
    with serve(good) as running:
        found = checked([running.base_url], capsys)
        shown = answer(["servers", "check", running.base_url, "--model", "m"], capsys)
        assert running.calls == 6  # two questions, one of them twice
    assert found["model"] == "m" and found["schema"] and found["text_limits"] and found["seeds"]
    assert found["candidates"] == 20 and found["counts_tokens"]
    assert found["cost_of_100"] == {"explain": 0.0, "score by detection": 0.0}
    assert "100 features" in shown and "enforced" in shown


def test_a_check_of_a_server_that_ignores_schemas(capsys: Capture) -> None:
    with serve(prose) as running:
        found = checked([running.base_url], capsys)
        shown = answer(["servers", "check", running.base_url], capsys)
    assert not found["schema"] and not found["text_limits"] and found["candidates"] == 0
    assert "ignored" in shown and "none: answers are yes or no" in shown


def test_a_check_says_what_is_refused(capsys: Capture) -> None:
    with serve(good, offers=frozenset({"response_format"})) as running:
        found = checked([running.base_url], capsys)
    assert any("no log probabilities" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda body: Fault(401, message=KEY), "requires an API key"),
        (lambda body: Fault(404, message="no such model"), "knows no model"),
        (lambda body: Fault(500, message="out of memory"), "out of memory"),
    ],
)
def test_a_check_of_a_server_that_does_not_answer(rule, words: str, capsys: Capture) -> None:
    with serve(rule) as running:
        said = refusal(["servers", "check", running.base_url, "--model", "m"], capsys)
    assert words in said


def test_a_check_wants_a_model_where_there_are_several(capsys: Capture) -> None:
    with serve(good, models=("a", "b")) as running:
        said = refusal(["servers", "check", running.base_url], capsys)
        assert "--model" in said and "a, b" in said
    assert (
        "nothing answers"
        in refusal(["servers", "check", running.base_url, "--model", "a"], capsys).lower()
    )
