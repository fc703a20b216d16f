"""Questions to language-model servers over OpenAI's chat completions API: each question is asked
once, recorded in a job's call log, and paid for within a budget."""

from autointerp.llm.call_budget import CallBudget
from autointerp.llm.call_log import AttemptCount, CallLog, CallTotals, LostCalls, open_job_call_log
from autointerp.llm.failure_kinds import FAILURE_KINDS, FailureKind
from autointerp.llm.requests_and_replies import (
    JOB_STOPPING_KINDS,
    Asker,
    ChatMessage,
    ChatRequest,
    Reply,
    RequestFailure,
    TokenLogprob,
)
from autointerp.llm.retry_policy import RetryPolicy
from autointerp.llm.server_activity import ActivitySnapshot, ServerActivity
from autointerp.llm.server_asker import ServerAsker, open_asker
from autointerp.llm.server_settings import LlmServer, find_server, load_servers

__all__ = [
    "FAILURE_KINDS",
    "JOB_STOPPING_KINDS",
    "ActivitySnapshot",
    "Asker",
    "CallBudget",
    "CallLog",
    "RequestFailure",
    "FailureKind",
    "AttemptCount",
    "LostCalls",
    "ChatMessage",
    "RetryPolicy",
    "Reply",
    "ChatRequest",
    "TokenLogprob",
    "LlmServer",
    "ServerActivity",
    "ServerAsker",
    "CallTotals",
    "open_asker",
    "find_server",
    "open_job_call_log",
    "load_servers",
]
