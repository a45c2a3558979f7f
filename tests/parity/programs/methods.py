"""Components that are methods, and objects that hold state between calls."""

from pipedeco import component, pipeline


class Model:
    scale = 10

    def __init__(self, name, bias):
        self.name = name
        self.bias = bias
        self._seen = 0

    @component
    def predict(self, x):
        self._seen += 1
        print(f"{self.name} sees {x}")
        return self.scale * x + self.bias

    @staticmethod
    @component
    def clip(value, low=0, high=25):
        return max(low, min(high, value))

    @classmethod
    @component
    def named(cls, name):
        return cls(name, bias=len(name))

    def __repr__(self):
        return f"{type(self).__name__}({self.name!r}, {self.bias})"


class Doubled(Model):
    scale = 20


@pipeline
def score(xs):
    models = [Model("base", 1), Doubled.named("better")]
    return [[Model.clip(model.predict(x)) + 0 for x in xs] for model in models]


if __name__ == "__main__":
    print(score([1, 2]))
    print(Doubled.named("alone"))
