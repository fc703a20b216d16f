"""The word lists of the generated corpus: plain data, chosen so that features have themes to find."""

GIRLS = tuple(
    "Anna Clara Emma Julia Laura Maria Nina Olivia Paula Rosa Sara Tina Vera Wendy Alice Bella "
    "Daisy Ella Fiona Grace Hanna Irene Jane Kate Lucy Mary Nora Ruth Sophie Zoe Amy Eva Ida Lily "
    "Mia Molly Susan Linda Helen Diana".split()
)
BOYS = tuple(
    "Adam Ben Carl David Eric Frank George Henry Ivan Jack Kevin Leo Mark Noah Oscar Paul Robert "
    "Sam Tom Victor Walter Alex Bruno Daniel Felix Hugo James John Karl Luke Martin Nick Oliver "
    "Peter Simon Thomas Arthur Max Philip Edward".split()
)
NAMES = GIRLS + BOYS
PLACES = tuple(
    "school park market station garden library kitchen beach forest harbour museum church office "
    "theatre hotel castle farm river bridge bakery hospital airport zoo cinema village shop lake "
    "mountain island tower".split()
)
OBJECTS = tuple(
    "book ball ring lamp key letter box drum kite cup hat coat basket pencil camera bottle clock "
    "knife map mirror needle piano ribbon spoon ticket umbrella violin wallet hammer guitar jar "
    "ladder newspaper paper rope sword vase wheel candle flag".split()
)
ANIMALS = tuple(
    "dog cat horse cow sheep goat duck fox bear wolf lion tiger rabbit mouse frog owl eagle snake "
    "whale shark monkey elephant zebra bee spider parrot pig donkey".split()
)
FOODS = tuple(
    "apple bread cheese soup cake honey rice egg lemon orange pear plum tomato potato onion pizza "
    "salad butter nut jam yoghurt fish".split()
)
COLOURS = tuple("red blue green yellow black white brown grey purple pink golden silver".split())
ADJECTIVES = tuple(
    "old new small big heavy light warm cold quiet loud clean dirty broken soft round empty strange "
    "simple long short".split()
)
JOBS = tuple(
    "doctor teacher farmer baker pilot sailor painter singer lawyer nurse driver writer judge "
    "soldier gardener waiter cook king".split()
)
CITIES = tuple(
    "Paris London Rome Berlin Madrid Vienna Athens Lisbon Prague Dublin Oslo Warsaw Cairo Tokyo "
    "Boston Chicago Geneva Milan".split()
)
COUNTRIES = tuple(
    "France England Italy Germany Spain Austria Greece Portugal Ireland Norway Poland Egypt Japan "
    "Canada India China Brazil Sweden".split()
)
DAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS = tuple(
    "January February March April May June July August September October November December".split()
)
NUMBERS = tuple("two three four five six seven eight nine ten twelve twenty".split())
WEATHER = tuple("rainy sunny windy foggy snowy cloudy stormy hot freezing dry".split())
GOOD = tuple(
    "wonderful excellent brilliant delightful lovely superb perfect charming fantastic great "
    "beautiful amazing pleasant splendid marvellous clever".split()
)
BAD = tuple(
    "awful terrible horrible dreadful boring ugly poor nasty disgusting dull stupid disappointing "
    "annoying unpleasant miserable rotten".split()
)
THINGS = tuple(
    "film play concert meal hotel story trip party song show speech game lesson dinner novel "
    "holiday exhibition dance".split()
)
EVENTS = tuple(
    "war strike exhibition journey project reign drought campaign voyage siege festival treaty "
    "expedition trial dispute alliance".split()
)
NOUNS = tuple(
    "dog cat horse teacher doctor farmer sailor painter singer nurse driver writer soldier book "
    "lamp key letter box drum kite cup hat coat bottle clock map mirror ticket flag candle picture "
    "window door garden boat train car tree flower house".split()
)
"""Nouns whose plural is the singular with an s."""
ARGUMENTS = tuple(
    "load size files path name data mode index value count width height limit offset buffer target "
    "source node image label user token field state level format host port query order group color "
    "scale depth rate model table start stop step".split()
)
FUNCTIONS = tuple(
    "open read write find update create build parse fetch render sort filter merge send copy remove "
    "check apply convert connect".split()
)
YEARS = tuple(str(year) for year in range(1900, 2000))
LETTER_WORDS = tuple(sorted(set(ANIMALS + FOODS + OBJECTS + COLOURS + JOBS + NAMES)))
LIST_WORDS = tuple(sorted(set(ANIMALS + FOODS + OBJECTS + COLOURS + PLACES + CITIES)))

POOLS: dict[str, tuple[str, ...]] = {
    "name": NAMES,
    "girl": GIRLS,
    "boy": BOYS,
    "place": PLACES,
    "object": OBJECTS,
    "animal": ANIMALS,
    "food": FOODS,
    "colour": COLOURS,
    "adj": ADJECTIVES,
    "job": JOBS,
    "city": CITIES,
    "country": COUNTRIES,
    "day": DAYS,
    "month": MONTHS,
    "number": NUMBERS,
    "weather": WEATHER,
    "good": GOOD,
    "bad": BAD,
    "thing": THINGS,
    "event": EVENTS,
    "arg": ARGUMENTS,
    "func": FUNCTIONS,
    "year": YEARS,
    "word": LETTER_WORDS,
    "item": LIST_WORDS,
}
