"""Classes of many kinds in a script without a guard."""

import math
from abc import ABC, abstractmethod
from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from functools import total_ordering
from typing import Generic, NamedTuple, TypedDict, TypeVar

from pipedeco import component, pipeline

T = TypeVar("T")
Size = namedtuple("Size", "width height")


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Style(Flag):
    FILLED = auto()
    DASHED = auto()


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Options(TypedDict, total=False):
    digits: int


class Shape(ABC):
    kinds = []

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Shape.kinds.append(cls.__name__)

    @abstractmethod
    def area(self): ...


@total_ordering
@dataclass(eq=False)
class Circle(Shape):
    centre: Point
    radius: float
    colour: Colour = Colour.RED
    tags: list = field(default_factory=list)

    def area(self):
        return math.pi * self.radius**2

    def __eq__(self, other):
        return self.area() == other.area()

    def __lt__(self, other):
        return self.area() < other.area()

    __hash__ = None


@dataclass(frozen=True, slots=True)
class Box(Shape):
    size: Size

    def area(self):
        return self.size.width * self.size.height


class Stack(Generic[T]):
    def __init__(self):
        self._items: list[T] = []

    def push(self, item: T) -> "Stack[T]":
        self._items.append(item)
        return self

    def __iter__(self):
        return iter(self._items)


@component
def make(kind, number):
    made = Circle(Point(1), number) if kind == "circle" else Box(Size(number, 2))
    return made


@component
def describe(stack: Stack[Shape], style: Style, options: Options):
    for shape in stack:
        same = type(shape) in (Circle, Box), isinstance(shape, Shape)
        print(type(shape).__name__, round(shape.area(), options["digits"]), *same, shape)
    print(Style.FILLED in style, style, Shape.kinds, Circle.__module__, Circle.__qualname__)
    return max(shape.area() for shape in stack)


@component
def biggest(circles):
    best = max(circles)
    best.tags.append("best")
    return best


@pipeline
def draw():
    circle, box = make("circle", 2), make("box", 5)
    stack = Stack().push(circle).push(box)
    area = describe(stack, Style.FILLED | Style.DASHED, {"digits": 1})
    return biggest([circle, make("circle", 1)]), area


best, area = draw()
print(best, best.colour is Colour.RED, best > Circle(Point(0), 1), f"{area:.3f}")
