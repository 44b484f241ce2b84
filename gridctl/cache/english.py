"""English words the guards know: words that carry no detail of a request, and words that turn its meaning round.

Lists only. For another language the guards still compare numbers, codes and rare words; what these lists add is lost
there, and the decision's bound does not rest on them.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words("""
a an the this that these those some any each every all both such same other another more most much many lot lots few
i me my mine myself we us our ours you your yours u ur he him his she her hers it its they them their theirs one ones
who whom whose which what when where why how whats hows wheres whos
am is are was were be been being do does did doing done have has had having can could will would shall should may might
must ought im ive id ill youre its thats theres dont doesnt didnt cant couldnt wont wouldnt isnt arent wasnt
to of in on at by for from with about into onto over under up down out off as than then so if or and but because while
there here again just only also too very really quite still already ever even now yet else instead back
please kindly hey hi hello ok okay oh um uh yeah yes thanks thank
""")
"""Grammar and courtesies. Words that turn the meaning (`off`, `down`, `not`) are read a second time, as polarity."""

COMMAND_WORDS = _words("""
turn set put make get give go take bring let keep want wanna need like love wish would prefer hope try
play start stop run open close shut switch begin launch resume pause continue
find show tell say know see look search check read list display present pull fetch provide explain describe define
definition mean meaning information info detail details update status help assist ask answer question
add create insert include new make remove delete erase clear cancel drop change modify edit adjust alter
send write post message reply remind reminder notify alert schedule book order call
happen happening happened come came going gonna got gotten
olly alexa google siri computer assistant device system app
currently current right exactly actually possible able available there way thing things something anything kind type
good well best nice great fine better could maybe think thinking feel believe sure
much long far soon often many number amount first last next
""")
"""Verbs of command and fillers: which of them a speaker picks seldom changes the answer."""

NEGATIONS = _words("""
not no never none nothing nobody nowhere neither nor without cannot cant dont doesnt didnt wont wouldnt isnt arent
wasnt werent couldnt shouldnt hasnt havent hadnt aint unable fail failed fails except
""")

OPPOSITES: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (_words("on enable enabled activate start begin resume unmute open unlock"),
     _words("off disable disabled deactivate stop end pause mute close shut lock")),
    (_words("up increase raise higher louder brighter brighten warmer more max maximum"),
     _words("down decrease lower reduce quieter dim darker cooler less min minimum")),
    (_words("add create insert include new"), _words("remove delete erase clear cancel")),
    (_words("before earlier previous"), _words("after later next")),
    (_words("buy deposit in incoming receive received"), _words("sell withdraw out outgoing send sent")),
)  # fmt: skip
"""Words of one side against words of the other. A text takes a side when it has words of that side only."""

NUMBER_WORDS = {
    word: value
    for value, words in enumerate(
        (
            "zero", "one first once", "two second twice", "three third", "four fourth", "five fifth", "six sixth",
            "seven seventh", "eight eighth", "nine ninth", "ten tenth", "eleven", "twelve", "thirteen", "fourteen",
            "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
        )
    )
    for word in words.split()
} | {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100,
     "thousand": 1000, "million": 1_000_000, "half": 0.5, "quarter": 0.25}  # fmt: skip
"""`one` is grammar more often than a number, so it counts only as a digit: see `guards`."""

DATE_WORDS = _words("""
today tomorrow yesterday tonight morning afternoon evening night noon midnight weekend weekday week month year
monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun
january february march april may june july august september october november december
jan feb mar apr jun jul aug sep sept oct nov dec spring summer autumn fall winter
christmas easter halloween thanksgiving hourly daily weekly monthly yearly annually minute minutes hour hours
""") - {"may", "march", "sun", "sat", "fall"}
"""Words that place a request in time. Months and days that are common words otherwise are not here."""

UNIT_WORDS = _words("""
percent degree degrees celsius fahrenheit kelvin meter meters metre metres kilometer kilometers kilometre kilometres km
mile miles foot feet inch inches yard yards cm mm kg kilogram kilograms gram grams pound pounds ounce ounces lb lbs oz
liter liters litre litres gallon gallons cup cups ml mg second seconds minute minutes hour hours day days week weeks
month months year years dollar dollars euro euros gbp usd eur aud cad jpy chf yen rupee rupees peso pesos bitcoin
mb gb tb kb byte bytes watt watts volt volts am pm
""")

LIVE_WORDS = _words("""
now today tonight tomorrow yesterday currently latest weather forecast news traffic near nearby nearest around score
stock price prices time date temperature
""")
"""Words after which the right answer changes by itself; such requests need a short time to live."""
