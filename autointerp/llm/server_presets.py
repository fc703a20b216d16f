"""Presets: ready-made settings for common language-model servers (OpenAI, vLLM, llama.cpp, Ollama,
…), each under one name."""

from collections.abc import Mapping
from dataclasses import dataclass

from autointerp.llm.server_settings import OPENAI_URL, LlmServer


@dataclass(frozen=True)
class ServerPreset:
    """Preset of one kind of server: its settings, how to start it, and what users should know about
    it."""

    title: str
    server: LlmServer
    """The usual URL and settings of the server; each can be changed in servers.toml."""
    start: str
    """Command that starts the server, or where its API key comes from."""
    verified: bool
    """Whether this preset was tried with the real server; otherwise it follows the server's
    documentation."""
    notes: str = ""
    """What users should know about the server."""


SERVER_PRESETS: Mapping[str, ServerPreset] = {
    "openai": ServerPreset(
        "OpenAI",
        LlmServer("openai", OPENAI_URL, "OPENAI_API_KEY", text_limits=False),
        "set OPENAI_API_KEY",
        verified=False,
        notes="Follows JSON schemas, but refuses text lengths in them. Models that reason "
        "give no log probabilities and accept no temperature.",
    ),
    "vllm": ServerPreset(
        "vLLM",
        LlmServer("vllm", "http://localhost:8000/v1", concurrency=64, free=True),
        "vllm serve MODEL",
        verified=False,
        notes="Follows JSON schemas. Reports its context size.",
    ),
    "llamacpp": ServerPreset(
        "llama.cpp",
        LlmServer("llamacpp", "http://localhost:8080/v1", free=True),
        "llama-server -m MODEL.gguf -np 2 -c 8192",
        verified=True,
        notes="Follows JSON schemas by a grammar, text lengths included. Its log "
        "probabilities are from before the grammar. The context (-c) is shared by the slots (-np): "
        "a question has -c ÷ -np tokens. Reports both.",
    ),
    "ollama": ServerPreset(
        "Ollama",
        LlmServer("ollama", "http://localhost:11434/v1", free=True, context_tokens=4096),
        "OLLAMA_CONTEXT_LENGTH=8192 ollama serve",
        verified=False,
        notes="Follows JSON schemas. Truncates long questions without notice: context_tokens must "
        "equal OLLAMA_CONTEXT_LENGTH (4096 where it is not set).",
    ),
    "lmstudio": ServerPreset(
        "LM Studio",
        LlmServer("lmstudio", "http://localhost:1234/v1", logprobs=False, concurrency=4, free=True),
        "lms server start",
        verified=False,
        notes="Follows JSON schemas. Gives no log probabilities for chats.",
    ),
    "openrouter": ServerPreset(
        "OpenRouter",
        LlmServer(
            "openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", text_limits=False
        ),
        "set OPENROUTER_API_KEY",
        verified=False,
        notes="The supported settings depend on the model and its provider; what is refused is "
        "left out. Reports the context size.",
    ),
    "transformers": ServerPreset(
        "transformers serve",
        LlmServer(
            "transformers",
            "http://localhost:8000/v1",
            structured=False,
            logprobs=False,
            concurrency=2,
            free=True,
            penalty=0.1,
        ),
        "transformers serve --port 8000",
        verified=True,
        notes="Answers 200 and ignores JSON schemas and log probabilities, so that an answered "
        "example shows the form. The model is a folder or a name on the hub. Accepts questions "
        "longer than the model's context without notice: set context_tokens. It turns a "
        "frequency_penalty of 0.5 into a repetition_penalty of 1.5, which ruins texts, so 0.1 is "
        "sent.",
    ),
}
"""Name → server preset. `openai` is also available without a servers.toml while OPENAI_API_KEY is
set."""
