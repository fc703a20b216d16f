"""A key goes to the one URL that it belongs to, and is written down nowhere."""

import logging
from pathlib import Path

import duckdb
import pytest

from autointerp.llm import LlmServer, find_server, load_servers
from autointerp.llm.server_settings import normalize_base_url, read_servers_file
from autointerp.llm.token_prices import FREE_PRICE, TokenPrice, find_price, load_prices
from feature_store.errors import InputError
from tests import openai_server as server
from tests.asking import ask, one, question
from tests.openai_server import Body, Fault, Said, always, serve

KEY = "sk-secret-4711"
GOOD = '{"answers": [1, 0]}'


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SAEFARI_SERVERS", "SAEFARI_PRICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def write(text: str) -> None:
        (tmp_path / "servers.toml").write_text(text)
        monkeypatch.setenv("SAEFARI_SERVERS", str(tmp_path / "servers.toml"))

    return write


def test_the_file_of_servers(configure) -> None:
    configure("""
        [servers.lab]
        base_url = "HTTP://gpu7:80/v1/"
        key_env = "LAB_KEY"
        models = ["llama"]
        logprobs = false
        concurrency = 4
        timeout_s = 30
        thinking = 500
        [servers.here]
        base_url = "http://localhost:8000/v1"
    """)
    lab = LlmServer(
        "lab", "http://gpu7/v1", "LAB_KEY", ("llama",), True, False, 4, 30, thinking=500
    )
    assert load_servers() == {"lab": lab, "here": LlmServer("here", "http://localhost:8000/v1")}
    assert not lab.loopback and load_servers()["here"].loopback


def test_the_environments_key_belongs_to_the_environments_url(monkeypatch) -> None:
    assert load_servers() == {}
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert load_servers()["openai"].base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1234/v1/")
    assert load_servers()["openai"] == LlmServer(
        "openai", "http://localhost:1234/v1", "OPENAI_API_KEY"
    )


@pytest.mark.parametrize(
    "url", ["http://gpu7/v1/", "http://GPU7:80/v1", " http://gpu7/v1", "HTTP://gpu7/v1"]
)
def test_the_same_url_gets_the_key(url: str) -> None:
    lab = LlmServer("lab", "http://gpu7/v1", "LAB_KEY")
    assert find_server(url, {"lab": lab}) is lab


@pytest.mark.parametrize(
    "url",
    [
        "http://gpu7/v2",
        "https://gpu7/v1",
        "http://gpu7:8000/v1",
        "http://gpu7x/v1",
        "http://gpu7/v1/more",
        "http://gpu70/v1",
    ],
)
def test_every_other_url_gets_none(url: str) -> None:
    assert find_server(url, {"lab": LlmServer("lab", "http://gpu7/v1", "LAB_KEY")}).key_env == ""


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpu7/v1",
        "ftp://gpu7/v1",
        "http://",
        "http://gpu7/v1?key=1",
        "http://[::1/v1",
        "http://gpu7:port/v1",
        "http://me:secret@gpu7/v1",
    ],
)
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(InputError, match="base URL"):
        normalize_base_url(url)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[servers.a]", "needs base_url"),
        ('[servers.a]\nbase_url = "http://a/v1"\nkey = "x"', "unknown setting 'key'"),
        (
            '[servers.a]\nbase_url = "http://a/v1"\nconcurrency = 0',
            "concurrency = 0: it must be greater",
        ),
        ('[servers.a]\nbase_url = "http://a/v1"\nconcurrency = true', "it must be a whole number"),
        (
            '[servers.a]\nbase_url = "http://a/v1"\nthinking = -1',
            "thinking = -1: it must be greater",
        ),
        ('[servers.a]\nbase_url = "a"', "no base URL"),
        ("servers = 3", "has no"),
        ("[", "cannot be read as TOML"),
    ],
)
def test_mistakes_in_the_file(configure, text: str, words: str) -> None:
    configure(text)
    with pytest.raises(InputError, match=words):
        load_servers()


def test_a_file_that_is_not_there(monkeypatch) -> None:
    monkeypatch.setenv("SAEFARI_SERVERS", "/nowhere/servers.toml")
    with pytest.raises(InputError, match="no such file"):
        load_servers()


@pytest.fixture
def tempting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment full of secrets that the openai package would send to anybody."""
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer {KEY}\nX-Other: {KEY}")
    monkeypatch.setenv("LAB_KEY", "lab-key-1")


def test_a_server_without_a_key_gets_none(tempting: None, tmp_path: Path) -> None:
    with serve(always(GOOD)) as running:
        one(running.base_url, tmp_path / "a.duckdb")
    (headers,) = running.headers
    assert "authorization" not in headers and KEY not in str(headers)


def test_a_server_gets_its_own_key_and_no_other(tempting: None, tmp_path: Path) -> None:
    with serve(always(GOOD)) as running:
        one(running.base_url, tmp_path / "a.duckdb", key_env="LAB_KEY")
    (headers,) = running.headers
    assert headers["authorization"] == "Bearer lab-key-1" and KEY not in str(headers)


def test_a_key_is_written_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the server repeats it in replies and in errors of every kind."""
    monkeypatch.setenv("LAB_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    logprobs = server.logprobs([(KEY, {KEY: -0.1})])
    leaks = {
        "0": Said(f"I saw {KEY}", logprobs),
        "1": Fault(401, message=KEY),
        "2": Fault(429, code=KEY),
        "3": Fault(500, message=KEY),
        "4": Fault(400, message=KEY),
        "5": Said("", refusal=KEY),
    }

    def rule(body: Body) -> Said | Fault:
        return leaks[server.asked(body)]

    notes: list[str] = []
    with serve(rule) as running:
        wanted = [question(name, schema=None, logprobs=1) for name in leaks]
        path = tmp_path / "jobs" / "a.duckdb"
        answers = ask(running.base_url, path, wanted, key_env="LAB_KEY", notes=notes)
        assert all(h["authorization"] == f"Bearer {KEY}" for h in running.headers)
    assert answers[0].text == "I saw [key]" and answers[1].kind == "unauthorized"
    said = [*map(repr, answers), *notes, caplog.text]
    assert [text for text in said if KEY in text] == []
    with duckdb.connect(str(path), read_only=True) as db:  # what it holds may be compressed
        for table in ("attempt", "outcome"):
            assert KEY not in str(db.execute(f"SELECT * FROM {table}").fetchall())
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert written and [p for p in written if KEY.encode() in p.read_bytes()] == []


def test_a_key_that_is_not_set(tmp_path: Path) -> None:
    with serve(always(server.UNAUTHORIZED)) as running:
        failed = one(running.base_url, tmp_path / "a.duckdb", key_env="NOT_SET_KEY")
    assert failed.kind == "no key" and "NOT_SET_KEY is not set" in failed.sentence


def test_prices_and_who_is_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('[mine]\ninput = 1\noutput = 2.5\n["gpt-4o"]\ninput = 9\noutput = 9\n')
    assert load_prices() == {}  # none are shipped
    monkeypatch.setenv("SAEFARI_PRICES", str(own))
    table = load_prices()
    far, near = LlmServer("a", "https://a/v1"), LlmServer("b", "http://127.0.0.1:1/v1")
    assert find_price("mine", far, table) == TokenPrice(1, 2.5)
    assert (
        find_price("gpt-4o-2024-08-06", far, table)
        == find_price("gpt-4o", far, table)
        == TokenPrice(9, 9)
    )
    assert (
        find_price("gpt-4o-mini", far, table) is None
        and find_price("unheard-of", far, table) is None
    )
    assert (
        find_price("unheard-of", near, table) == FREE_PRICE
        and find_price("mine", near, table) != FREE_PRICE
    )
    assert find_price("mine", LlmServer("a", "https://a/v1", free=True), table) == FREE_PRICE
    assert TokenPrice(2.0, 8.0).cost_of(1_000_000, 500_000) == 6.0


@pytest.mark.parametrize(
    "text",
    [
        "[m]\ninput = 1",
        "m = 1",
        "[m]\ninput = -1\noutput = 1",
        '[m]\ninput = "1"\noutput = 1',
        "[m]\ninput = true\noutput = 1",
    ],
)
def test_mistakes_in_prices(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(text)
    monkeypatch.setenv("SAEFARI_PRICES", str(tmp_path / "prices.toml"))
    with pytest.raises(InputError, match="dollars for a million tokens"):
        load_prices()


BAD_SETTINGS = [
    "nan",
    "inf",
    "-1",
    "2.5",
    "true",
    '""',
    '"x"',
    "[]",
    "[1]",
    "{}",
    "2026-01-01",
    "9" * 30,
]
SOUND = {
    "base_url": set(),
    "models": {"[]"},
    "structured": {"true"},
    "logprobs": {"true"},
    "text_limits": {"true"},
    "free": {"true"},
    "concurrency": set(),
    "timeout_s": {"2.5"},
    "thinking": set(),
    "context_tokens": set(),
    "key_env": {'""', '"x"'},
}


@pytest.mark.parametrize("setting", SOUND)
def test_every_setting_has_its_type_and_range(setting: str, tmp_path: Path) -> None:
    """What a setting cannot be is refused with its name; nothing passes by being no number."""
    path = tmp_path / "servers.toml"
    for value in BAD_SETTINGS:
        base = "" if setting == "base_url" else 'base_url = "http://a/v1"\n'
        path.write_text(f"[servers.a]\n{base}{setting} = {value}\n")
        if value in SOUND[setting]:
            assert read_servers_file(path)
            continue
        with pytest.raises(InputError) as caught:
            read_servers_file(path)
        assert setting in str(caught.value) or "base URL" in str(caught.value), value
        assert "[servers.a]" in str(caught.value) or "base URL" in str(caught.value), value
