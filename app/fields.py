"""The fields of a page's form as a visitor left them.

Streamlit forgets what a widget says as soon as it is not drawn; so values are kept beside it, in
the session, and the form is as it was on the way back to the page.
"""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from feature_store.errors import InputError


@dataclass(frozen=True)
class Fields:
    """Of one page. `kept` must be filled before anything else is asked."""

    prefix: str
    """Of the widgets' keys."""
    kept: str
    """Key of the session: field → value."""

    def key(self, name: str) -> str:
        """Of a field's widget."""
        return f"{self.prefix}{name}"

    def value(self, name: str) -> Any:
        """What a field says, drawn just now or not."""
        return st.session_state.get(self.key(name), st.session_state[self.kept][name])

    def keep(self) -> None:
        """Callback: what the fields say is there on the way back to the page."""
        names = st.session_state[self.kept]
        st.session_state[self.kept] = {name: self.value(name) for name in names}

    def put(self, **given: Any) -> None:
        """Other values; widgets show them."""
        for name, new in given.items():
            st.session_state[self.key(name)] = new
        self.keep()

    def restore(self) -> None:
        """Widgets that are not drawn yet begin with what is kept."""
        for name, value in st.session_state[self.kept].items():
            st.session_state.setdefault(self.key(name), value)


def uploaded(key: str, largest: int) -> tuple[str, bytes] | None:
    """Name and bytes of the file in an uploader, None without one. InputError for one of more than
    `largest` bytes."""
    given = st.session_state[key]
    if given is None:
        return None
    if given.size > largest:
        raise InputError(f"{given.name} is larger than {largest // 10**6} MB. Take a sample.")
    return given.name, given.getvalue()


def broken(text: str) -> str:
    r"""A typed `\n` is a line break: a line is a prompt, and code has several."""
    return text.replace("\\n", "\n")
