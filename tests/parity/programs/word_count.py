"""Count words of some texts at the top level of a script, in several alphabets."""

import re
from collections import Counter

from pipedeco import component, pipeline

TEXTS = {
    "german": "Der Fluß und die Straße: ÖL und Öl",
    "greek": "ἐν ἀρχῇ ἦν ὁ λόγος",
    "japanese": "すもも も もも も もも の うち",
    "emoji": "🚀 🚀 go",
}
WORD = re.compile(r"\w+|[^\w\s]")


def normalize(text):
    return text.casefold()


@component
def count(name, text):
    words = Counter(WORD.findall(normalize(text)))
    print(f"{name}: {len(words)} verschiedene Wörter → {words.most_common(1)[0][0]}")
    return words


@component
def merge(counters):
    total = Counter()
    for counter in counters:
        total.update(counter)
    return total


@pipeline
def count_all(texts):
    return merge([count(name, text) for name, text in texts.items()])


total = count_all(TEXTS)
for word, number in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:5]:
    print(f"{number:>3} {word}")
