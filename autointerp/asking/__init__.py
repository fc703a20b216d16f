"""Questions to language models: asked once, recorded, within a budget."""

from autointerp.asking.asker import Patience, ServerAsker, asking
from autointerp.asking.budget import Budget
from autointerp.asking.calls import CallLog, Lost, Totals, calls_of
from autointerp.asking.records import HOPELESS, Asker, Failed, Message, Reply, Request, Said
from autointerp.asking.servers import Server, at, servers

__all__ = [
    "HOPELESS", "Asker", "Budget", "CallLog", "Failed", "Lost", "Message", "Patience", "Reply",
    "Request", "Said", "Server", "ServerAsker", "Totals", "asking", "at", "calls_of", "servers",
]  # fmt: skip
