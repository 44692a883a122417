"""The words the embedded model is taught with: everyday English, and made-up words from syllables."""

from __future__ import annotations

import random

_WORDS = """
acorn afternoon almond alpaca amber anchor animal anvil apple april apron arch arrow artist ash aspen attic autumn
avocado badge bagel baker balcony balloon bamboo banana banjo barley barn barrel basil basket bay beach bead beaver
beetle bell bench berry bicycle birch bird biscuit blanket blossom boat bonfire bonnet book boot bottle boulder
bracelet branch bread breeze brick bridge bronze brook broom brother bubble bucket buckle buffalo burrito burrow
butter button cabbage cabin cable cactus camel camera camp candle candy canoe canvas canyon cap cape caramel caravan
carpet carrot cart castle cat cave cedar cellar cello cereal chain chair chalk channel chapel charm cheese cherry
chess chestnut chime chimney cider cinema cinnamon circle city clarinet clay cliff clock cloth cloud clover coal coast
coat cobble cocoa coffee coin comb comet compass copper coral corn corner cot cottage cotton cousin crab cradle crane
crate cream creek cricket crimson crow crown crystal cup curtain cushion dairy daisy dance dawn deer desert diamond
dinner dish dock dolphin domino donkey door dough dove dragon drawer dream drum duck dumpling dune dust eagle earth
easel east echo eggplant elbow elm ember emerald engine envelope evening fabric falcon family farmer feast feather
felt fence fern ferry fiddle field fig finch finger fire fjord flag flame flamingo flannel flask flint flour flower
flute fog forest fork fountain fox friend frog frost fruit furnace galaxy garden garlic gate ginger ginseng glacier
glass glove goat goblet gold goose grain granite grape grass gravel grove guitar gull hammer hammock harbor harp
harvest hat haven hazel heather hedge heron hill hive holiday honey hood horizon horse hotel house hut ice icicle
igloo ink inn iris iron island ivory ivy jacket jam jar jasmine jelly jewel journey jug jungle juniper kayak kernel
kettle key kitchen kite kitten knot koala lace ladder lagoon lake lamp lane lantern lavender lawn leaf leather ledge
lemon lemur lentil letter lichen light lilac lily lime linen lion llama lobster lodge loom lumber lute lynx machine
magnet mango mantle maple marble market marsh maze meadow medal melon mentor metal midnight milk mill mint mirror
mitten mole monday moon moose morning moss motor mountain mule mushroom music mustard napkin nectar needle nest night
noodle nook north notebook nut nutmeg oak oar oasis oatmeal oats ocean olive onion opal orange orbit orca orchard
orchid organ otter oven owl ox oyster paddle paint palace pan panda paper parade park parrot parsley pasture path
patio peach peak peanut pear pearl pebble pelican pencil penguin pepper piano picnic pie pier pigeon pillow pilot pine
planet plate plaza plow plum pocket poem polar pollen pond pony poplar poppy porch pot potato pottery prairie pumpkin
puppet puzzle quail quarry quartz queen quill quilt rabbit radio raft rail rain ranch raspberry raven reed ribbon rice
ridge ring river road robin rocket roof rooster root rope rose rosemary rowboat ruby rye saddle saffron sail salmon
salt sand sandal sapling satin saucer scale scarf school sea seal season seed sesame shadow shed sheep shelf shell
shepherd shore silk silver sister skate sky sled sleigh slipper slope smoke snail snow soap sofa song soup south spade
spark sparrow spice spider spinach spire sponge spoon spring spruce squash stable stairs star station steam steeple
stone stool storm story stove straw stream street sugar summer summit sun sunrise sunset swallow swan syrup table
tailor tambourine tar tea teapot temple tent thistle thread thunder ticket tide tiger tile timber tin toad toast
tomato torch tower town toy trail train travel treasure tree trellis truck trumpet tub tuba tulip tundra tunic tunnel
turnip turtle twig twine umbrella uncle valley vanilla vase velvet vest village vine vineyard violet violin wafer
waffle wagon walnut walrus water wave wax weather weaver well west whale wheat wheel whistle wick willow wind window
wing winter wolf wood wool wren yak yard yarn yogurt zebra zenith zinnia
"""

#: Every word once, in the order above. Deterministic: the build and its data sets hang on this order.
WORDS: tuple[str, ...] = tuple(dict.fromkeys(_WORDS.split()))

_ONSETS = (
    "", "b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "pl", "q", "r", "s",
    "sh", "sl", "st", "t", "th", "tr", "v", "w", "x", "y", "z",
)  # fmt: skip
_VOWELS = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "u", "ai", "ea", "ee", "oo", "ou")
_CODAS = ("", "", "", "b", "ck", "d", "g", "l", "m", "n", "nd", "p", "r", "s", "ss", "st", "t", "x", "ng")


def made_up(rng: random.Random) -> str:
    """A word nobody has seen, of two to eleven letters: it keeps copying from becoming memory."""
    while True:
        word = "".join(
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + (rng.choice(_CODAS) if rng.random() < 0.6 else "")
            for _ in range(rng.choice((1, 2, 2, 3)))
        )
        if 2 <= len(word) <= 11:
            return word
