"""Objects that stand for others: proxies, handles, nodes with parents, single instances."""

import weakref

from pipedeco import component, pipeline


class Proxy:
    """Hands everything on; special names but to its own class."""

    def __init__(self, target):
        self._target = target

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._target, name)


class Handle:
    """Has what cannot travel, and makes it anew."""

    opened = 0

    def __init__(self, name):
        self.name = name
        self._open()

    def _open(self):
        self.stream = open(self.name, "a")

    def __getstate__(self):
        return {"name": self.name}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._open()

    def write(self, text):
        self.stream.write(text)
        self.stream.flush()
        return self


class Node:
    def __init__(self, name, parent=None):
        self.name, self.children = name, []
        self._parent = weakref.ref(parent) if parent else None
        if parent:
            parent.children.append(self)

    def __reduce__(self):
        return build, (self.name, [child.name for child in self.children])

    def path(self):
        above = self._parent() if self._parent else None
        return f"{above.path()}/{self.name}" if above else self.name


def build(name, children):
    made = Node(name)
    for child in children:
        Node(child, made)
    return made


class Once(type):
    instances = {}

    def __call__(cls, *args):
        if cls not in Once.instances:
            Once.instances[cls] = super().__call__(*args)
        return Once.instances[cls]


class Settings(metaclass=Once):
    def __init__(self):
        self.name = "one"


@component
def length(proxy):
    return len(proxy.split())


@component
def write(handle, text):
    handle.write(text)
    return handle


@component
def paths(node):
    return [child.path() for child in node.children]


@component
def single():
    return Settings() is Settings(), Settings().name


@pipeline
def main():
    root = build("root", ["a", "b"])
    print(length(Proxy("three small words")) + 0, *paths(root), *single())
    handle = write(Handle("handle.txt"), "first\n")
    return str(write(handle, "second\n").name)


if __name__ == "__main__":
    print(main())
