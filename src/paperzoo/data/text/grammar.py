"""The embedded text: sentences that a small grammar draws, the same ones on every machine.

Nothing is downloaded and no licence applies. The sentences ask of a model what real text asks: words are spelt, verbs
agree in number with a subject that a clause may separate from them, quotation marks and brackets are closed, and a
pronoun stands for the last name. Since every choice is drawn from known odds, the bits that the text holds are known:
no model can be expected to need fewer a character.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

NOUNS = ("fox", "hen", "miller", "baker", "wolf", "lamb", "king", "farmer", "crow", "mouse", "goat", "bear")
IRREGULAR = {"fox": "foxes", "wolf": "wolves", "mouse": "mice"}
NAMES = (("Anna", "she"), ("Peter", "he"), ("Clara", "she"), ("Jacob", "he"), ("Helen", "she"), ("Simon", "he"))
ADJECTIVES = ("old", "young", "grey", "hungry", "clever", "quiet", "brave", "tired")
PLACES = ("near the mill", "behind the barn", "in the wood", "under the bridge", "beyond the river", "at the gate")
VERBS = (
    ("sees", "see"),
    ("follows", "follow"),
    ("fears", "fear"),
    ("finds", "find"),
    ("helps", "help"),
    ("calls", "call"),
)
SPEAK = (("says", "say"), ("thinks", "think"), ("knows", "know"))
LINKS = ("and then", "but", "because", "while")
DEEPEST = 2  # clauses within clauses


class _Chance:
    """A linear congruential generator (Knuth's MMIX), written out: no library changes what it draws."""

    def __init__(self, seed: int) -> None:
        self.state = seed
        self.bits = 0.0  # of information in what was drawn

    def below(self, n: int) -> int:
        self.state = (6364136223846793005 * self.state + 1442695040888963407) % 2**64
        self.bits += math.log2(n)
        return (self.state >> 33) % n

    def pick(self, words: Sequence[str]) -> str:
        return words[self.below(len(words))]

    def one_in(self, n: int) -> bool:
        """With probability 1 / n; the bits are those of this outcome."""
        before = self.bits
        hit = self.below(n) == 0
        self.bits = before + (math.log2(n) if hit else math.log2(n / (n - 1)))
        return hit


class _Speaker:
    """Draws sentences; remembers the last name for its pronoun."""

    def __init__(self, chance: _Chance) -> None:
        self.chance = chance
        self.pronoun = ""

    def sentence(self) -> str:
        """One, with its full stop."""
        if self.chance.one_in(5):
            return self._quoted()
        text = self._clause(0)
        if self.chance.one_in(3):
            text += f" {self.chance.pick(LINKS)} {self._clause(0)}"
        return f"{text[0].upper()}{text[1:]}."

    def _quoted(self) -> str:
        said = self._clause(1)
        subject, plural = self._subject(DEEPEST)
        return f'"{said[0].upper()}{said[1:]}," {SPEAK[0][plural]} {subject}.'

    def _clause(self, depth: int) -> str:
        subject, plural = self._subject(depth)
        if self.chance.one_in(4):
            return f"{subject} {('is', 'are')[plural]} {self.chance.pick(ADJECTIVES)}"
        if depth < DEEPEST and self.chance.one_in(5):
            verb = SPEAK[self.chance.below(len(SPEAK))][plural]
            return f"{subject} {verb} that {self._clause(depth + 1)}"
        verb = VERBS[self.chance.below(len(VERBS))][plural]
        where = f" {self.chance.pick(PLACES)}" if self.chance.one_in(3) else ""
        return f"{subject} {verb} {self._thing(depth + 1)[0]}{where}"

    def _subject(self, depth: int) -> tuple[str, bool]:
        """A noun phrase, a name or the pronoun of the last name; and whether it is plural."""
        if self.pronoun and self.chance.one_in(4):
            return self.pronoun, False
        if self.chance.one_in(4):
            name, self.pronoun = NAMES[self.chance.below(len(NAMES))]
            return name, False
        return self._thing(depth)

    def _thing(self, depth: int) -> tuple[str, bool]:
        plural = self.chance.one_in(2)
        noun = self.chance.pick(NOUNS)
        article = self.chance.pick(("the", "two", "three", "many") if plural else ("the", "one", "every", "this"))
        adjective = f"{self.chance.pick(ADJECTIVES)} " if self.chance.one_in(3) else ""
        text = f"{article} {adjective}{IRREGULAR.get(noun, noun + 's') if plural else noun}"
        if depth < DEEPEST and self.chance.one_in(5):
            text += self._aside(plural, depth + 1)
        return text, plural

    def _aside(self, plural: bool, depth: int) -> str:
        """What stands between a subject and its verb."""
        verb = VERBS[self.chance.below(len(VERBS))][plural]
        inner = f"{verb} {self._thing(depth)[0]}"
        return f" (who {inner})" if self.chance.one_in(2) else f", who {inner},"


@lru_cache(maxsize=2)
def text(characters: int, seed: int = 1) -> tuple[str, float]:
    """So many characters, in paragraphs; and the bits a character that were drawn for them."""
    chance = _Chance(seed)
    speaker = _Speaker(chance)
    parts: list[str] = []
    size = 0
    while size < characters:
        end = "\n" if chance.one_in(5) else " "
        parts.append(speaker.sentence() + end)
        size += len(parts[-1])
    return "".join(parts)[:characters], chance.bits / size
