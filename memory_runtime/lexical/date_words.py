"""The words that dates are made of, and those that tell a date from what only looks like one."""

from __future__ import annotations

from typing import Final


def _any(names: object) -> str:
    """A pattern for any of the names, the longest first."""
    return "|".join(sorted(map(str, names), key=len, reverse=True))  # type: ignore[call-overload]


_ENGLISH_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_OTHER_MONTHS = (
    ("januar", "janvier", "enero", "gennaio", "janeiro", "januari", "january"),
    ("februar", "février", "fevrier", "febrero", "febbraio", "fevereiro", "februari"),
    ("märz", "maerz", "marzo", "março", "maart"),
    ("avril", "abril", "aprile", "april"),
    ("mai", "mayo", "maggio", "maio", "mei"),
    ("juni", "juin", "junio", "giugno", "junho"),
    ("juli", "juillet", "julio", "luglio", "julho"),
    ("août", "aout", "agosto", "augustus"),
    ("septembre", "septiembre", "settembre", "setembro"),
    ("oktober", "octobre", "octubre", "ottobre", "outubro"),
    ("novembre", "noviembre", "novembro"),
    ("dezember", "décembre", "decembre", "diciembre", "dicembre", "dezembro"),
)
MONTHS: Final[dict[str, int]] = {
    **{name: n for n, names in enumerate(_OTHER_MONTHS, 1) for name in names},
    **{name[:3]: n for n, name in enumerate(_ENGLISH_MONTHS, 1)},
    **{name: n for n, name in enumerate(_ENGLISH_MONTHS, 1)},
    "sept": 9,
}
MONTH: Final = _any(MONTHS)
AMBIGUOUS: Final = frozenset({"may", "march", "mar", "jan", "dec", "mei", "mai"})
"""Months that are also verbs, nouns or names."""

_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_SHORT_DAYS = "mon tue wed thu fri sat sun"
WEEKDAYS: Final[dict[str, int]] = {
    **{name: n for n, name in enumerate(_DAYS.split())},
    **{name: n for n, name in enumerate(_SHORT_DAYS.split())},
    **dict.fromkeys(("tues",), 1),
    **dict.fromkeys(("thur", "thurs"), 3),
}
WEEKDAY: Final = _any(WEEKDAYS)
FULL_WEEKDAYS: Final = tuple(name for name in WEEKDAYS if name.endswith("day"))

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
_SOME = ({"a", "an"}, {"couple", "a couple"}, {"few", "a few", "several"})
COUNTS: Final[dict[str, int]] = {
    **{name: n for n, name in enumerate(_NUMBERS.split())},
    **{name: n for n, names in enumerate(_SOME, 1) for name in names},
}
COUNT: Final = _any(COUNTS)
SEASONS: Final[dict[str, int]] = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
SEASON: Final = _any(SEASONS)
_BACK = (
    "today tonight this_morning this_afternoon this_evening heute aujourd'hui hoy oggi hoje vandaag сегодня bugün "
    "σήμερα اليوم היום 今天 今日 오늘",
    "yesterday last_night gestern hier ayer ieri ontem gisteren вчера dün χθες أمس אתמול 昨天 昨日 어제",
    "the_day_before_yesterday vorgestern avant-hier anteayer позавчера 前天 一昨日 그저께",
)
DAYS_BACK: Final = {name.replace("_", " "): n for n, names in enumerate(_BACK) for name in names.split()}
_ENGLISH_DAYS = {"today", "tonight", "yesterday", "last night", "the day before yesterday"}
_UNSPACED_DAYS = {name for name in DAYS_BACK if name[0] > "\u2e7f"}
UNSPACED_DAYS: Final = _any(_UNSPACED_DAYS)
OTHER_DAYS: Final = _any(
    name for name in DAYS_BACK if name not in _UNSPACED_DAYS | _ENGLISH_DAYS | {"hier"} and " " not in name
)
"""Without `hier`: it is yesterday in French, and here in German."""

BEFORE_A_DATE: Final = "on|by|until|till|since|from|before|after|around|about|for|in|during|early|late|mid|of|to|and"
_AFTER_A_DATE = """
    was were is did do does has had at in on to through until till and when with for by during last this next
    before after morning afternoon evening night event events meeting party trip concert deadline
"""
AFTER_A_DATE: Final = frozenset(_AFTER_A_DATE.split())
"""What may follow a date, and hardly the verb or the name that looks like one."""
_VERBS = """
    be been have not also well only never always even just still need want like help seem get make take go come
    say see know cause include require contain result lead apply use against away off along miles out around past
    across up down forward into
"""
VERBS: Final = frozenset(_VERBS.split())
"""What follows `may` or `march` as a verb."""
PRONOUNS: Final = frozenset({"i", "we", "you", "he", "she", "they", "it"})
_MEASURES = """
    sq square cubic step steps mile miles km kilometer kilometers kilometre kilometres m meter meters metre metres
    cm mm ft foot feet inch inches yard yards acre acres kg g gram grams kilo kilos pound pounds lb lbs oz ounce
    ounces ton tons liter liters litre litres l ml gallon gallons cup cups calorie calories kcal kj watt watts kw
    kwh volt volts mah mb gb tb kb byte bytes bit bits pixel pixels px dpi rpm bpm mph kmh hz mhz ghz degree
    degrees percent dollar dollars usd euro euros eur gbp yen rupee rupees franc francs buck bucks cent cents
    second seconds sec secs minute minutes min mins hour hours hr hrs day days night nights week weeks month
    months year years decade decades times word words character characters token tokens row rows line lines page
    pages point points point followers subscribers requests votes views
"""
MEASURES: Final = frozenset(_MEASURES.split())
"""What a number before it measures, whatever the number."""
_COUNTED = """
    people persons person man men woman women child children kid kids user users member members employee employees
    guest guests student students player players chapter chapters book books item items piece pieces copy copies
    ticket tickets seat seats star stars level levels rep reps lap laps game games goal goals run runs error
    errors record records file files commit commits issue issues job jobs unit units cell cells tree trees car
    cars house houses more other others
"""
COUNTED: Final = frozenset(_COUNTED.split())
"""What a number before it counts, unless it can hardly be but a year: people have things to do in 2023."""
DETERMINERS: Final = "the|a|an|this|that|our|their|his|her|my|your|its|long|great"
QUARTERS: Final = {"1": 1, "2": 2, "3": 3, "4": 4, "first": 1, "second": 2, "third": 3, "fourth": 4, "last": 4}
_AMOUNTS = """
    total sum average amount population crowd group number score count limit maximum minimum max min most least
    handful budget price cost fee salary rent speed weight distance height length width depth range value rate
    power dose deposit loan payment balance capacity audience batch set list pack team army fleet
"""
AMOUNTS: Final = frozenset(_AMOUNTS.split())
"""What may be `of 2000` without a unit."""
NO_PLURALS: Final = frozenset({"was", "is", "has", "does", "as", "this", "his", "its", "us", "perhaps", "always"})
