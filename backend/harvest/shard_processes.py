"""Shard processes: run a harvest's shards in several processes of one machine, and wait for
them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

import torch

from backend.harvest.checkpoint import Shard
from backend.harvest.shard_run import HarvestProgress
from feature_store.errors import InputError

if TYPE_CHECKING:
    from backend.harvest.run import HarvestRequest

POLL_S = 0.2
"""Seconds between two checks of whether the shard processes have ended."""


@contextmanager
def start_other_shards(request: "HarvestRequest", first: Shard) -> Iterator[list[BaseProcess]]:
    """Start a process for every shard except the first, each with one thread, and terminate those
    still running on exit. Starts none where the harvest uses one process or was asked for one
    shard."""
    if request.processes == 1 or request.shard is not None or first.count == 1:
        yield []
        return
    torch.set_num_threads(1)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    started: list[BaseProcess] = []
    for index in range(1, first.count):
        part = Shard(index, first.count)
        part_request = replace(request, shard=part, processes=1, publishes=False)
        process = context.Process(target=run_shard_process, args=(part_request,), daemon=True)
        with ignore_interrupts():
            process.start()
        started.append(process)
    try:
        yield started
    finally:
        for process in started:
            if process.is_alive():
                process.terminate()  # its checkpoint stays; the same command resumes from it
            process.join()


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Let child processes started inside this context ignore Ctrl-C, which a terminal sends to
    every process: the first process handles it and stops the others."""
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # only the main thread may set signal handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_shard_process(request: "HarvestRequest") -> None:
    """Run one shard's harvest: the main function of a child process."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)

    from backend.harvest.run import HarvestRun

    for _ in HarvestRun(request).run():
        pass


def wait_for_processes(others: list[BaseProcess]) -> Iterator[HarvestProgress]:
    """Wait until all shard processes have ended, yielding progress. Raises InputError where one
    failed; its finished work is kept."""
    while any(process.is_alive() for process in others):
        done = sum(not process.is_alive() for process in others)
        yield HarvestProgress("other processes", done, len(others), "processes")
        time.sleep(POLL_S)
    for process in others:
        if process.exitcode:
            raise InputError(
                f"A process of this harvest ended with status {process.exitcode}. Finished work "
                "is kept: run the same command again to resume, or use --processes 1."
            )
