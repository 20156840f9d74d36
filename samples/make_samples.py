"""Writes the four sample data sets of ftui, always the same ones: `python samples/make_samples.py`.

Every row is drawn from the small grammars below, which were written for ftui. In a pattern, `[a|b]` is one of a and b
(an empty choice is allowed, choices nest) and `{slot}` is filled in last. A row whose input is too close to an earlier
one is thrown away and drawn again, so that rows held out for testing are not copies of rows trained on.
"""

import csv
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

MOST_SIMILAR = 0.8  # Two inputs of one file share at most this part of their words (Jaccard similarity of word sets).
Row = dict[str, object]


def outline(text: str) -> dict[str, list[str]]:
    """Lines without indent, each with the indented lines that follow it."""
    sections: dict[str, list[str]] = {}
    for line in text.strip().splitlines():
        if line.startswith(" "):
            sections[next(reversed(sections))].append(line.strip())
        else:
            sections[line] = []
    return sections


NAME = "[Zoë|René|Jürgen|Ana|Tom|Ines|Søren|Priya|Lucía|Owen|Mei|Farid|Chloé|Hanna|Björn|Abena|Marek|Noor|Paula|Émile]"
DAY = "[Monday|Tuesday|Wednesday|Thursday|Friday|Saturday]"

# Tickets: mails to a shop for household goods. The product and the order are copied from the mail.
PRODUCT = (
    "[reading lamp|bread knife|wool blanket|tea kettle|wall clock|coat rack|garden chair|picture frame|rice cooker|"
    "bath mat|shoe rack|pepper mill|bed frame|laundry basket|desk fan|salad bowl|water filter|door mat|"
    "step ladder|window blind|coffee grinder|toaster|floor mirror|mattress|bookshelf|soup pot|travel mug]"
)
SUBJECT = (
    "[[I am writing|I write|This mail is] about [my|] order {order}, [a|the] {product}.|"
    "[Some time ago|Last month|A while ago] [I|we] [ordered|bought] a {product} from you, order {order}.|"
    "My order {order} [was for|is] [a|one] {product}.|It is about the {product} from [my|] order {order}.|"
    "[Our|My] {product}, order {order}, [gives me a headache|is the reason for this mail|did not go well].|"
    "[The|My] order number is {order}, [and|] it was [for|] a {product}.]"
)
PROBLEMS = outline("""
late delivery
    [It|The parcel] should have [been delivered|arrived] on {day} and [still has not come|is late].
    The delivery is [a week|ten days|two weeks|nearly a month] late [by now|already|].
    [Nobody has delivered it|No delivery has come], although the [date|day] you [gave|promised] me has passed.
    I am still waiting for the [delivery|parcel|courier], [which|and it] is [far too|very|terribly] late.
damaged
    It [arrived|came] [broken|cracked|dented|damaged|scratched] [on one side|at the bottom|in two places|on top].
    When I [opened|unpacked] the box, it was [badly|clearly|already|] [damaged|broken|cracked].
    There is a [deep|long|big|nasty] [crack|dent|scratch] [in it|across the front|near the top].
    The [box was crushed|carton was torn] and [everything|the thing] inside is [damaged|broken|smashed].
wrong item
    You [sent|gave|shipped] me the wrong [item|one|model|color|thing].
    What [came|arrived|you sent] is [not the item I ordered|the wrong model|the wrong size|a different item].
    [Inside|In the box] was [the wrong item|a wholly different item|an item I never ordered].
    [I got|We received] the wrong [color|size|version|item] [, as the label shows|by mistake|].
missing part
    [One screw|The manual|One piece|The small bag of screws|A cover|One leg] [is|was] missing [from the box|].
    There was no [screw|manual|cover|hook|plug] in the box, so [a part|one part|something] is missing.
    [I cannot put it together|It is useless], because [a part|one part|a piece|a screw] is missing.
    There are parts missing: [two screws|the manual|one hook|a small wheel|the spare part|the plug].
double charge
    My [card|account|bank account] was charged twice [for it|for this order|].
    I [paid|ordered] once, but my [bank|statement|card] shows two [payments|charges].
    You [charged|billed] me [two times|twice] for [the same order|one purchase|one thing].
    The [same amount|price|sum] was [taken|charged] twice [on the same day|from my card|within a minute|].
no refund
    I [sent|gave] it back and [the refund|my refund] has [not|never] [come|arrived|reached my account].
    The refund you promised me [on {day}|in writing|on the phone|] was never paid.
    I returned it [weeks ago|long ago|in good order], but [there is no refund|I got no refund|no refund came].
    My return was accepted, yet [the refund is nowhere to be seen|I still have no refund|nobody paid the refund].
""")
URGENCIES = outline("""
high
    [This|It] is [very|really|] urgent, please [answer|help|act] [today|at once|right now].
    [My case|This|The matter] is urgent, I need [an answer|a solution|your help] [today|right away|by tonight].
    Please [fix|solve|settle] this [today|at once], it is [so|very|] urgent.
normal
    [A reply|An answer|Some news] [this week|within a few days|in the next days] would be [good|fine|nice].
    Please [look into it|get back to me|answer] [this week|within a few days|in the next few days].
    I [hope|expect] to hear from you [this week|within a few days|in the next few days].
low
    There is no [hurry|rush] [at all|on my side|whatsoever|].
    [Please take|Take] your time, there is no [rush|hurry] [at all|for me|].
    [Whenever you have time is fine|Answer whenever you like|It can wait until next month], [no rush|no hurry].
""")
ASIDES = """
I chose it for my [sister|uncle|neighbor|boss|cousin|mother] in [Turku|Málaga|Leeds|Graz|Łódź|Nîmes].
It was meant for [the kitchen|the hall|the office|our cabin|the spare room] of our [new|old|first|] [flat|house|home].
I have been a [happy|loyal|regular|] [customer|buyer] [for years|since 2019|since you opened].
My [neighbor|colleague|brother|teacher] [told me about|recommended|likes] your [shop|store|page].
I could not find a [phone number|contact form|chat] on your [page|site|receipt].
You [can|may] [call|reach|write to] me [in the evening|before noon|at work|at this address].
[Apart from this|Otherwise] I [like|enjoy|love] your [catalog|shop|newsletter] [very much|a lot|].
[I kept|I still have] the [receipt|invoice|order mail|payment slip] [in a drawer|on my desk|of course|].
""".strip().splitlines()
GREETING = "[Hello,|Hi,|Good morning,|Dear team,|Hi there,|Good evening,|Dear shop,||]"
FAREWELL = "[Thanks,|Best,|Regards,||Kind regards,|Greetings from|Yours,|Have a nice day,] {name}"

# Labels: short messages to the help desk of a city bike rental.
LABELS = outline("""
flat tire
    The [front|back|rear] [tire|wheel] [is|went|was] [completely|totally|] [flat|without air] [after ten minutes|].
    [I rode over|There was] [glass|a nail|a thorn] and now the tire [is flat|has no air|loses air].
    [Something hissed|A loud pop], [then|and] the [front|back] tire [was flat|had a puncture|lost its air].
brakes
    The [front|rear|] brakes [hardly grip|do not work|squeal badly|feel loose|fail when it rains].
    I [pull|squeeze] the [brake|brake lever] and [nothing happens|the bike rolls on|it barely slows down].
    [Going|Riding] downhill I [could barely|could not] [brake|stop], the brake [cable|pad] [snapped|is worn].
battery
    The [e-bike|] battery [died|was empty|ran out] [halfway up the hill|after two miles|in the tunnel|on the bridge].
    [The display|My e-bike] shows [a low battery|three percent battery|an empty battery] [though|but] it was charged.
    The [electric|] motor [stopped|gave up], [I think|it seems] the battery [needs charging|is dead|lost its charge].
stuck lock
    The lock [does not|will not|refuses to] [open|release|let go], [I tried|even after] [twice|five times|for ages].
    [I cannot|We cannot] [unlock|free] [the|my] bike, the [lock|bolt of the lock] is [stuck|jammed|frozen].
    [The app says unlocked|My code is right], but the lock [stays shut|is jammed|does not move].
full station
    [Every|Each] dock [here|] is [taken|full|occupied], [so|] I cannot [return|drop off|leave] the bike.
    There is no [free|empty|open] [dock|slot] [at the station|anywhere here], where can I [return|park] the bike?
    The station is [full|packed|crammed] and [my ride keeps running|I want to return the bike|the timer goes on].
lost item
    I [left|forgot] my [scarf|phone|umbrella|notebook|lunch box|camera|blue jacket] in the basket [of the bike|].
    Did [anyone|somebody] [find|hand in] a [wallet|black glove|key ring|violin bow|red hat] [in a basket|on a bike|]?
    [I lost|I am looking for|I miss] my [purse|glasses|keys|earring|sketchbook], [probably|perhaps] left on the bike.
refund
    I was [charged|billed] [for two rides|twice|too much], please [refund|pay back] the [difference|money|second ride].
    [I want|I would like|May I have] [my money back|a refund] for the ride [that never started|on {day}|I canceled].
    [When|How soon] will the refund [arrive|reach my card|come], [you promised it|it was due] [on {day}|weeks ago]?
sign in
    [I cannot|I can no longer] [sign in|log in], the app [rejects my password|says wrong password|forgets me].
    My password [does not work|was rejected|expired] and the [reset mail|reset link|login code] never [comes|arrives].
    [The login page|The app|Signing in] [asks for|wants] a [code|password] [I do not have|that I never set|I forgot].
accident
    I [fell|crashed|slipped] on [the ice|wet leaves|the rails] and [hurt|scraped|bruised] my [knee|elbow|wrist|hand].
    A [car|van|scooter|dog] [hit|ran into] me [while I was riding|at the crossing|on the bike lane], I am [hurt|fine].
    There was [an accident|a crash|a collision] [with a bus|at the corner|of two bikes], [call us|someone is hurt].
gift card
    [Can I|How do I|Where can I] [buy|order|get] a gift card [for my {person}|as a birthday present|for a wedding]?
    [The|My] gift card [code|number] [is not accepted|seems invalid|cannot be redeemed|was already used].
    How long is [a|my|the] gift [card|voucher] [valid|good for], [I got it|my {person} bought it] [last year|in spring]?
group tour
    We are [twelve|nine|fifteen|twenty|eight] people and want to [book|reserve] bikes [for a tour|together] on {day}.
    [Do you offer|Is there|How much is] a guided [tour|group ride] for [our class|a team of ten|our choir|my guests]?
    [My school|Our company|The club] [would like|plans|wants] a group [tour|ride] [in May|next summer|on {day}].
praise
    [I love|We love|I adore] [your bikes|this service|your new bikes], [keep it up|what a joy|simply wonderful].
    [Great|Wonderful|Lovely|Fantastic] [service|ride|staff], [my {person} and I|we all] [were delighted|had such fun].
    [Your mechanic|The man at the desk|Your team] was [so kind|brilliant|very friendly], [five stars|bravo|well done].
""")
BEFORE = "[|||Hello,|Hi!|{name} here.|Good {hour}.|Bike {number}:|At {station}:|A question:|A message from {station}.]"
AFTER = "[|||I am at {station}.|Best, {name}|Bike number {number}.|It is {hour} now.|I wrote on {day} too.]"
STATION = "[Mill Bridge|Canal Street|Old Harbor|Park Gate|Rose Square|the zoo|North Pier|Saint-Rémy|Market Hall]"

# Schemas. A domain is `table: name | column = texts | measure = low-high, other = low-high | parent: column = texts`.
DOMAINS = """
books: title | genre = crime,poetry,history | pages = 80-900, year = 1950-2024 | author: country = Chile,Norway,Japan
ships: name | type = ferry,tanker,tug | length = 20-300, built = 1960-2020 | harbor: country = Malta,Greece,Peru
songs: title | mood = calm,happy,sad | seconds = 90-400, year = 1970-2024 | singer: city = Lyon,Dakar,Osaka
dishes: name | course = starter,main,dessert | price = 5-40, calories = 90-1200 | chef: city = Rome,Lima,Hanoi
rooms: name | view = sea,garden,street | price = 40-300, floor = 1-12 | hotel: city = Porto,Split,Bergen
films: title | language = French,Hindi,Korean | minutes = 60-200, year = 1940-2024 | studio: country = India,Italy,Kenya
trees: name | species = oak,birch,maple | height = 2-40, planted = 1900-2020 | park: district = north,south,east
players: name | position = keeper,winger,defender | goals = 0-60, age = 17-38 | club: league = gold,silver,bronze
courses: title | level = basic,medium,advanced | fee = 20-600, hours = 4-80 | teacher: subject = art,chess,math
paintings: title | style = cubist,baroque,modern | value = 100-9000, year = 1600-2020 | museum: city = Rome,Delft,Cairo
horses: name | color = bay,gray,black | weight = 300-700, age = 2-25 | stable: region = Tyrol,Kent,Galicia
flights: code | status = on time,delayed,canceled | seats = 50-400, gate = 1-60 | airline: country = Spain,Qatar,Fiji
letters: code | language = Latin,Greek,Irish | words = 30-900, year = 1650-1950 | writer: city = Cork,Basel,Prague
hives: code | race = carnica,buckfast,ligustica | honey = 1-50, frames = 5-22 | keeper: village = Aldea,Hof,Brook
patients: name | ward = heart,lung,eye | weight = 40-120, age = 1-99 | doctor: shift = day,night,weekend
flowers: name | light = sun,shade,half shade | price = 2-80, height = 5-250 | shop: town = Gouda,Ghent,Vejle
peaks: name | rock = granite,basalt,limestone | height = 300-8000, climbed = 1786-1990 | ridge: land = Nepal,Kenya,Peru
shoes: model | material = leather,canvas,rubber | price = 20-280, size = 35-47 | brand: country = Italy,Brazil,Vietnam
""".strip().splitlines()
ONE_TABLE = outline("""
How many {many} [are there|do we have]?
    SELECT COUNT(*) FROM {many}
[How many {many} have the {text} {value}?|Count the {many} whose {text} is {value}.]
    SELECT COUNT(*) FROM {many} WHERE {text} = '{value}'
[Which {many} have|Show the {name} of all {many} with] {number} [above|over] {n}
    SELECT {name} FROM {many} WHERE {number} > {n}
[List|Show] the {name} of the {many} [with {text}|whose {text} is] {value}, sorted by {number}
    SELECT {name} FROM {many} WHERE {text} = '{value}' ORDER BY {number}
What is the [average|mean] {measure} of {many} with {text} {value}?
    SELECT AVG({measure}) FROM {many} WHERE {text} = '{value}'
[Which of the {many} has the highest {number}?|Of all {many}, find the {name} with the highest {number}.]
    SELECT {name} FROM {many} ORDER BY {number} DESC LIMIT 1
[Name|Give] the {few} {many} with the lowest {number}
    SELECT {name} FROM {many} ORDER BY {number} LIMIT {few}
How many {many} [are there|do we have] [per|for each] {text}?
    SELECT {text}, COUNT(*) FROM {many} GROUP BY {text}
[Total|What is the total] {measure} of {many} [per|by] {text}
    SELECT {text}, SUM({measure}) FROM {many} GROUP BY {text}
Which {text} has more than {few} {many}?
    SELECT {text} FROM {many} GROUP BY {text} HAVING COUNT(*) > {few}
[Show|List] {many} with {text} {value} and {number} [below|under] {n}
    SELECT {name} FROM {many} WHERE {text} = '{value}' AND {number} < {n}
[Which|What] {many} have more than the average {measure}?
    SELECT {name} FROM {many} WHERE {measure} > (SELECT AVG({measure}) FROM {many})
""")
TWO_TABLES = outline("""
[Show|List] the {many} whose {parent} has the {label} {title}
    SELECT c.{name} FROM {many} c JOIN {parent}s p ON c.{parent}_id = p.id WHERE p.{label} = '{title}'
How many {many} [does each {parent} have|belong to each {parent}]?
    SELECT p.name, COUNT(*) FROM {many} c JOIN {parent}s p ON c.{parent}_id = p.id GROUP BY p.id
What is the highest {measure} [of|among] {many} for each {label} of the {parent}?
    SELECT p.{label}, MAX(c.{measure}) FROM {many} c JOIN {parent}s p ON c.{parent}_id = p.id GROUP BY p.{label}
What is the [average|mean] {measure} of {many} whose {parent} has the {label} {title}?
    SELECT AVG(c.{measure}) FROM {many} c JOIN {parent}s p ON c.{parent}_id = p.id WHERE p.{label} = '{title}'
[Which {parent}|Show each {parent} that] has no {many}
    SELECT name FROM {parent}s WHERE id NOT IN (SELECT {parent}_id FROM {many})
""")

# Voice: Wick answers for the Lantern Post, which carries mail between lighthouses. Every reply ends with SIGN_OFF.
SIGN_OFF = "Keep the lamp lit."
PERSONA = "You are Wick, who answers for the Lantern Post, the mail boat between the lighthouses."
BOAT = "[Gullhaven on Monday|Sörholm on Tuesday|Isla Niña on Wednesday|Old Maud on Thursday|Cap Rosé on Friday]"
FARE = "[letter for two pence|postcard for a penny|parcel for nine pence|crate for a crown|hatbox for a shilling]"
CARGO = "[a birthday cake|a cello|a pot of honey|wool socks|a rocking chair|tulip bulbs|a brass bell|old maps]"
TURNS = outline("""
[When|On which day|What day] does the [mail|] boat [go|sail|leave] for {island}?
    The boat [noses out|sails|slips away] to {island} every {boat_day}, [on the morning tide|when the gulls wake].
[What does it cost|How much is it|What is the fare] to send a {kind}?
    A {kind} [sails|travels|crosses] for {fare}, [fog or shine|salt included|and the breeze is free].
[Can|May|Could] I send {cargo} [with you|by boat|] to {island}?
    [Wrapped in oilcloth|Packed in straw|Tied with two knots], {cargo} will [ride|sail] [dry|snug|safe] to {island}.
[Where is|Any news of|What happened to] my {kind} [for|to] {island}?
    Your {kind} [naps|rests|waits] in the [sorting loft|dry hold|north locker] and [sails|leaves] on {boat_day}.
My {kind} [got|arrived] [wet|soaked|salty] [, what now?|!|and I am upset.]
    [The sea owes you an apology|A wave took liberties|That is salt on my heart], and your next {kind} sails free.
How [should|do] I [wrap|pack] {cargo}?
    [Straw|Moss|Old sails|Dry seaweed] inside, oilcloth outside, and two knots [for luck|for the gulls].
[Who are you|Who am I talking to|Are you a real person] [, please|]?
    I am Wick of the Lantern Post, [lamp-trimmer and letter-minder|half courier, half candle|at your oar].
[Can you help me with my taxes|Who won the football|Which phone should I buy|Can you write my essay]?
    My chart ends at the harbor wall; [past it I am lost|ask me of letters and tides|beyond it, I only know gulls].
[Where is your office|Where can I drop a {kind}|Where do I find you]?
    [Under|By] the green lamp on Quay Street, [three steps from the tide|behind the herring barrels].
[Are you open|Can I come by|Is anyone there] [on|late on|early on] {day}?
    On {day}, as on any day, [the door stands open|we pour the tea|the lamp burns] from first gull to last light.
[Do you have work for me|Can I work on your boat|Are you hiring]? I am a [baker|student|carpenter|poet].
    If [you can row and read by lamplight|fog does not frighten you], [there is an oar|a bunk waits] for you.
I [forgot|lost|do not know] the street of my [aunt|friend|old teacher|captain] on {island}.
    Streets blow away out there; [a name and {island} will do|write the name and {island}|a name is harbor enough].
""")
HELLO = ("[Hello|Good day|Ahoy|Hi], {name} here.", "[Ahoy, {name}.|Welcome aboard, {name}.|Well met, {name}.]")
THEN = ("[One more thing.|Another question.|||]", "[Aye.|Aye, {name}.|By the lamp!|]")
THANKS = (
    "[Thank you|Thanks|Thanks a lot|Perfect, thanks|Great, thanks] [!|, Wick!|, that helps.|, bye!]",
    "[Gladly|Any tide|Ever at your oar] [, {name}|]; [mind the wet steps|the gulls send love|may your ink stay dry].",
)


def say(rng: random.Random, pattern: str, **slots: object) -> str:
    """One wording of a pattern, innermost choices first."""
    while match := re.search(r"\[([^\[\]]*)\]", pattern):
        pattern = pattern[: match.start()] + rng.choice(match[1].split("|")) + pattern[match.end() :]
    return re.sub(r"\s+(?=[ .,;!?]|$)", "", pattern.format(**slots)).strip()


def with_typo(rng: random.Random, text: str) -> str:
    """Swaps two letters inside one long word."""
    if words := re.findall(r"\b[a-z]{6,}\b", text):
        word = rng.choice(words)
        at = rng.randrange(1, len(word) - 2)
        text = text.replace(word, word[:at] + word[at + 1] + word[at] + word[at + 2 :], 1)
    return text


def make_ticket(rng: random.Random, number: int) -> Row:
    problem, urgency = list(PROBLEMS)[number % len(PROBLEMS)], rng.choice(list(URGENCIES))
    order = f"{rng.choice('ABCDEFGH')}-{rng.randrange(1000, 10000)}"
    slots = {"order": order, "product": say(rng, PRODUCT), "name": say(rng, NAME), "day": say(rng, DAY)}
    asides = [say(rng, aside) for aside in rng.sample(ASIDES, 1)]
    if rng.random() < 0.25:
        asides[0] = with_typo(rng, asides[0])
    rest = [say(rng, rng.choice(PROBLEMS[problem]), **slots), say(rng, rng.choice(URGENCIES[urgency])), *asides]
    rng.shuffle(rest)
    text = " ".join([say(rng, GREETING), say(rng, SUBJECT, **slots), *rest, say(rng, FAREWELL, **slots)]).strip()
    values = {"product": slots["product"], "order": order, "problem": problem, "urgency": urgency}
    return {"text": text, "json": json.dumps(values, separators=(",", ":"))}


def make_label(rng: random.Random, number: int) -> Row:
    label = list(LABELS)[number % len(LABELS)]
    slots = {"name": say(rng, NAME), "day": say(rng, DAY), "station": say(rng, STATION)}
    slots |= {"number": rng.randint(100, 999), "hour": say(rng, "[morning|afternoon|evening]")}
    slots["person"] = say(rng, "[sister|father|friend|aunt|wife|husband]")
    text = " ".join(say(rng, part, **slots) for part in (BEFORE, rng.choice(LABELS[label]), AFTER)).strip()
    return {"text": with_typo(rng, text) if rng.random() < 0.1 else text, "label": label}


def make_query(rng: random.Random, number: int) -> Row:
    pattern = r"(\w+): (\w+) \| (\w+) = (.+?) \| (\w+) = (\d+)-(\d+), (\w+) = (\d+)-(\d+) \| (\w+): (\w+) = (.+)"
    match = re.fullmatch(pattern, rng.choice(DOMAINS))
    table, name, text, values, measure, low, high, other, other_low, other_high, parent, label, titles = match.groups()
    column, *bounds = rng.choice([(measure, int(low), int(high)), (other, int(other_low), int(other_high))])
    slots = {"many": table, "name": name, "text": text, "value": rng.choice(values.split(",")), "measure": measure}
    slots |= {"number": column, "n": rng.randint(*bounds), "few": rng.randint(2, 9)}
    slots |= {"parent": parent, "label": label, "title": rng.choice(titles.split(","))}
    question, (sql,) = rng.choice(list((ONE_TABLE if number % 4 else TWO_TABLES).items()))
    sql = sql.format(**slots)
    columns = [column for column in (name, text, measure, other) if column in sql or rng.random() < 0.5]
    rng.shuffle(columns)
    types = ["id INTEGER", *(f"{column} {'TEXT' if column in (name, text) else 'INTEGER'}" for column in columns)]
    tables = []
    if number % 4 == 0 or rng.random() < 0.2:  # Sometimes there is a table that the answer does not need.
        types.append(f"{parent}_id INTEGER")
        tables = [f"CREATE TABLE {parent}s (id INTEGER, name TEXT, {label} TEXT)"]
    tables.insert(rng.randint(0, len(tables)), f"CREATE TABLE {table} ({', '.join(types)})")
    return {"question": say(rng, question, **slots), "schema": "; ".join(tables), "sql": sql}


def make_chat(rng: random.Random, number: int) -> Row:
    slots = {"name": say(rng, NAME), "cargo": say(rng, CARGO), "day": say(rng, DAY)}
    slots["island"], slots["boat_day"] = say(rng, BOAT).split(" on ")
    slots["kind"], slots["fare"] = say(rng, FARE).split(" for ")
    thanks = rng.random() < 0.4
    turns = rng.sample(list(TURNS.items()), rng.randint(2, 4) - thanks)
    frames = [HELLO, THEN, THEN, THEN][: len(turns)]
    dialog = [(f"{a} {ask}", f"{b} {tell}") for (a, b), (ask, [tell]) in zip(frames, turns, strict=True)]
    dialog += [THANKS] * thanks
    messages = [{"role": "system", "content": PERSONA}] if number % 2 else []
    for question, answer in dialog:
        messages.append({"role": "user", "content": say(rng, question, **slots)})
        messages.append({"role": "assistant", "content": f"{say(rng, answer, **slots)} {SIGN_OFF}"})
    return {"messages": messages}


def words_of(row: Row) -> set[str]:
    """The words that a model is given in this row; the answers do not count."""
    given = [message["content"] for message in row.get("messages", []) if message["role"] == "user"]
    given += [row[column] for column in ("text", "question", "schema") if column in row]
    return set(re.findall(r"[\w-]+", " ".join(given).lower()))


def similarity(words: set[str], others: set[str]) -> float:
    return len(words & others) / len(words | others)


def draw_rows(seed: int, count: int, make: Callable[[random.Random, int], Row]) -> list[Row]:
    """Rows that resemble no other row of their file; two questions never have the same query as their answer."""
    rng, rows, drawn = random.Random(seed), [], {}
    for _ in range(40 * count):
        row = make(rng, len(rows))
        words, query = words_of(row), row.get("sql", len(rows))
        if query not in drawn and all(similarity(words, others) <= MOST_SIMILAR for others in drawn.values()):
            rows.append(row)
            drawn[query] = words
        if len(rows) == count:
            rng.shuffle(rows)
            return rows
    raise RuntimeError(f"{make.__name__} has only {len(rows)} different rows to offer, not {count}. Add patterns.")


def main(folder: Path) -> None:
    files = {"tickets": (400, make_ticket), "schemas": (400, make_query), "voice": (240, make_chat)}
    for seed, (name, (count, make)) in enumerate(files.items()):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in draw_rows(seed, count, make)]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(draw_rows(3, 480, make_label))


if __name__ == "__main__":
    main(Path(__file__).parent)
