"""The sentences of the generated corpus: fillers, and per task the templates with a known answer.

A template is `prompt|kind|tail`: the answer stands between prompt and tail, and `kind` tells the
task which answer is asked for (a pronoun's case, a verb). `{object}` draws from the pool `object`;
`{object2}` is another draw. The held-out templates are never used in training text.
"""

FILLERS = (
    "It was a {weather} {day} in {month}.",
    "The {place} was {adj} and full of people.",
    "A {colour} {animal} slept under the {object}.",
    "There were {number} {adj} chairs near the door.",
    "The train from {city} to {city2} was late again.",
    "In {country} the summers are {weather} and long.",
    "Somebody had left a {colour} {object} on the table.",
    "The {job} ate {food} and {food2} for lunch.",
    "Nobody knew where the {animal} had gone.",
    "The {adj} {object} cost {number} coins.",
    "People in {city} like {food} with {food2}.",
    "Every {day} the {job} walked to the {place}.",
    "The road to the {place} was {adj} and {adj2}.",
    "A letter from {city} arrived in {month}.",
    "The {animal} and the {animal2} shared some {food}.",
    "At night the {place} was {adj} and the moon was {colour}.",
    "The {job} from {country} had {number} children.",
    "They painted the {object} {colour} and {colour2}.",
    "In {month} the days are {weather} here.",
    "The {place} in {city} opens on {day}.",
    "A {job} and a {job2} talked about the {thing}.",
    "My {adj} {object} is behind the {object2}.",
    "The {animal} drank some water from the {adj} cup.",
    "On {day} there was a {thing} in the {place}.",
    "We counted {number} birds above the {place}.",
    "You can see the {place} from the {place2}.",
    "Someone was selling {food} and {colour} flowers.",
    "The {object} fell and the {animal} ran away.",
)

TRAIN: dict[str, tuple[str, ...]] = {
    "indirect_object": (
        "When {A} and {B} went to the {place}, {S} gave a {object} to||.",
        "Then {A} and {B} had a long talk at the {place}, and {S} gave the {object} to||.",
        "After {A} and {B} left the {place}, {S} handed a {colour} {object} to||.",
        "While {A} and {B} were working at the {place}, {S} sold the {adj} {object} to||.",
        "Then {A} and {B} met near the {place}. Later {S} showed a {object} to||.",
        "In {month} {A} and {B} visited {city}, where {S} sent a {object} to||.",
        "Since {A} and {B} liked {food}, {S} brought some {food} to||.",
        "Yesterday {A} and {B} found a {object}. Then {S} offered the {object} to||.",
        "The friends {A} and {B} sat in the {place} and {S} read a letter to||.",
        "On {day} {A} and {B} were in the {place}. There {S} threw the {object} to||.",
        "Before {A} and {B} ate the {food}, {S} passed a {object} to||.",
        "Because {A} and {B} are friends, {S} lent a {colour} {object} to||.",
        "In the {place} there were {A} and {B}. So {S} gave the {food} to||.",
        "{day} came, and {A} and {B} met in {city}; {S} handed a {object} to||.",
        "The {job} saw {A} and {B} at the {place} in {month}, when {S} passed the {object} to||.",
        "There {A} and {B} talked about the {thing}, until {S} brought a {object} to||.",
    ),
    "greater_than": (
        "The {event} lasted from {from} to||.",
        "The {event} began in {from} and ended in||.",
        "The {event} in {country} started in {from} and was over in||.",
        "From {from} to|| there was a {event}.",
        "Between {from} and|| the {event} changed {city}.",
        "The {adj} {event} went on from the year {from} to the year||.",
        "{name} worked in {city} from {from} until||.",
        "The {place} was built between {from} and||.",
        "The {job} lived in {country} from {from} to||.",
        "It opened in {from} and closed in||, said the {job}.",
    ),
    "pronoun": (
        "The {adj} day was long and {who} slept because|subj| was tired.",
        "Today {who} went to the {place} and|subj| bought a {object}.",
        "In the {place} {who} said that|subj| wanted some {food}.",
        "When {who} came home,|subj| ate the {food}.",
        "On {day} {who} lost|poss| {object} in the {place}.",
        "Then {who} opened the door with|poss| {adj} key.",
        "Every morning {who} feeds|poss| {animal}.",
        "The {job} saw {who} and talked to|obj| about the {thing}.",
        "The {animal} likes {who} and runs to|obj| every day.",
        "We called {who} and asked|obj| about the {object}.",
        "Soon {who} stopped, for|subj| heard a {animal}.",
        "At the {place} {who} forgot|poss| {colour} {object}.",
        "In {city} {who} was happy, and|subj| sang.",
        "This time {who} was late, so|subj| ran to the {place}.",
        "The {job} knew that {who} was tired, but|subj| went on.",
        "In the {place} {who} dropped the {object} and hurt|poss| foot.",
        "There {who} met the {job} and gave|poss| {object} away.",
        "The {job} liked {who} and sent a {object} to|obj| in {month}.",
        "On {day} the {job} saw {who} and brought some {food} to|obj|.",
    ),
    "agreement": (
        "The {noun} near the {other}|be| {adj}.",
        "The {noun} behind the {other}|was| {adj} and {adj2}.",
        "The {adj} {noun} of the {job}|be| {colour}.",
        "The {noun} with the {colour} {other}|was| in the {place}.",
        "On {day} the {noun} beside the {other}|was| {colour}.",
        "The {noun} that the {job} likes|be| {adj}.",
        "The {colour} {noun}|have| been in the {place} for {number} days.",
        "The {noun} under the {other}|have| moved to the {place}.",
        "In {city} the {noun} by the {other}|be| very {adj}.",
        "I think the {noun} next to the {other}|be| {colour}.",
        "The {noun} from {country}|was| {adj} in {month}.",
        "The {noun} above the {adj} {other}|have| been {colour} since {day}.",
    ),
    "docstring": (
        'def {func}({a}, {b}, {c}):\n    """Handle the {arg}.\n\n    :param {a}: the {adj} one\n'
        '    :param {b}: the {adj2} one\n    :param||: the {adj3} one\n    """\n',
        'def {func}(self, {a}, {b}, {c}, {d}):\n    """Return the {arg}.\n\n    :param {a}: a {adj}'
        ' value\n    :param {b}: a {adj2} value\n    :param||: a {adj3} value\n    """\n',
        'def {func}_{arg}({a}, {b}, {c}):\n    """{Func} the {arg}.\n\n    Args:\n        {a}: the '
        '{object}\n        {b}: the {object2}\n       ||: the {object3}\n    """\n',
        'def {func}(self, {a}, {b}, {c}):\n    """{Func} this {arg}.\n\n    Args:\n        {a}: '
        'comes first\n        {b}: comes next\n       ||: comes last\n    """\n',
        'def {func}_{arg}({a}, {b}, {c}, {d}):\n    """{Func} it.\n\n    @param {a}: {adj} {object}'
        '\n    @param {b}: {adj2} {object2}\n    @param||: {adj3} {object3}\n    """\n',
        "class {Arg}:\n    def __init__(self, {a}, {b}, {c}):\n        self.{a} = {a}\n        "
        "self.{b} = {b}\n        self.{c} =||\n",
        "def {func}({a}, {b}, {c}):\n    # {a} is the {adj} {object}\n    # {b} is the {adj2} "
        "{object2}\n    #|| is the {adj3} {object3}\n    return {a}\n",
        "def {func}({a}, {b}, {c}):\n    print({a}, {b},||)\n    return None\n",
        'def {func}({a}, {b}, {c}, {d}):\n    """{Func} the {object}.\n\n    :param {a}: {adj}\n'
        '    :param {b}: {adj2} {thing}\n    :param||: {adj3}\n    """\n',
        'def {func}_{arg}(self, {a}, {b}, {c}):\n    """Some {thing}.\n\n    :param {a}: {place} or'
        ' {place2}\n    :param {b}: {colour}\n    :param||: {food}\n    """\n',
        'def {func}({a}, {b}, {c}):\n    """Say {object}.\n\n    Args:\n        {a}: {object2}\n'
        '        {b}: the {colour} {animal}\n       ||: {food}\n    """\n',
        'def {func}_{arg}({a}, {b}, {c}, {d}):\n    """Ask the {job}.\n\n    Args:\n        {a}: it'
        ' is {adj}\n        {b}: a {thing}\n       ||: {adj2}\n    """\n',
    ),
    "sentiment": (
        "The {thing} was {opinion} and {opinion2}. Everybody|love| it.",
        "What a {opinion} {thing}! We|love| every minute.",
        "The {thing} in {city} was {opinion}. {name} felt|feel| afterwards.",
        "I found the {thing} {opinion}, so my review is|review|.",
        "The {job} called the {thing} {opinion}, and the review was|review|.",
        "After the {opinion} {thing} {name} was|feel| for days.",
        "The {food} was {opinion}, the {thing} was {opinion2}, and the guests felt|feel|.",
        "Such a {opinion} {thing} makes people|feel|.",
        "{name} thought the {thing} was {opinion} and|love| it.",
        "It was a {opinion} evening with a {opinion2} {thing}. The mood was|good|.",
        "Critics wrote that the {thing} was {opinion}. They|love| the {job}.",
        "The {thing} was {opinion}, and overall it was|good|.",
    ),
    "first_letter": (
        "The word {target} starts with the letter||.",
        "The first letter of {target} is||, and the word is short.",
        "In the dictionary {target} is found under||.",
        "The child wrote {target} and circled the||.",
        "On the box for {target} there was a big||.",
        "The words {w1} {w2} {target} give the letters {l1} {l2}||.",
        "The club called {w1} {w2} {target} is written {l1} {l2}||.",
        "Take {w1} and {target}: they begin with {l1} and||.",
        "Not {w1} but {target}, so the letter is||.",
        "To spell {target} you begin with||.",
        "Under {l1} comes {w1}, and {target} comes under||.",
    ),
    "closing": (
        "The sign said {open}{content}|| near the {place}.",
        "The {job} wrote {open}{content}|| on the wall.",
        "In the note {open}{content}|| was underlined.",
        "She read {open}{content}|| and smiled.",
        "The label {open}{content}|| was on the {place} door.",
        "They put {open}{content}|| into the list.",
        "He answered {open}{content}|| and left.",
        "The page about {open}{content}|| was torn.",
        "{arg} = {open}{a}, {b}, {c}||\n",
        "return {open}{a}, {b}, {c}||\n",
        "{arg}.{func}{open}{a}, {b}, {c}||\n",
        "A map of {open}{content}|| hung there.",
    ),
    "induction": (
        "The password was {seq}. Then {name} typed {part}|| and went on.",
        "Say {seq}. Again: {part}||.",
        "First round: {seq}. Second round: {part}||.",
        "{name} sang {seq} and everybody sang {part}|| too.",
        "The list on the {object} was {seq}. The copy was {part}||.",
        "The machine printed {seq} and then {part}||.",
        "On {day} the code is {seq}, and on {day2} it is {part}||.",
        "The parrot heard {seq} and repeated {part}||.",
        "Write {seq} here. Now write {part}|| there.",
        "The note said {seq} / {part}||.",
        "They played {seq}, then {part}|| once more.",
    ),
}

ECHOES = (
    "Again:",
    "Yes,",
    "I repeat:",
    "The {job} said:",
    "In other words:",
    "{name} read aloud:",
    "Once more:",
    "Everybody in {city} knows it:",
)
"""They introduce a sentence that has been there before, word for word."""

HELD_OUT: dict[str, tuple[str, ...]] = {
    "indirect_object": (
        "Last {month} {A} and {B} stayed in {country}, and there {S} gave a {colour} {object} to"
        "||.",
        "While {A} and {B} were near the {place}, {S} brought the {food} to||.",
        "After the {thing} {A} and {B} sat down. Soon {S} handed the {object} to||.",
    ),
    "greater_than": (
        "The {adj} {event} of {country} began in {from} and was over in||.",
        "The {thing} in {city} went on from {from} until||.",
    ),
    "pronoun": (
        "In {month} {who} was ill, so|subj| stayed in {city}.",
        "Near the {place} {who} dropped|poss| {colour} {object}.",
        "The {job} met {who} and gave a {object} to|obj| on {day}.",
    ),
    "agreement": (
        "In {month} the {adj} {noun} near the {adj2} {other}|was| {colour}.",
        "We know that the {noun} behind the {other}|be| {adj}.",
        "On {day} the {noun} from {city}|have| been moved.",
    ),
    "docstring": (
        'def {func}({a}, {b}, {c}):\n    """{Func} some {arg} and return it.\n\n    :param {a}: '
        "the {colour} {object}\n    :param {b}: the {colour2} {object2}\n    :param||: the {adj}\n"
        '    """\n',
        'def {func}_{arg}(self, {a}, {b}, {c}, {d}):\n    """{Func} the {arg}.\n\n    Args:\n'
        "        {a}: a {adj} thing\n        {b}: a {adj2} thing\n       ||: a {adj3} thing\n"
        '    """\n',
    ),
    "sentiment": (
        "On {day} we saw a {opinion} {thing} in {city} and|love| it.",
        "The {thing} at the {place} was {opinion} and {opinion2}, so {name} felt|feel| that night.",
    ),
    "first_letter": (
        "The {job} says that {target} begins with the letter||.",
        "The team called {w1} {w2} {target} has the letters {l1} {l2}||.",
    ),
    "closing": (
        "Behind the {place} somebody painted {open}{content}|| in {month}.",
        "The book about {open}{content}|| is in the {place}.",
        "{func}_{arg} = {open}{a}, {b}, {c}||\n",
    ),
    "induction": (
        "The {job} shouted {seq} and the {animal} shouted {part}||.",
        "In {city} the number was {seq}. In {city2} it was {part}||.",
    ),
}
