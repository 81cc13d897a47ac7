"""Words the pair verifier knows: what may be left out of a question, what means the same, what never does.

English. A word that is not here counts as content: it must then appear in both texts. Written by hand; how well it
does is in docs/semantic-cache.md. One line is one group, and its first word the name the group is compared by.
"""

from typing import Final

# Grammar and politeness: present or absent, the question stays the same.
FILLERS: Final = """
a an the this these those that there here it its itself i you we one ones us me
please kindly hi hello hey thanks thank dear just so too also very quite really actually basically simply exactly
precisely maybe perhaps ok okay well oh some any anyone anybody someone somebody something anything such as get got
getting gets gotten obtain obtaining obtained acquire acquiring receive receiving received be been being am done
doing have has had having ever would will shall might gonna literally wondering curious regarding concerning then
now currently presently nowadays today own thing things stuff various certain given particular specific specifically
though although however let lets sir guys dude folks supposed kind sort_of type kinds sorts types using used via
through way ways step steps easily correctly properly rightly usually normally typically generally commonly
successfully efficiently effectively try trying tried attempt attempting want wants wanted wanting like help
go going goes happen happens happening happened occur occurs occurring occurred mean means meaning meant
definition called known question exist exists existing which who that's really's involved following another
considered regarded they their them theirs
""".split()

AUXILIARIES: Final = "is are was were do does did has have had will would shall am".split()
MODALS: Final = {
    **dict.fromkeys("can could may able possible allowed permitted permissible".split(), "can"),
    **dict.fromkeys("should ought advisable".split(), "should"),
    **dict.fromkeys(
        "must need needs needed needing require requires required requiring necessary mandatory obligatory".split(),
        "must",
    ),
}
QUESTION_WORDS: Final = {
    "what": "what", "which": "what", "who": "who", "whom": "who", "whose": "who", "when": "when", "where": "where",
    "why": "why", "how": "how",
}  # fmt: skip
NEGATIONS: Final = """
not no never neither nor none nobody nothing nowhere cannot cant dont doesnt didnt isnt arent wasnt werent wont
shouldnt couldnt hasnt havent hadnt wouldnt mustnt aint without unable hardly barely scarcely rarely seldom non
""".split()
NEGATIVE_CONTENT: Final = {"never": "never", "nobody": "nobody", "hardly": "hardly", "barely": "hardly",
                           "scarcely": "hardly", "rarely": "rarely", "seldom": "rarely"}  # fmt: skip

# Between words: they name the part that follows, so that a part may move ("in Python, how ...") and its words may not.
PREPOSITIONS: Final = {
    **{word: word for word in "from than before after until since against by per without".split()},
    **{word: word for word in "off out up down over under above below behind beyond outside away back".split()},
    **{word: word for word in "during between among across around near like".split()},
    **dict.fromkeys("in on at within inside into onto upon".split(), "in"),
    **{word: "for" for word in "for toward towards to with about regarding on behalf".split() if word != "on"},
    "to": "to", "with": "with", "of": "of", "about": "about", "till": "until", "beneath": "below",
       "underneath": "below", "versus": "vs", "vs": "vs", "v": "vs",
}  # fmt: skip
# One text has it and the other has not: another question.
TELLING_PREPOSITIONS: Final = frozenset(
    "from than before after until since against by off out up down over under above below behind beyond outside "
    "away back like vs".split()
)
CONJUNCTIONS: Final = "and or plus & both either".split()
CLAUSES: Final = "if whenever while whether because but unless".split()

PERSONS: Final = {
    **dict.fromkeys("my our mine ours".split(), "my"),
    **dict.fromkeys("your yours".split(), "your"),
    **dict.fromkeys("myself ourselves yourself yourselves oneself".split(), "self"),
    **dict.fromkeys("he him his himself".split(), "he"),
    **dict.fromkeys("she her hers herself".split(), "she"),
}

NUMBER_WORDS: Final = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
    if word != "one"
} | {word: 10 * tens for tens, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
MULTIPLIERS: Final = {
    "hundred": 100, "hundreds": 100, "thousand": 1_000, "thousands": 1_000, "k": 1_000, "million": 10**6,
    "millions": 10**6, "mn": 10**6, "billion": 10**9, "billions": 10**9, "bn": 10**9, "trillion": 10**12,
    "lakh": 10**5, "lakhs": 10**5, "crore": 10**7, "crores": 10**7, "dozen": 12,
}  # fmt: skip
FRACTIONS: Final = {"half": "0.5", "quarter": "0.25", "twice": "2x", "thrice": "3x", "double": "2x", "triple": "3x",
                    "once": "1x"}  # fmt: skip
ORDINALS: Final = {
    word: f"#{value}"
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth".split(), 1
    )
}

MONTHS: Final = """
january jan
february feb
march
april apr
june jun
july jul
august aug
september sep sept
october oct
november nov
december dec
""".strip().splitlines()
WEEKDAYS: Final = """
monday mondays
tuesday tuesdays tue tues
wednesday wednesdays
thursday thursdays thu thurs
friday fridays
saturday saturdays
sunday sundays
weekday weekdays
weekend weekends
tomorrow
yesterday
tonight
christmas xmas
easter
halloween
thanksgiving
ramadan
diwali
summer
winter
autumn fall_season
spring_season springtime
morning mornings
afternoon afternoons
evening evenings
midnight
noon midday
""".strip().splitlines()

UNITS: Final = """
kg kilo kilos kilogram kilograms kilogramme kilogrammes kgs
gram grams gramme grammes g gm gms
mg milligram milligrams
mcg microgram micrograms µg
lb lbs pound pounds
oz ounce ounces
ton tons
tonne tonnes
stone stones
km kilometer kilometers kilometre kilometres kms
metre meter meters metres m
cm centimeter centimeters centimetre centimetres
mm millimeter millimeters millimetre millimetres
mile miles mi
yard yards yd
foot feet ft
inch inches
litre liter liters litres l
ml milliliter milliliters millilitre millilitres
gallon gallons gal
pint pints
quart quarts
cup cups
tablespoon tablespoons tbsp tbsps
teaspoon teaspoons tsp tsps
celsius centigrade °c
fahrenheit °f
kelvin
radian radians
millisecond milliseconds ms
seconds sec secs
minute minutes min mins
hour hours hr hrs
day days
night nights
week weeks
fortnight
month months
year years yr yrs
decade decades
century centuries
bits
byte bytes
kb kilobyte kilobytes
mb megabyte megabytes
gb gigabyte gigabytes gigs
tb terabyte terabytes
mbps
gbps
mph
kph kmh km/h kmph
knot knots
usd dollar dollars $ bucks
eur euro euros €
gbp sterling £ quid
inr rupee rupees ₹ rs
jpy yen ¥
cny yuan rmb renminbi
chf
cad
aud
peso pesos
won_currency krw
ruble rubles rouble roubles
btc bitcoin bitcoins
eth ethereum ether
cent cents
percent percentage % pct
calorie calories kcal cal
joule joules kj
watt watts w
kw kilowatt kilowatts
kwh
volt volts
amp amps ampere amperes
ohm ohms
hz hertz
ghz
mhz
acre acres
hectare hectares
psi
kpa
pascal pascals
bar_pressure bars
mol moles
mmhg
am_time a.m
pm_time p.m pm
px pixel pixels
rem_unit
em_unit
""".strip().splitlines()

# Asked for as a language or a format: another one is another answer, however close the texts are.
TARGETS: Final = """
english french german spanish italian portuguese dutch russian polish ukrainian czech slovak swedish norwegian danish
finnish greek turkish arabic hebrew hindi urdu bengali punjabi tamil telugu marathi gujarati kannada malayalam nepali
chinese mandarin cantonese japanese korean vietnamese thai indonesian malay tagalog filipino swahili latin hungarian
romanian bulgarian serbian croatian slovenian persian farsi irish welsh catalan basque esperanto icelandic estonian
latvian lithuanian zulu afrikaans sanskrit
python java javascript typescript c++ c# golang rust ruby php perl kotlin swift scala haskell elixir erlang clojure
lua r matlab julia dart fortran cobol bash powershell sql html css assembly solidity groovy ocaml f# lisp scheme
json yaml xml csv toml markdown latex pdf docx xlsx png jpeg jpg gif svg webp mp3 mp4 wav flac avi mov mkv html5
tsv parquet avro protobuf excel word powerpoint epub txt zip tar rar
haiku sonnet limerick poem essay bullet bullets table paragraph email tweet prose
""".split()

SYNONYMS: Final = """
delete remove erase removal deletion eliminate rid
cancel cancellation terminate unsubscribe cancelation
reset resetting
change modify alter modification edit
update upgrade
replace substitute swap replacement substitution
install installation setup
uninstall uninstallation
configure configuration
create build generate creation construct
start begin commence launch initiate
finish complete end conclude completion
buy purchase shop
sell vend
cost price expensive pricing
repair fix resolve solve troubleshoot mend
error problem issue trouble bug fault
find locate discover search seek
show display view see
choose select pick selection
check verify validate confirm verification validation
compute calculate determine calculation figure work_out
convert conversion
transform transformation
download downloading
upload uploading
increase raise boost grow heighten
reduce decrease lower lessen diminish cut reduction minimize
improve enhance improvement enhancement strengthen
maximum max highest most
minimum lowest least
quick fast rapid quickly rapidly speedy speed
fastest quickest
slow slowly
large big huge
largest biggest
small little tiny
smallest tiniest littlest
expensive_item costly pricey
cheap inexpensive affordable
cheapest
difference distinction differ different differentiate distinguish
compare comparison
similar alike similarity
important essential crucial vital significant key importance significance
dangerous hazardous risky
danger hazard risk
safe safely
cause reason trigger caus
effect impact consequence affect influence
result outcome
benefit advantage pro upside
drawback disadvantage con downside
purpose goal aim objective
function work operate
doctor physician
sick ill
illness disease sickness ailment
medicine medication drug medicament
symptom sign
treat treatment therapy cure heal remedy
vaccine vaccination jab inoculation vaccinate immunize immunization
pregnant pregnancy expecting
child kid children kids
baby infant newborn
teenager teen adolescent
woman women lady female
man men male gentleman
mother mom mum
father dad
couple spouse
job employment
occupation profession career
company firm business corporation enterprise
employee worker staff
use uses utilize utilise utilizing
take takes taking took taken
colleague coworker co-worker workmate teammate
summarize summary summarise summarization synopsis recap
origin originate
boss manager supervisor
salary pay wage remuneration
rent lease
house home
apartment flat
car automobile vehicle
bike bicycle
motorcycle motorbike
plane airplane aircraft aeroplane
movie movies film
picture photo image photograph pic
phone smartphone cellphone mobile telephone
computer pc
laptop notebook
mail email e-mail
website site webpage
internet web online
app application
program software
folder directory
file_name filename
password passcode passphrase pwd
username login_name userid
login signin log_in
logout signout
register signup registration enroll enrol enrollment
account profile
subscription membership subscribe
refund reimbursement reimburse
shipping delivery ship deliver shipment
package parcel
order purchase_order
invoice bill
receipt proof_of_purchase
return send_back
store shop_place
customer client
support assistance assist service
contact reach
connect connection link
disconnect unlink
enable activate activation
disable deactivate deactivation
allow permit let_do
ban prohibit forbid prohibition
legal lawful legally
illegal unlawful illegally
law regulation rule
country nation
city town
person people persons individual folk
method approach technique procedure process manner
advice tip suggestion guidance
guide tutorial instruction
information info detail
capital
state province
ocean sea
river stream
mountain mount
distance far
height tall
length
width wide breadth
depth deep
weight heavy weigh
age old
temperature hot_degree
population inhabitant
area surface
size
duration time_needed
write author compose wrote written writer pen
invent inventor invention devise
discoverer
paint painter
direct director
sing singer
found founder establish
president
begin_date
bear born birth birthdate birthday
die death dead pass_away died
marry wedding marriage married wed
film_star actor
learn study master
teach instruct
understand comprehend grasp
remember recall memorize
forget forgot forgotten lose lost misplace
speak talk
ask enquire inquire
reply respond response answer
meet encounter
eat consume consumption
drink
cook prepare preparation
bake
boil boiling
fry
freeze
thaw defrost
keep store_away preserve
recipe
ingredient
meal dish
food
healthy health wholesome nutritious
fat overweight
slim thin
exercise training_session
muscle
sleep slumber asleep
tired fatigued exhausted
happy glad
sad unhappy
angry mad furious
afraid scared frightened
beautiful pretty attractive gorgeous
smart clever intelligent
stupid dumb
rich wealthy
poor impoverished
strong powerful
weak feeble
hard difficult tough challenging difficulty
easy simple effortless easiest simplest
loud noisy
quiet silent
clean cleanse wash
dirty filthy
dry
wet
empty
full
nearby
movie_theatre cinema
garbage trash rubbish waste
attorney lawyer solicitor
tax taxation
loan borrow
invest investment
money cash fund
earn_interest
earn income
save saving
deposit
withdraw withdrawal
transfer send
debt
profit gain
loss
insurance insure cover
mortgage
retirement retire
stock share
bond
trip journey voyage
travel
holiday vacation
hotel accommodation lodging
ticket fare
luggage baggage suitcase
airport
visa
passport
road street
train railway
university college
school
student pupil
teacher instructor
exam test examination
homework assignment
degree
essay_text
book
word
sentence
paragraph_text
language
translate translation
list enumerate
array
dictionary dict
string
integer int
variable
loop iterate
method_name
function_name func
class
object
database db
query
table_db
server
container
branch
commit
merge merging
revert undo rollback
push
pull
clone
deploy deployment
debug
compile compilation
run execute execution
sort order_by sorting
filter
reverse invert
split
join concatenate combine concatenation concat
append add insert addition include
parse
print output
read
open
close shut
copy duplicate clone_copy
paste
rename
move relocate
encrypt encryption
decrypt decryption
authenticate authentication
authorize authorization
implement implementation
define_var declare
handle deal
catch
throw
test_code
optimize optimise optimization
crash
freeze_up hang
restart reboot
backup
restore recover recovery retrieve
sync synchronize synchronise synchronization
share_file
block
unblock
mute silence
notification alert
setting preference
screen monitor
keyboard
mouse
printer
battery
charge charging recharge
network
wifi wi-fi wireless
best good great top ideal recommended finest greatest optimal
worst
bad poor_quality awful
new recent
latest newest most_recent
first_time
old_fashioned
last final
next upcoming
previous prior
free complimentary gratis
available availability
popular famous well-known renowned
rare uncommon
common typical usual normal widespread frequent
often frequently regularly
always
sometimes occasionally
immediately instantly straightaway
soon
again
together
alone
only solely
all every each everything everyone everybody entire whole
several multiple
many much
enough sufficient
amount quantity number
average mean_value
total sum
half_part
part portion piece
world globe earth
war
government
election
vote
leader head
king
queen
human
animal
dog
cat
plant
tree
flower
water
air
fire
sun
moon
star
space
planet
energy
power
electricity
light_lamp
heat
cold
rain
snow
wind
weather
climate
color hue
red
sound noise
music
song
game
sport
team
player
win victory won
lose_game defeat
rule_of
history
science
theory
law_of
language_of
culture
religion
god
love
relationship
friend buddy pal
family
relative
neighbor
stranger
feeling emotion
thought_of
opinion view_of
idea concept notion
plan
fact
example instance sample
proof evidence
truth
lie
secret
apply application_for
requirement prerequisite
document paperwork
form
address
signature
date
time
deadline due
appointment
meeting
schedule timetable
invite
join_in
leave quit resign
fire_employee dismiss sack
hire recruit employ
interview
promotion
headache migraine_type
fever
cough
pain ache hurt painful sore
wound injury injure
bleed bleeding
blood
heart
lung
liver
kidney
stomach tummy belly abdomen
skin
hair
tooth teeth dental
eye
ear
bone
dose dosage
pill tablet
side_effect
surgery operation
hospital
nurse
diagnose diagnosis
prevent prevention avoid
infection
virus
bacteria
allergy allergic
diet
calorie_count
vitamin
protein
sugar
salt
oil
butter
egg
milk
cheese
bread
rice
meat
chicken
beef
fish
vegetable veggie veg
fruit
purpose_of
refrigerator fridge
oven
pan
knife
sofa couch
rubbish_bin
drapes curtain
soccer
autumn_time
gasoline petrol gas_fuel
elevator lift_us
pavement sidewalk
truck lorry
cookie cookies biscuit
tap faucet
queue line_up
zip zipcode postcode
pants trousers
eggplant aubergine
zucchini courgette
cilantro coriander
shrimp prawn
""".strip().splitlines()

# Not one group, but one may stand where the other stands: left over, one on each side, they are taken for the same.
NEIGHBOURS: Final = """
tallest highest | leave stop | permanent forever | quick fastest | change update | change switch | change replace
change adjust | find show | find check | connect pair | connect link | exit leave | keep last
keep store | make create | make bake | make cook | make write | make prepare | make draw | make brew | make send
make become | append put | append attach | compute workout | compute find | send move | send give | bigger larger
better improve | earn make | speak say | movie show | effect result | begin open | learn find | benefit good
improve increase | function purpose | return give | fix treat | delete clear | delete clean | cancel stop
close exit | close quit | symptom effect | cause lead | trip tour | buy order | store shop_place | choose use
choose decide | important necessary | delete drop | look see | show look | place location | place spot | flight fly
dead deceased | run start | run launch | begin run | extract get | view open | high rich | healthy good | cheap low
new different | join combine | city place | hard complicated | apply register | apply request | error fail
book reserve | size big | price fee | fee charge | cost charge | charge bill | cost rate | solve handle
create start | create open | create design | create develop | develop build | understand know | learn understand
learn know | help support | check test | check see | check find | translate say | pronounce say | treat manage
treat handle | relieve treat | relieve reduce | ease relieve | relieve stop | visit see | live stay | live reside
stay remain | win beat | finish end | erase clear | clean remove | delete wash | provide give | offer give
provide offer | job work | job role | company organization | company brand | country place | method way
formula equation | quick easy | boil cook | function behave | answer solve | display list | display print
output print | total number | form document | rule law | rule guideline | limit maximum | meal food
""".replace("\n", " | ")

# Left over, it changes nothing.
OPTIONAL: Final = """
money serve find main process method approach technique procedure manner person people individual folk term info
information detail explanation tutorial guide advice tip suggestion instruction guidance
""".split()

# A quality or a measure: it says the same before its noun, after it, or at the end.
FREE: Final = """
age height length width depth weight size speed temperature population capital currency climate weather price cost
symptom sideeffect benefit drawback requirement color due best good better bad worst safe legal illegal healthy easy
hard important dangerous common largest biggest smallest tallest longest shortest highest lowest fastest slowest
oldest youngest cheapest quick slow minimum maximum average near popular meaning purpose lifespan abbreviation
pronunciation distance duration
""".split()

# They take their two sides alike.
SYMMETRIC: Final = "difference distance compare similar".split()

# Left after the words in common are gone, one on each side: the question was turned round.
ANTONYMS: Final = """
increase reduce | enable disable | buy sell | open close | start finish | start stop | install uninstall | up down
login logout | on off | before after | older younger | old young | old new | more less | more fewer
maximum minimum | best worst | good bad | hot cold | warm cool | high low | higher lower | highest lowest
large small | larger smaller | largest smallest | long short | longer shorter | longest shortest | tall short
taller shorter | fast slow | quick slow | faster slower | fastest slowest | rich poor | strong weak
stronger weaker | safe dangerous | legal illegal | add delete | import export | upload download | push pull
encrypt decrypt | encode decode | compress decompress | lock unlock | block unblock | mute unmute | follow unfollow
gain lose | lose win | profit loss | benefit drawback | cheap cost | cheaper pricier | easy hard | easier harder
hard soft | love hate | like hate | accept reject | approve deny | allow ban | include exclude | send receive
lend borrow | deposit withdraw | give take | arrive depart | arrive leave | enter exit | entry exit | male female
man woman | boy girl | husband wife | mother father | brother sister | son daughter | king queen | first last
next previous | early late | earlier later | morning evening | day night | north south | east west
northern southern | eastern western | left right | top bottom | upper lower | front rear | inside outside
internal external | public private | positive negative | active passive | input output | client server
parent child | ascend descend | ascending descending | vertical horizontal | row column | horizontal vertical
wide narrow | thick thin | heavy light | heavier lighter | dark light | dry wet | full empty | always never
all none | all some | hire fire_employee | marry divorce | bear die | live die | alive dead | living dead
true false | right wrong | win lose_game | ask reply | acute chronic | benign malignant | bull bear_market
bullish bearish | credit debit | asset liability | fixed variable | gross net | long_term short_term
simple compound | plus minus | add subtract | multiply divide | synchronous asynchronous | static dynamic
mutable immutable | local remote | local global | forward backward | clockwise counterclockwise | connect disconnect
attach detach | assemble disassemble | expand collapse | show hide | visible hidden | freeze thaw | raw cook
sweet sour | sweet savory | increase decrease | rise fall | ascent descent | strengthen weaken
hypertension hypotension | hyperglycemia hypoglycemia | hyperthyroidism hypothyroidism | hyperthermia hypothermia
bradycardia tachycardia | cause cure | cause prevent | cause treat | save spend | teach learn | employer employee
landlord tenant | lender borrower | buyer seller | winner loser | teacher student | attack defend | war peace
guilty innocent | happy sad | majority minority
""".replace("\n", " | ")

# Longest match first. On the right, what it is read as (nothing: left out).
PHRASES: Final = """
what is the way to > how
used for > purpose
tell if > know
tell whether > know
tell when > know when
what is the best way to > how
what is the best way of > how
what is the easiest way to > how
what is the simplest way to > how
what is the right way to > how
what is the correct way to > how
what is the proper way to > how
what is a good way to > how
what is an easy way to > how
what is the recommended way to > how
what are the ways to > how
what are some ways to > how
what are the best ways to > how
what are good ways to > how
what are some good ways to > how
what are the steps to > how
what are the steps for > how
what steps do i need to take to > how
what steps should i take to > how
what steps do i take to > how
what steps are needed to > how
what steps are required to > how
what do i need to do to > how
what do i have to do to > how
what should i do to > how
what can i do to > how
what must i do to > how
what do you do to > how
what is the procedure to > how
what is a quick way to > how quick
what is the quickest way to > how fastest
what is the fastest way to > how fastest
what is the cheapest way to > how cheapest
what is the safest way to > how safest
what is the treatment for > how treat
what are the treatments for > how treat
what is the origin of > where origin
what is the procedure for > how
what is the process for > how
what is the process to > how
what is the process of > how
what is the method for > how
what is the method to > how
which way is best to > how
which steps > how
by what means > how
in what way > how
in which way > how
is there a way to > how
is there any way to > how
is there an easy way to > how
is there a simple way to > how
is there a good way to > how
is there a way i can > how
how would one go about > how
how do i go about > how
how do you go about > how
how can i go about > how
how should i go about > how
how to go about > how
how come > why
how does one > how
how might > how
steps to > how
steps for > how
way to > how
ways to > how
best way to > how
the best way to > how
instructions for > how
instructions to > how
instructions on >
guide to > how
a guide to > how
tips for > how
tips on > how
method for > how
procedure for > how
process for > how
i need to know how > how
i want to know how > how
i would like to know how > how
i need help > how
help me > how
i need to > how
i want to > how
i would like to > how
i'd like to > how
i am trying to > how
i'm trying to > how
i wish to > how
trying to > how
tell me how > how
let me know >
teach me how > how
show me how > how
can you explain >
could you explain >
can you tell me >
could you tell me >
would you tell me >
can you show me >
could you show me >
can you describe >
can you help me > how
could you help me > how
can someone explain >
can anyone explain >
can someone tell me >
can anyone tell me >
can you give me >
could you give me >
can you walk me through > how
could you walk me through > how
walk me through > how
would you mind telling me >
do you know >
do you happen to know >
does anyone know >
does anybody know >
do you have any idea >
any idea >
i want to know >
i need to know >
i would like to know >
i'd like to know >
i would love to know >
i'm curious >
i am curious >
i wonder >
i was wondering >
i am wondering >
i'm wondering >
what is meant by > what
what is the meaning of > what
what is the definition of > what
what do you mean by > what
meaning of > what
definition of > what
what exactly is > what
what is the reason that > why
what is the reason for > why
what is the reason why > why
what is the reason behind > why
what are the reasons for > why
what are the reasons that > why
what are the reasons behind > why
what is the reason > why
what makes > why
for what reason > why
for what reasons > why
for which reason > why
what causes > why
what is the cause of > why
what are the causes of > why
what leads to > why
what are causes of > why
reason for > why
reasons for > why
causes of > why
cause of > why
how many people live in > what population of
how many people are there in > what population of
how many inhabitants does > what population of
how many residents does > what population of
number of people living in > what population of
what is the number of > how_many
what number of > how_many
number of > how_many
the number of > how_many
how many > how_many
what quantity of > how_much
what amount of > how_much
what is the amount of > how_much
amount of > how_much
how much > how_much
how much does it cost to > what cost
how much do i have to pay to > what cost
how much does > how_much
how much do > how_much
how much is > how_much
how much money > how_much
how much time does it take > how_long
how much time do i need > how_long
how much time is needed > how_long
how much time is required > how_long
how much time should i > how_long
how much time > how_long
how long does it take > how_long
how long will it take > how_long
how long would it take > how_long
how long do i need to > how_long
how long > how_long
what is the duration of > how_long
for how long > how_long
what length of time > how_long
how many hours does it take > how_long hour
how many minutes does it take > how_long minute
how many days does it take > how_long day
how many times > how_often
how frequently > how_often
how often > how_often
how regularly > how_often
how old > what age
how tall > what height
how high > what height
how far > what distance
how deep > what depth
how wide > what width
how big > what size
how large > what size
how heavy > what weight
how fast > what speed
how quickly > what speed
how hot > what temperature
how good > how good
how difficult > how hard
at what age > what age
at what time > when
at which time > when
at what point > when
what time > when
what date > when
on what date > when
on which date > when
on what day > when
which day > when
what day > when
what year > when_year
in what year > when_year
in which year > when_year
which year > when_year
during which year > when_year
what month > when_month
in which month > when_month
which month > when_month
in what month > when_month
when is the best time to > when best
what is the best time to > when best
what is the due date for > when due
what is the due date of > when due
what place > where
which place > where
in what place > where
in which place > where
at which place > where
what location > where
where can i find > where
where can i see > where
where do i see > where
where can i view > where
where can i get > where
where do i find > where
where would i find > where
where is the location of > where
in which city > where city
in what city > where city
in which country > where country
in what country > where country
in which part of > where
what person > who
which person > who
who is the person who > who
who was the person who > who
who is the author of > who write
who was the author of > who write
who is the writer of > who write
who was the inventor of > who invent
who is the inventor of > who invent
who is the founder of > who found
who was the founder of > who found
who was the director of > who direct
who is the director of > who direct
by whom > who
have to > must
has to > must
had to > must
has got to > must
supposed to > should
a good idea to > should
is it ok to > yesno can
is it okay to > yesno can
is it fine to > yesno can
is it possible to > yesno can
is it possible for me to > yesno can
is it allowed to > yesno can
am i allowed to > yesno can
am i able to > yesno can
am i permitted to > yesno can
is it permitted to > yesno can
do i need to > yesno must
do i have to > yesno must
do you have to > yesno must
do you need to > yesno must
is it necessary to > yesno must
is it required to > yesno must
is it mandatory to > yesno must
is it advisable to > yesno should
is it a good idea to > yesno should
should i > yesno should
would it be > yesno
get rid of > delete
getting rid of > delete
log in > login
log into > login
log on > login
logging in > login
logging into > login
sign in > login
sign into > login
signing in > login
signing into > login
log out > logout
logging out > logout
log off > logout
sign out > logout
sign off > logout
sign up > register
signing up > register
create an account > register
open an account > register account
set up > setup
setting up > setup
turn on > enable
turning on > enable
switch on > enable
turn off > disable
turning off > disable
switch off > disable
switching off > disable
shut down > shutdown
shut off > disable
opt out > optout
opt in > optin
back up > backup
backing up > backup
find out > find
finding out > find
look for > find
looking for > find
search for > find
searching for > find
look up > find
figure out > compute
work out > workout
working out > workout
roll back > revert
rolling back > revert
fill out > fill
fill in > fill
carry out > perform
give up > quit
pick up > collect
come up with > create
deal with > handle
cope with > handle
cut down on > reduce
speed up > accelerate
slow down > decelerate
throw away > discard
throw out > discard
put off > postpone
call off > cancel
set off > trigger_off
come from > origin
comes from > origin
came from > origin
come back > return
give back > return
send back > return
take off > takeoff
pay off > repay
pay back > repay
wake up > awaken
grow up > growup
break down > breakdown
break up > breakup
run out of > runout
in order to >
so that >
so as to >
as well as > and
such as >
a lot of > many
lots of > many
plenty of > many
as soon as possible > soon
at the same time > simultaneous
at once > simultaneous
all at once > simultaneous
simultaneously > simultaneous
at the moment >
right now >
these days >
at present >
in general >
in the world > world
on earth > world
all over the world > world
in history > history
of all time > ever_time
for the first time > #1 time
for example >
instead of > instead
rather than > instead
apart from > except
other than > except
aside from > except
because of > due
due to > due
owing to > due
according to > according
in addition to > and
no longer > not anymore
not any more > not anymore
not anymore > not anymore
any longer > anymore
fails to > not
fail to > not
failed to > not
failing to > not
refuses to > not
refuse to > not
unable to > not can
not able to > not can
not possible > not can
impossible to > not can
not allowed > not allowed_to
not using > without
not having > without
free of charge > free
for free > free
at no cost > free
without paying > free
cell phone > phone
mobile phone > phone
mobile number > phone number
phone number > phone number
web site > website
web page > website
e mail > mail
e-mail > mail
email address > mail address
user name > username
pass word > password
credit card > creditcard
debit card > debitcard
data base > database
wi fi > wifi
artificial intelligence > ai
machine learning > ml
natural language processing > nlp
large language model > llm
large language models > llm
united states of america > usa
united states > usa
the us > usa
the u.s > usa
in us > in usa
u.s.a > usa
u.s > usa
america > usa
united kingdom > uk
u.k > uk
great britain > uk
european union > eu
united nations > un_org
new york city > newyork
new york > newyork
nyc > newyork
los angeles > losangeles
san francisco > sanfrancisco
world war two > ww2
world war ii > ww2
world war 2 > ww2
second world war > ww2
wwii > ww2
world war one > ww1
world war i > ww1
world war 1 > ww1
first world war > ww1
wwi > ww1
high blood pressure > hypertension
low blood pressure > hypotension
heart attack > myocardial_infarction
the flu > influenza
flu > influenza
common cold > cold_illness
a cold > cold_illness
type two diabetes > type 2 diabetes
blood sugar > glucose_level
blood glucose > glucose_level
side effects > sideeffect
side effect > sideeffect
adverse effects > sideeffect
adverse reactions > sideeffect
unwanted effects > sideeffect
lose weight > weightloss
losing weight > weightloss
weight loss > weightloss
gain weight > weightgain
put on weight > weightgain
weight gain > weightgain
fall asleep > sleep
children's > child
next to > near
close to > near
close by > near
age of > age of
vs. > vs
compared to > vs
compared with > vs
as opposed to > vs
years old > year old
year old > year old
pros and cons > benefit drawback
advantages and disadvantages > benefit drawback
benefits and drawbacks > benefit drawback
upsides and downsides > benefit drawback
command line > terminal
source code > code
pull request > pullrequest
merge request > pullrequest
square root > squareroot
leave out > omit
most important > important
most effective > best
most popular > popular
most common > common
capital city > capital
national currency > currency
""".strip().splitlines()

# The same, but only where a sentence begins.
OPENINGS: Final = """
tell me >
tell us >
explain to me >
explain >
describe >
define >
give me >
show me >
teach me >
help me understand >
name >
calculate >
compute >
suggest >
recommend >
can you recommend >
could you recommend >
can you suggest >
could you suggest >
find >
help me find >
provide >
provide me with >
give >
list >
write down >
talk about >
tell me about >
information about >
information on >
details on >
details about >
explanation of >
give me an explanation of >
give an explanation of >
briefly explain >
briefly describe >
in simple terms explain >
elaborate on >
discuss >
clarify >
share >
state >
i have a question >
""".strip().splitlines()

# Inflections that no rule gives.
IRREGULAR: Final = """
child children
man men
woman women
foot feet
tooth teeth
mouse mice
goose geese
person people
life lives
knife knives
wife wives
leaf leaves
buy bought
sell sold
write wrote written
bite bit bitten biting
eat ate eaten
drink drank drunk
drive drove driven
see saw seen
make made makes making
find found_past
speak spoke spoken
break broke broken
choose chose chosen
freeze froze frozen
steal stole stolen
forget forgot forgotten
lose lost losing
win won winning
send sent
spend spent
build built
keep kept
sleep slept
teach taught
catch caught
bring brought
think thinking
run ran running
begin began begun
sing sang sung
swim swam swum
grow grew grown
know knew knowing
throw threw thrown
fly flew flown
draw drew drawn
give gave given
come came coming
leave left_past leaving
feel felt
meet met
pay paid
say said
tell told
hold held
stand stood
understand understood
fall fell fallen
rise rose risen
wear wore worn
die dying died dies
lie lying lied
tie tying tied
hurt hurting
cut cutting
put putting
set setting_verb
hit hitting
let letting
fight fought
shoot shot
lead led
read reading
hear heard
sit sat
stick stuck
strike struck
hang hung
ride rode ridden
wake woke woken
shrink shrank shrunk
tear tore torn
analysis analyses
criterion criteria
virus viruses
bus buses
tax taxes
box boxes
index indexes indices
matrix matrices
vertex vertices
appendix appendices
datum data
medium media
status statuses
focus focusing focused
cancel cancelled cancelling canceled canceling cancels
travel travelled travelling traveled traveling travels
label labelled labelling labeled labeling labels
model modelled modelling modeled modeling models
open opened opening opens
edit edited editing edits
exit exited exiting exits
visit visited visiting visits
edit edited editing
play played playing plays
pay paying pays
buy buying buys
sort sorted sorting sorts
program programs programme programmes programming
center centre centers centres
theater theatre theaters theatres
fiber fibre
gray grey
tire tyre tires tyres
check cheque
aluminum aluminium
defense defence
license licence
catalog catalogue
dialog dialogue
jewelry jewellery
mom mum
pajamas pyjamas
skeptical sceptical
donut doughnut
yogurt yoghurt
ax axe
cook cooking cooked cooks
store storing stored stores
share sharing shared shares
add adding added adds
dye dyeing dyed
""".strip().splitlines()
