"""Check the links of a web site: async steps, each with many requests under way, side by side.

    python examples/04_link_checker.py
    pipedeco run examples/04_link_checker.py --latency 0.1
    pipedeco show latest

The site is a server in this script that takes its time over each page.  A step is an `async def`
that asks for its share of a level's pages at once; the body, which is plain Python, goes down level
by level until no page is new.  Nothing but the standard library is needed.
"""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

from pipedeco import component, pipeline


class Page(NamedTuple):
    """What came back for a path."""

    path: str
    status: int
    links: list[str]


class Report(NamedTuple):
    """What a walk through the site found."""

    pages: int
    levels: int
    broken: dict[str, list[str]]  # a path that leads nowhere -> the pages that link to it


@contextmanager
def site(size: int, latency: float) -> Iterator[str]:
    """Serve `size` pages on a port that is free, and give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(latency)
            number = int(self.path.strip("/") or 0)
            self.send_response(200 if number < size else 404)
            self.end_headers()
            for link in range(3 * number + 1, 3 * number + 4):  # a tree; its leaves lead nowhere
                if number < size and (link < size or link % 50 == 0):
                    self.wfile.write(f'<a href="/{link}">page {link}</a>\n'.encode())

        def log_message(self, *args: object) -> None:
            """Be quiet."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # so many may knock at the same moment

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


async def get(address: str, path: str) -> Page:
    """Ask for one page."""
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return Page(path, int(head.split()[1]), re.findall(r'href="(.*?)"', body.decode()))


@component(timeout=30)
async def fetch(address: str, paths: list[str]) -> list[Page]:
    """Ask for many pages at once."""
    return await asyncio.gather(*(get(address, path) for path in paths))


@pipeline
def link_checker(size: int = 150, latency: float = 0.05, shares: int = 2) -> Report:
    """Walk through the site and find the links that lead nowhere.

    Args:
        size: how many pages the site has.
        latency: seconds that the server takes over each.
        shares: how many steps share the pages of a level.
    """
    linked = {"/": [""]}  # a path -> the pages that link to it
    pages, levels, broken = 0, 0, {}
    with site(size, latency) as address:
        new = ["/"]
        while new:
            parts = [new[n::shares] for n in range(min(shares, len(new)))]
            fetched = [fetch(address, part) for part in parts]
            new, levels = [], levels + 1
            for page in (page for part in fetched for page in part):
                pages += page.status == 200
                if page.status != 200:
                    broken[page.path] = linked[page.path]
                for link in page.links:
                    if link not in linked:
                        new.append(link)
                    linked.setdefault(link, []).append(page.path)
    return Report(pages, levels, broken)


LATENCY = 0.05

start = time.perf_counter()
report = link_checker(latency=LATENCY)
elapsed = time.perf_counter() - start

for path, pages in report.broken.items():
    print(f"{path} is missing; linked from {', '.join(pages)}")
asked = report.pages + len(report.broken)
print(f"\n{report.pages} pages on {report.levels} levels, {len(report.broken)} broken links")
print(f"{asked * LATENCY:.1f} s of waiting in {elapsed:.1f} s")
