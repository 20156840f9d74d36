"""Which language a text is in, by its commonest words. None where too few of them stand there: better silent than wrong."""

from __future__ import annotations

from collections import Counter
from itertools import chain

_LOOKED_AT = 600  # characters
_FEWEST, _DIFFERENT = 4, 3  # common words
_LEAD = 1.6  # over the second language, which shares some of the words

_WORDS = {
    "English": "the of and to in is that for it with was on are as be this at by from have or not you what which how who "
    "do does can will an but they his her their has i if when would there your all some many each were he she see than then them these my out so "
    "about up into only",
    "Spanish": "el la los las de que y en un una por con para es se del al lo como más su sus qué cuál cómo está son fue "
    "no le me mi pero si este esta cuándo quién dónde muy también entre cuando ha han hay sobre",
    "French": "le la les de des et en un une du est que qui dans pour pas sur avec au aux ce cette se sont il elle je vous "
    "nous ne par plus être ou où quel quelle comment son sa ses mais dont ont",
    "German": "der die das und ist ein eine einen einer in zu den von mit für auf nicht es sich dem des im wie was ich sie "
    "er wir auch an als bei oder wird sind hat wurde aus nach zum zur welche kann man",
    "Italian": "il la le di che e in un una per con non sono è del della dei delle si da come più lo gli al alla ma cosa "
    "questo questa nel nella quale quando anche ha hanno era",
    "Portuguese": "os as de que e em um uma do da dos das para com não é se por no na nos nas como mais mas foi são "
    "você qual quando seu sua ao pela pelo também tem há",
    "Dutch": "de het een en van in is dat op te zijn voor met niet die er aan om ook als bij wat hoe maar heeft door naar "
    "ik je dit worden wordt uit of deze was",
    "Polish": "nie się na jest w z do to że co jak są od po dla przez czy ale za był która który oraz może tego",
    "Swedish": "och att det är som en på för med av den till inte har ett om hur vad jag du kan från var eller de",
    "Turkish": "ve bir bu için ile da de ne mi nasıl çok olarak gibi daha olan kadar var değil en hangi sonra",
}
_LANGUAGES: dict[str, tuple[str, ...]] = {
    word: tuple(language for language, words in _WORDS.items() if word in words.split())
    for words in _WORDS.values()
    for word in words.split()
}


def language_of(text: str) -> str | None:
    """An English name, such as Spanish."""
    words = text[:_LOOKED_AT].lower().replace("¿", "").replace("¡", "").split()
    known = [word for word in words if word in _LANGUAGES]
    if len(known) < _FEWEST:
        return None
    counts = Counter(chain.from_iterable([_LANGUAGES[word] for word in known]))
    (language, most), (_, second) = [*counts.most_common(2), ("", 0)][:2]
    clear = most >= max(_FEWEST, 0.1 * len(words)) and most >= _LEAD * second
    different = {word for word in known if language in _LANGUAGES[word]}
    return language if clear and len(different) >= _DIFFERENT else None
