"""Questions to language models: asked once, recorded, within a budget."""

from autointerp.asking.activity import ActivitySnapshot, ServerActivity
from autointerp.asking.asker import Patience, ServerAsker, asking
from autointerp.asking.budget import Budget
from autointerp.asking.calls import CallLog, KindCount, Lost, Totals, calls_of
from autointerp.asking.failure_kinds import FAILURE_KINDS, FailureKind
from autointerp.asking.records import HOPELESS, Asker, Failed, Message, Reply, Request, Said
from autointerp.asking.servers import Server, at, servers

__all__ = [
    "FAILURE_KINDS",
    "HOPELESS",
    "ActivitySnapshot",
    "Asker",
    "Budget",
    "CallLog",
    "Failed",
    "FailureKind",
    "KindCount",
    "Lost",
    "Message",
    "Patience",
    "Reply",
    "Request",
    "Said",
    "Server",
    "ServerActivity",
    "ServerAsker",
    "Totals",
    "asking",
    "at",
    "calls_of",
    "servers",
]
