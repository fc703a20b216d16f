"""What the files of a job's folder hold, checked: see jobs.py."""

from typing import Literal

from feature_store.record_validation import (
    ForeignRecord,
    JsonObject,
    Name,
    Real,
    Text,
    Timestamp,
    WholeNumber,
)

JobState = Literal["queued", "running", "paused", "done", "failed", "cancelled", "stopped", "lost"]


class JobRequest(ForeignRecord):
    """job.json: what was asked of a job."""

    kind: Name
    what: Text
    """What it works on, in words."""
    arguments: JsonObject
    created: Timestamp


class JobProgress(ForeignRecord):
    """state.json: how a job stands."""

    state: Literal["queued", "running", "paused", "done", "failed", "cancelled", "stopped"]
    queued: Timestamp | None = None
    started: Timestamp | None = None
    ended: Timestamp | None = None
    done: WholeNumber = 0
    total: WholeNumber = 0
    """Steps of the present stage; 0 while that is not known."""
    note: Text = ""
    eta_s: Real | None = None
    error: Text = ""
    result: JsonObject = {}
