"""Ten steps from a cold start, on a local Dask cluster."""

from dask.distributed import Client, LocalCluster


def square(x: int) -> int:
    """Do next to nothing."""
    return x * x


if __name__ == "__main__":
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        assert sum(client.gather(client.map(square, range(10), pure=False))) == 285
