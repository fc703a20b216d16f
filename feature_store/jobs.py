"""Jobs: long-running work of a store, each job a folder `jobs/<id>/` with its request, its state
and its log.

The folders are the list of jobs: listing them does not open the catalog, a job can report its
progress while the catalog is busy, and the list always agrees with the work. A job is a separate
process that outlives the page and the app that started it. Each file of the folder is replaced as a
whole:

- `job.json`: kind, arguments, time of creation; written once, before the folder gets its name
- `state.json`: the job's state; written only by the job's process, which holds `lock` meanwhile
- `lock`: held by the process for as long as it runs, however it ends
- `pause`, `cancel`: empty files by which others ask the process to pause or end
- `log.txt`: lines of text

Further results of a job are in its own file `jobs/<id>.duckdb`.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from filelock import FileLock, Timeout

from feature_store.atomic_file import write_file
from feature_store.errors import InputError, pick_by_name
from feature_store.job_records import JobProgress, JobRequest, JobState
from feature_store.strict_json import dump_json, parse_json

ENDED: tuple[JobState, ...] = ("done", "failed", "cancelled", "stopped")
RESUMABLE: tuple[JobState, ...] = ("failed", "cancelled", "stopped", "lost")
PATIENCE_S = 60.0
"""Seconds within which a job's process must start before the job counts as lost."""
SHOWN_FIELDS = ("done", "total", "note", "error", "result", "started", "ended")
"""Fields of state.json that a Job takes over unchanged."""
LOG_BYTES = 60_000
"""Number of bytes that are read from the end of a job's log."""


@dataclass(frozen=True)
class Job:
    """A job of the store (work in a process of its own, with a folder of its own), as it was when
    its folder was read."""

    id: str
    folder: Path
    kind: str
    description: str
    """Description of what the job works on, for people."""
    arguments: dict[str, Any]
    created: datetime
    state: JobState
    """State of the job. `stopped`: ended by Ctrl-C or after a trial, and can be resumed. `lost`:
    its process vanished without writing a final state."""
    requested_action: Literal["", "pause", "cancel"]
    """Request to pause or cancel that the job's process has not carried out yet."""
    done: int = 0
    total: int = 0
    """Number of steps of the job's current stage, of which `done` are finished; 0 while unknown."""
    note: str = ""
    """Name of the job's current stage."""
    started: datetime | None = None
    ended: datetime | None = None
    eta_s: float | None = None
    """Estimated seconds until the job's current stage ends, at its pace so far."""
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether the job is queued, running or paused."""
        return self.state in ("queued", "running", "paused")

    @property
    def data_path(self) -> Path:
        """Path of the DuckDB file in which the job collects results, if its kind has one."""
        return self.folder.with_name(f"{self.id}.duckdb")

    def read_log(self) -> str:
        """Return the last LOG_BYTES bytes of the job's log as text; empty if it has no log."""
        try:
            with (self.folder / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
                return file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""


class Jobs:
    """The jobs of a store. Reading a job takes one small file and a look at whether its lock is
    held."""

    def __init__(self, store: Path) -> None:
        self.path = store / "jobs"
        self._ended: dict[str, tuple[int, Job]] = {}

    def list_jobs(self) -> list[Job]:
        """Return all jobs, newest first; `problems` describes folders that cannot be read as
        jobs."""
        found, _ = self._scan()
        return sorted(found, key=lambda job: (job.created, job.id), reverse=True)

    def problems(self) -> list[str]:
        """Return one sentence for every folder in jobs/ that cannot be read as a job."""
        return list(self._scan()[1].values())

    def list_active(self) -> list[Job]:
        """Return the jobs that are queued, running or paused, newest first."""
        return [job for job in self.list_jobs() if job.is_active]

    def get(self, job_id: str) -> Job:
        """Return the job of that id; InputError if there is none, or with what is wrong with its
        folder."""
        found, problems = self._scan()
        if job_id in problems:
            raise InputError(problems[job_id])
        return pick_by_name("job", job_id, {job.id: job for job in found})

    def find_latest(self, kind: str, arguments: Mapping[str, Any]) -> Job | None:
        """Return the newest job of a kind whose arguments include these; None if there is none."""
        for job in self.list_jobs():
            if job.kind == kind and arguments.items() <= job.arguments.items():
                return job
        return None

    def create(self, kind: str, arguments: Mapping[str, Any], description: str) -> Job:
        """Create a queued job, whose process the caller starts. InputError if jobs/ cannot be
        written.

        `arguments` must fit into JSON and hold no secret, since they are stored in the job's
        folder.
        """
        now = datetime.now(UTC)
        job_id = f"{kind}-{now:%Y%m%d-%H%M%S}-{uuid4().hex[:4]}"
        fresh = self.path / f".{job_id}"
        asked = {
            "kind": kind,
            "what": description,
            "arguments": dict(arguments),
            "created": format_timestamp(now),
        }
        try:
            fresh.mkdir(parents=True)
            write_json_file(fresh / "job.json", asked)
            write_queued_state(fresh)
            fresh.rename(self.path / job_id)
        except OSError as error:
            raise InputError(f"No job can be created in {self.path}: {error.strerror}.") from error
        return self.get(job_id)

    def pause(self, job: Job) -> None:
        """Ask a job's process to pause at its next step."""
        request_action(job, "pause")

    def cancel(self, job: Job) -> None:
        """Ask a job's process to end at its next step."""
        request_action(job, "cancel")

    def unpause(self, job: Job) -> None:
        """Withdraw the request to pause a job, so that it continues."""
        (job.folder / "pause").unlink(missing_ok=True)

    def requeue(self, job: Job) -> Job:
        """Queue a job that ended or was lost again, to resume it; the caller starts its process."""
        job = self.get(job.id)
        if job.state not in RESUMABLE:
            raise InputError(f"The job {job.id} is {job.state}: there is nothing to resume.")
        for name in ("pause", "cancel"):
            (job.folder / name).unlink(missing_ok=True)
        write_queued_state(job.folder)
        return self.get(job.id)

    def delete(self, job: Job) -> None:
        """Delete a job with its folder and results; InputError while it is queued, running or
        paused."""
        job = self.get(job.id)
        if job.is_active:
            raise InputError(f"The job {job.id} is {job.state}. Cancel it first.")
        away = job.folder.with_name(f".{job.id}.{uuid4().hex[:4]}")
        job.folder.rename(away)  # gone from the list at once, whatever the rest takes
        shutil.rmtree(away, ignore_errors=True)
        for path in (job.data_path, job.data_path.with_name(f"{job.data_path.name}.wal")):
            path.unlink(missing_ok=True)

    def _scan(self) -> tuple[list[Job], dict[str, str]]:
        """Return all jobs, and the problem of each folder that is not a job, by the folder's
        name."""
        jobs: list[Job] = []
        problems: dict[str, str] = {}
        for folder in sorted(self.path.glob("[!.]*/")):
            try:
                jobs.append(self._read(folder))
            except (InputError, OSError) as bad:
                if folder.is_dir():  # else it was deleted meanwhile
                    problems[folder.name] = (
                        f"The job {folder.name} cannot be read: {describe_read_error(bad)} "
                        f"Delete the folder "
                        f"{folder}, or restore its files."
                    )
        return jobs, problems

    def _read(self, folder: Path) -> Job:
        """Return the job of a folder, cached if it ended; InputError or OSError if the folder
        holds no job."""
        changed = (folder / "state.json").stat().st_mtime_ns
        kept = self._ended.get(folder.name)
        if kept and kept[0] == changed:
            return kept[1]
        job = read_job(folder)
        if job.state in ENDED:  # it stays so until it is queued again
            self._ended[job.id] = (changed, job)
        return job


def describe_read_error(bad: InputError | OSError) -> str:
    """Return a sentence about why a file of a job's folder cannot be read."""
    if isinstance(bad, InputError):
        return str(bad)
    name = Path(str(bad.filename)).name
    if isinstance(bad, FileNotFoundError):
        return f"it has no {name}."
    return f"{name} cannot be read ({bad.strerror})."


def read_job(folder: Path) -> Job:
    """Read a job from the files of its folder. Raises InputError or OSError if they are not a
    job's."""
    request = JobRequest.read(read_json_object(folder / "job.json"), "job.json")
    progress = JobProgress.read(read_json_object(folder / "state.json"), "state.json")
    state: JobState = progress.state
    if state not in ENDED and not is_lock_held(folder / "lock"):
        progress = JobProgress.read(read_json_object(folder / "state.json"), "state.json")
        state = progress.state  # it may have ended between the two looks
        waiting = (
            state == "queued"
            and progress.queued is not None
            and seconds_since(progress.queued) < PATIENCE_S
        )
        if state not in ENDED and not waiting:
            state = "lost"
    eta_s = None if state == "lost" else progress.eta_s
    plain = {
        name: getattr(progress, name) for name in SHOWN_FIELDS if name in progress.model_fields_set
    }
    return Job(
        id=folder.name,
        folder=folder,
        kind=request.kind,
        description=request.what,
        arguments=request.arguments,
        created=request.created,
        state=state,
        requested_action=find_requested_action(folder, state),
        eta_s=eta_s,
        **plain,
    )


def find_requested_action(folder: Path, state: JobState) -> Literal["", "pause", "cancel"]:
    """Return the request (pause or cancel) that a running job has not carried out yet; empty for
    none."""
    if state in ("queued", "running", "paused") and (folder / "cancel").exists():
        return "cancel"
    return "pause" if state in ("queued", "running") and (folder / "pause").exists() else ""


def request_action(job: Job, name: Literal["pause", "cancel"]) -> None:
    """Ask a job's process to pause or cancel by creating the file of that name in its folder."""
    if not job.is_active:
        raise InputError(f"The job {job.id} is {job.state}: there is nothing to {name}.")
    (job.folder / name).touch()


def write_queued_state(folder: Path) -> None:
    """Write the state of a job that waits for its process to start."""
    write_json_file(
        folder / "state.json", {"state": "queued", "queued": format_timestamp(datetime.now(UTC))}
    )


def is_lock_held(lock: Path) -> bool:
    """Return whether a running process holds a job's lock; also true if that cannot be determined.

    The system releases a lock when its holder ends, however it ends; unlike a process id, a lock
    cannot be mistaken for that of a later process. Another reader holds the lock for microseconds:
    hence the second try.
    """
    try:
        with FileLock(lock, timeout=0.004, poll_interval=0.001):
            return False
    except (Timeout, OSError):
        return True


def write_json_file(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file of a job's folder atomically: readers see the old or the new file, also
    if two threads write at once."""
    write_file(path, dump_json(content), sync=False)  # as often as a job says how far it is


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a job's folder; InputError names the file if it is not
    one."""
    found = parse_json(path.read_bytes(), f"{path.name} is not JSON")
    if not isinstance(found, dict):
        raise InputError(f"{path.name} is not a JSON object.")
    return found


def format_timestamp(time: datetime) -> str:
    """Return a time in UTC in ISO 8601, as a job's files store it."""
    return time.astimezone(UTC).isoformat()


def seconds_since(time: datetime) -> float:
    """Return the seconds that have passed since a time in a job's files."""
    return (datetime.now(UTC) - time).total_seconds()
