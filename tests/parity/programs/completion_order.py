"""Work that is taken as it completes, and lists of what is pending."""

from pipedeco import as_completed, component, pipeline, value


@component
def square(x):
    return x * x


@component
def fail(x):
    raise ValueError(f"no {x}")


@pipeline
def main():
    pending = [square(x) for x in range(5)]
    total = 0
    for done in as_completed(list(pending)):
        pending.remove(done)
        total += value(done)
    print(total, pending)

    waiting = {name: square(k) for k, name in enumerate("abc", 6)}
    names = {name: value(result) for name, result in waiting.items()}
    print(names, max(names, key=names.get))

    todo = [square(2), square(2), square(3)]
    todo.remove(todo[1])
    todo.append(square(1))
    print(value(sorted(todo)), todo.index(9), todo.count(4), 4 in todo)
    last = todo.pop()
    todo[0] = last
    return [*todo, square(4)]


if __name__ == "__main__":
    print(main())
