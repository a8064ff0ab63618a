"""Chunks recognized on a Ray cluster, through Ray Data: engines are actors, results come back in order.

Each actor keeps its recognizer in a process of its own, as on one machine: so a row that kills is found in the same way, and
an actor that is killed is restarted by Ray with nothing lost.
"""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from nertune.errors import MissingExtraError, NertuneError
from nertune.extract.bulk.recognize import Chunk, Outcome
from nertune.extract.bulk.workers import Factory, WorkerError, Workers

__all__ = ["Cluster", "recognize_on_ray"]

_RESTARTS = 100  # of each actor, and tries of each chunk: many more than nodes are taken away, fewer than for ever


class Cluster(NamedTuple):
    """Where to run, and how large.

    `address`: "local" for a Ray of our own on this machine, "auto" for the one that runs here, or ray://host:port.
    `actors`: how many recognizers; None takes one a GPU, or one a node where there are none. `cpus`: of a local Ray, None
    for all there are. `store`: bytes of a local Ray's object store, None for Ray's choice.
    """

    address: str = "local"
    actors: int | None = None
    cpus: int | None = None
    store: int | None = None


def recognize_on_ray(
    chunks: Callable[[], Iterable[Chunk]], factory: Factory, cluster: Cluster
) -> Generator[list[Outcome], None, None]:
    """Outcomes of chunks in their order. `chunks` is called on the cluster and reads the input there.

    Both functions are pickled; on clusters of several nodes, what they read must be found under the same path on each.
    Raises MissingExtraError without the extra `ray`, NertuneError where Ray is not there or gives up, and WorkerError as
    `Workers` does.
    """
    with _ray(cluster) as ray:
        try:
            dataset = _dataset(ray, chunks, factory, cluster)
            for batch in dataset.iter_batches(batch_size=1, batch_format="pyarrow"):
                for value in batch["outcomes"].to_pylist():
                    found = pickle.loads(value)
                    if isinstance(found, WorkerError):
                        raise found
                    yield found
        except (ray.exceptions.RayError, ray.data.exceptions.RayDataUserCodeException) as error:
            reason = str(error).strip().splitlines()[-1]
            raise NertuneError(f"Ray gave up: {reason}. What is written is intact, and --resume goes on") from error


def _dataset(ray: Any, chunks: Callable[[], Iterable[Chunk]], factory: Factory, cluster: Cluster) -> Any:
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # a chunk a block, and so a task
    context.execution_no_progress_timeout_s = -1  # a chunk takes as long as it takes
    context.enable_progress_bars = context.print_on_execution_start = False
    here = None
    if not cluster.address.startswith("ray://"):  # the input is read by one task, on the node whose files are meant
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    nodes = sum(node["Alive"] for node in ray.nodes())
    actors = cluster.actors or gpus or nodes
    share = {"num_gpus": 1} if gpus else {"num_cpus": max(1, int(resources.get("CPU", 1)) // max(actors, nodes))}
    with ray.data.DataContext.current(context):
        read = ray.data.read_datasource(_source(chunks), num_cpus=0, override_num_blocks=1, label_selector=here)
        with warnings.catch_warnings():
            # Ray 2.64 drops these two keywords, which have no successors; until then it warns. The extra ends before it.
            warnings.simplefilter("ignore", DeprecationWarning)
            return read.map_batches(
                _Actor,
                fn_constructor_args=(factory,),
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=actors),
                max_restarts=_RESTARTS,
                max_task_retries=_RESTARTS,
                **share,
            )


class _Actor:
    """What an actor does: a chunk in, its outcomes back."""

    def __init__(self, factory: Factory) -> None:
        self._workers = Workers(factory, 1)

    def __call__(self, batch: Any) -> Any:
        import pyarrow as pa

        given = [pickle.loads(value) for value in batch["chunk"].to_pylist()]
        try:
            found: list[Any] = [value for value in given if isinstance(value, WorkerError)]
            found = found or list(self._workers.run(given))
        except WorkerError as error:  # told to the driver as it is: an error that leaves here would be wrapped
            found = [error]
        return pa.table({"outcomes": pa.array([pickle.dumps(value) for value in found], pa.large_binary())})


def _source(chunks: Callable[[], Iterable[Chunk]]) -> Any:
    """A data source of one task, which reads the input from its beginning to its end and gives a block a chunk."""
    import pyarrow as pa
    from ray.data import Datasource
    from ray.data.block import BlockMetadata
    from ray.data.datasource import ReadTask

    def blocks() -> Iterator[Any]:
        def block(value: Any) -> Any:
            return pa.table({"chunk": pa.array([pickle.dumps(value)], pa.large_binary())})

        try:
            yield from map(block, chunks())
        except NertuneError as error:  # what is wrong with the input comes after what was read of it
            yield block(WorkerError(str(error), exit_code=error.exit_code))

    class Chunks(Datasource):
        def get_name(self) -> str:
            return "texts"

        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(blocks, unknown)]

    source: Any = Chunks
    return source()


@contextmanager
def _ray(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected; it reports nothing to anybody, and a local one listens on the loopback alone."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if cluster.address == "local":
        # Ray binds to the loopback only where it takes the machine for one that can be in no cluster, whatever address it
        # is given; the name of the switch is from the systems on which that is the default. Read when ray is imported.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.data
        import ray.data.exceptions
    except ImportError as error:
        raise MissingExtraError("--ray", extra="ray") from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        if cluster.address == "local":
            ray.init(
                "local",
                num_cpus=cluster.cpus,
                object_store_memory=cluster.store,
                include_dashboard=False,
                **quiet,
            )
        else:
            ray.init(cluster.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise NertuneError(
            f"--ray {cluster.address}: {reason.rstrip('.')}. --ray local starts one on this machine"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
