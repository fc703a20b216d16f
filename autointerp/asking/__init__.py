"""Questions to language models: asked once, recorded, within a budget."""

from autointerp.asking.records import HOPELESS, Asker, Failed, Message, Reply, Request, Said

__all__ = ["HOPELESS", "Asker", "Failed", "Message", "Reply", "Request", "Said"]
