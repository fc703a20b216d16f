"""Job records: validated contents of the JSON files in a job's folder (job.json and state.json);
jobs.py describes the folder."""

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
    """Contents of job.json: the kind of job and its arguments."""

    kind: Name
    what: Text
    """Description of what the job works on, for people."""
    arguments: JsonObject
    created: Timestamp


class JobProgress(ForeignRecord):
    """Contents of state.json: a job's state and its progress."""

    state: Literal["queued", "running", "paused", "done", "failed", "cancelled", "stopped"]
    queued: Timestamp | None = None
    started: Timestamp | None = None
    ended: Timestamp | None = None
    done: WholeNumber = 0
    total: WholeNumber = 0
    """Number of steps of the job's current stage; 0 while unknown."""
    note: Text = ""
    eta_s: Real | None = None
    error: Text = ""
    result: JsonObject = {}
